"""Two sources beside each other: which lines are marked, and that code stays text."""
from numba import njit
from page_reader import Reader

from npefficient.display.sources import CONTEXT, TINTS, SideBySide, rows_of, shortened, text_of


def first(x):
    return x < 1 & 2


def second(x):
    return x < 3 & 2


def marked(rows):
    return [row for row in rows if row[0] is None or row[0][0] != " "]


def test_lines_that_differ_are_marked():
    assert list(rows_of(["a", "b", "c"], ["a", "B", "c", "d"])) == [
        ((" ", "a"), (" ", "a")), (("-", "b"), ("+", "B")), ((" ", "c"), (" ", "c")), (None, ("+", "d"))]
    assert list(rows_of(["a", "b"], [])) == [(("-", "a"), None), (("-", "b"), None)]
    assert not marked(rows_of(["a"], ["a"]))


def test_a_long_stretch_that_is_the_same_is_shortened():
    lines = [str(i) for i in range(20)]
    rows = list(shortened(list(rows_of(lines, [*lines[:10], "new", *lines[10:]]))))
    assert [row[1][1] for row in rows] == [f".. {10 - CONTEXT} lines as before ..", *lines[10 - CONTEXT : 10], "new",
                                           *lines[10 : 10 + CONTEXT], f".. {10 - CONTEXT} lines as before .."]
    assert [row[1][1] for row in shortened(list(rows_of(lines[:2], lines[:2])))] == [".. 2 lines as before .."]
    one = list(shortened(list(rows_of([*lines[:CONTEXT], "x", "y"], [*lines[:CONTEXT], "x", "z"]))))
    assert one[0][0][1] == ".. 1 line as before .."


def test_the_table_has_both_and_code_stays_text():
    shown = SideBySide((first,), (second,), ("<one>", "two"))
    read = Reader(shown._repr_html_())
    assert "<one>" in read.text and "- return x < 1 & 2" in read.text and "+ return x < 3 & 2" in read.text
    assert len(read.all("th")) == 2 and not read.all("one")
    tinted = [cell["style"].rpartition("background:")[2] for cell in read.all("td")]
    assert tinted == [TINTS["-"], TINTS["+"]] * 2
    assert repr(shown) == "<one> -> two: 2 lines out, 2 lines in"


def test_numba_s_flags_are_shown():
    assert text_of((njit(first),)).startswith("@njit\ndef first")
    assert text_of((njit(fastmath={"contract"})(first),)).startswith('@njit(fastmath={"contract"})\ndef first')
    flags = njit(fastmath={"nsz", "reassoc", "contract"})(first)
    assert text_of((flags,)).startswith('@njit(fastmath={"contract", "nsz", "reassoc"})\ndef first')
    assert text_of((njit(fastmath=True)(first),)).startswith("@njit(fastmath=True)\ndef first")
    assert text_of((first, second)) == "def first(x):\n    return x < 1 & 2\n\ndef second(x):\n    return x < 3 & 2"


@njit
def decorated(x):
    return x


def test_a_decorator_that_is_there_is_not_repeated():
    assert text_of((decorated,)) == "@njit\ndef decorated(x):\n    return x"
