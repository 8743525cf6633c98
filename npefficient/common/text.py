"""Text from outside (names, labels, system messages), made safe to show: one line, no control characters, short."""
import re

ERROR = 4000  # characters of an error, at most
NAME = 160  # characters of a name or a label that are shown, at most

# What a terminal obeys (C0 except the tab, DEL, C1), what ends or reverses a line, and what UTF-8 can't hold:
# Unicode 16, chapter 23.2, and UAX 9, table 4. A lone surrogate is a byte of a file name that is not UTF-8 (PEP 383).
_ESCAPED = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_PLAIN = (type(None), bool, int, float)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # OWASP, "CSV injection"


def plain(text) -> str:
    """The text on one line, with what a terminal would obey and what UTF-8 can't hold written as escapes; tabs stay."""
    return _ESCAPED.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def short(text, limit: int = NAME) -> str:
    """`plain`, with the middle left out where it is longer than `limit` characters; idempotent."""
    return _cut(plain(_cut(str(text), limit)), limit)


def _cut(text: str, limit: int) -> str:
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half - 2]} … {text[1 - half:]}"


def quoted(value, limit: int = 80) -> str:
    """Quote a value that a file supplied; containers are named, never printed: nested ones print exponentially long."""
    if isinstance(value, (str, bytes)):
        return repr(value) if len(value) <= limit else f"{value[:limit]!r}... ({len(value)} long)"
    if type(value) is int and value.bit_length() > 4 * limit:
        return f"a whole number of {value.bit_length()} bits"  # Python refuses to write very long ones
    if isinstance(value, _PLAIN):
        text = repr(value)
        return text if len(text) <= limit else f"{text[:limit]}..."
    name = type(value).__name__.lower()
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def shown(value, limit: int = 60) -> str:
    """The `repr` of an argument, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        text = f"of type {type(value).__name__}"
    return text if len(text) <= limit else f"{text[:limit - 3]}..."


def listed(names, limit: int = 8) -> str:
    """Quote the first few of many names."""
    names = list(names)
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(quoted(name) for name in names[:limit]) + rest


def meant(word: str, known) -> str:
    """Such as " (did you mean 'lite0'?)"; nothing where no known name is near."""
    import difflib  # takes longer to import than the rest of this file

    near = difflib.get_close_matches(word[:NAME], known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def counted(count: int, what: str) -> str:
    """Such as "1 thread", "1,000 classes" and "20,000 photos"."""
    return f"{count:,} {what}" + ("" if count == 1 else "es" if what.endswith("s") else "s")


def numbers(values) -> str:
    """Such as "0.485 0.456 0.406"."""
    return " ".join(f"{value:g}" for value in values)


def cell(text: str) -> str:
    """Text for a CSV file, with `'` before what a spreadsheet would take as a formula; `from_cell` undoes it."""
    return f"'{text}" if _is_formula(text) else text


def from_cell(text: str) -> str:
    """The text that `cell` was given."""
    return text[1:] if text.startswith("'") and _is_formula(text) else text


def _is_formula(text: str) -> bool:
    return text.lstrip("'").startswith(_FORMULA)
