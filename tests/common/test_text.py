"""Text in messages is harmless, short, and on one line."""
import re

import pytest
from explanations import HOSTILE
from hypothesis import given
from hypothesis import strategies as st

from npefficient import errors
from npefficient.common.text import ERROR, NAME, cell, counted, from_cell, listed, meant, plain, quoted, short

anything = st.text(st.characters(codec=None))


@pytest.mark.parametrize("text, expected", [
    ("a b/é 日本🐶.jpg", "a b/é 日本🐶.jpg"), ("a\tb", "a\tb"), ("", ""), ("a\nb", "a\\nb"), ("a\r\0b", "a\\r\\x00b"),
    ("\x1b[31m", "\\x1b[31m"), ("\x7f", "\\x7f"), ("\x85\x9b", "\\x85\\x9b"), ("\u2028\u2029", "\\u2028\\u2029"),
    ("\udce9t.jpg", "\\udce9t.jpg"), ("a\u202egnp.exe", "a\\u202egnp.exe"), ("\u2066a\u2069", "\\u2066a\\u2069"),
    ("\u200e\u200f\u061c", "\\u200e\\u200f\\u061c"), ("می\u200cخواهم", "می\u200cخواهم"), ("👩\u200d🔬", "👩\u200d🔬"),
], ids=ascii)
def test_plain(text, expected):
    assert plain(text) == expected and plain(expected) == expected


@given(anything)
def test_plain_is_always_one_line_of_utf8(text):
    line = plain(text)
    line.encode()
    assert line == "" or line.splitlines() == [line]
    assert not re.search("[\x00-\x08\x0a-\x1f\x7f-\x9f]", line)


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_short_is_short_and_plain(name):
    got = short(name)
    assert len(got) <= NAME and got == plain(got) == short(got)


def test_short_leaves_out_the_middle():
    assert short("zero.png") == "zero.png" and short("a" * NAME) == "a" * NAME
    assert short("a" * 100 + "b" * 100) == "a" * 78 + " … " + "b" * 79
    assert len(short("\x1b" * 1000)) <= NAME


def test_quoted_is_short_whatever_it_is_given():
    nested = ("x",)
    for _ in range(60):
        nested = (nested, nested)
    assert quoted(nested) == "a tuple"
    assert quoted("a" * 1000) == repr("a" * 80) + "... (1000 long)"
    assert quoted(10**50) == str(10**50) and quoted(1 << 16000) == "a whole number of 16001 bits"
    assert quoted("a\nb") == r"'a\nb'" and quoted(None) == "None" and quoted([1]) == "a list"


def test_listed_names_some():
    assert listed("abc") == "'a', 'b', 'c'" and listed("abcd", 2) == "'a', 'b' and 2 more"


@pytest.mark.parametrize("count, what, expected", [
    (1, "thread", "1 thread"), (0, "photo", "0 photos"), (999, "photo", "999 photos"), (1000, "photo", "1,000 photos"),
    (20_000, "photo", "20,000 photos"), (1, "class", "1 class"),
    (3, "class", "3 classes")])
def test_counted(count, what, expected):
    assert counted(count, what) == expected


@pytest.mark.parametrize("word, expected", [("lite_0", " (did you mean 'lite0'?)"), ("resnet50", ""), ("", ""),
                                            ("x" * 10**6, "")], ids=["near", "far", "empty", "long"])
def test_meant(word, expected):
    assert meant(word, ["lite0", "lite4"]) == expected


@pytest.mark.parametrize("text, expected", [
    ("=1+1", "'=1+1"), ("+1.png", "'+1.png"), ("-1.png", "'-1.png"), ("@home", "'@home"), ("\tx", "'\tx"),
    ("'=x", "''=x"), ("'x'", "'x'"), ("a=1", "a=1"), ("", ""), ("dog.jpg", "dog.jpg")], ids=ascii)
def test_cell_is_no_formula(text, expected):
    assert cell(text) == expected and from_cell(expected) == text


@given(st.text("'=+-@\t\rab"))
def test_cell_comes_back(text):
    assert not cell(text).startswith(("=", "+", "-", "@", "\t", "\r")) and from_cell(cell(text)) == text


@pytest.mark.parametrize("kind", [errors.NpefficientError, errors.ArgumentError, errors.WeightsError,
                                  errors.ImageError, errors.DownloadError], ids=lambda kind: kind.__name__)
def test_every_error_is_one_short_line(kind):
    """Wherever it is raised, and whatever it quotes."""
    assert str(kind("photo 'é.png': broken")) == "photo 'é.png': broken"
    assert str(kind("a\x1b]0;title\x07\nb")) == "a\\x1b]0;title\\x07\\nb"
    long = kind("begin " + "x" * 15_000_000 + " end")
    assert str(long).startswith("begin ") and str(long).endswith(" end") and len(str(long)) <= ERROR
    assert str(kind(str(long))) == str(long) and long.args == (str(long),)
