"""The source of two functions side by side, the lines that differ marked, for a notebook.

Styles are inline and work on light and dark pages: text keeps the page's colour, and marked lines are tinted. A sign in
front of each marked line says the same without colours.
"""
import difflib
import inspect
from collections.abc import Callable, Iterator, Sequence
from html import escape

CONTEXT = 3  # unchanged lines shown before and after those that differ
TINTS = {"-": "rgba(217,95,2,0.22)", "+": "rgba(42,157,92,0.25)", " ": "transparent"}
TABLE = "border-collapse:collapse;width:100%;table-layout:fixed;font-size:12px"
CELL = ("text-align:left;vertical-align:top;padding:0 0.5em 0 2.6em;text-indent:-2.1em;font-family:monospace;"
        "white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.35")
HEAD = "text-align:left;padding:0.3em 0.5em;border-bottom:1px solid rgba(128,128,128,0.6)"

Line = tuple[str, str]  # its sign, "-", "+" or " ", and its text
Row = tuple[Line | None, Line | None]  # left and right; None where there is no line


class SideBySide:
    """Two sources beside each other; Jupyter shows a table."""

    def __init__(self, before: Sequence[Callable], after: Sequence[Callable], titles: tuple[str, str]) -> None:
        """Functions, compiled by Numba or not, on the left and on the right, and the headings of both columns."""
        self.titles = titles
        self.rows = list(rows_of(*(text_of(functions).splitlines() for functions in (before, after))))

    def __repr__(self) -> str:
        left, right = (sum(row[side] is not None and row[side][0] != " " for row in self.rows) for side in (0, 1))
        return f"{' -> '.join(self.titles)}: {left} lines out, {right} lines in"

    def _repr_html_(self) -> str:
        heads = "".join(f'<th style="{HEAD}">{escape(title)}</th>' for title in self.titles)
        body = "".join(f"<tr>{_cell(left)}{_cell(right)}</tr>" for left, right in shortened(self.rows))
        return (f'<table style="{TABLE}"><thead><tr style="background:transparent">{heads}</tr></thead>'
                f"<tbody>{body}</tbody></table>")


def text_of(functions: Sequence[Callable]) -> str:
    """The source of functions, an empty line between them; Numba's flags are written above those it compiled by a
    call."""
    return "\n\n".join(_text(function) for function in functions)


def _text(function: Callable) -> str:
    text = inspect.getsource(getattr(function, "py_func", function)).rstrip()
    if not hasattr(function, "py_func") or text.startswith("@"):
        return text
    flags = function.targetoptions.get("fastmath")
    if not flags:
        return f"@njit\n{text}"
    named = "True" if flags is True else "{" + ", ".join(f'"{flag}"' for flag in sorted(flags)) + "}"  # as in a source
    return f"@njit(fastmath={named})\n{text}"


def rows_of(before: Sequence[str], after: Sequence[str]) -> Iterator[Row]:
    """Lines that are the same, or stand for each other, in one row."""
    for what, i, j, k, m in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        signs = (" ", " ") if what == "equal" else ("-", "+")
        for n in range(max(j - i, m - k)):
            yield ((signs[0], before[i + n]) if i + n < j else None, (signs[1], after[k + n]) if k + n < m else None)


def shortened(rows: Sequence[Row]) -> Iterator[Row]:
    """The rows near those that differ, and one row for each longer stretch between them."""
    changed = [i for i, (left, right) in enumerate(rows) if left is None or right is None or left[0] != " "]
    near = {i for place in changed for i in range(place - CONTEXT, place + CONTEXT + 1)}
    skipped = 0
    for i, row in enumerate(rows):
        if i not in near:
            skipped += 1
        if skipped and (i in near or i == len(rows) - 1):
            text = f".. {skipped} {'line' if skipped == 1 else 'lines'} as before .."
            yield (" ", text), (" ", text)
            skipped = 0
        if i in near:
            yield row


def _cell(line: Line | None) -> str:
    if line is None:
        return f'<td style="{CELL}"></td>'
    sign, text = line
    return f'<td style="{CELL};background:{TINTS[sign]}">{escape(f"{sign} {text}")}</td>'
