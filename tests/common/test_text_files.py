"""Text files that people write: every encoding and line ending is read alike; what is no text is one clear error."""
import io
import os
import re

import pytest

from npefficient.common import text_files
from npefficient.common.text_files import LINE, each_path, read_labels, read_lines
from npefficient.errors import ArgumentError

TEXT = "cat\nZürich\n\nx y\n"
LINES = ["cat", "Zürich", "", "x y"]
FORMS = {
    "unix": TEXT.encode(), "windows": TEXT.replace("\n", "\r\n").encode(), "old_mac": TEXT.replace("\n", "\r").encode(),
    "byte_order_mark": TEXT.encode("utf-8-sig"), "utf16": TEXT.encode("utf-16"), "no_last_end": TEXT[:-1].encode(),
    "utf16_big_endian": b"\xfe\xff" + TEXT.replace("\n", "\r\n").encode("utf-16-be"),
}


def paths(data, most=None):
    return list(each_path(io.BytesIO(data), "list 'a.txt'", most))


@pytest.mark.parametrize("data", FORMS.values(), ids=FORMS)
def test_read_lines_of_every_form(tmp_path, data):
    (tmp_path / "a.txt").write_bytes(data)
    assert read_lines(tmp_path / "a.txt", "labels file", 999) == LINES


@pytest.mark.parametrize("data", [form for name, form in FORMS.items() if name != "old_mac"],
                         ids=[name for name in FORMS if name != "old_mac"])
def test_each_path_of_every_form(data):
    assert paths(data) == ["cat", "Zürich", "x y"]


def test_read_lines_keeps_other_separators():
    """`str.splitlines` would split at these."""
    assert text_files._text("a\x0bb\x0cc\x1cd\x85e\u2028f".encode(), "a.txt") == ["a\x0bb\x0cc\x1cd\x85e\u2028f"]


@pytest.mark.parametrize("content, text", [
    (b"caf\xe9", "it can't be read as text in UTF-8 .*; save it as UTF-8"), (b"\xff\xfea", "it can't be read as text"),
    (b"x" * 100, "it has more than 99 bytes"),
    (None, r"it can't be read \(No such file or directory\); check the path"),
], ids=["latin1", "half_a_character", "long", "missing"])
def test_read_lines_refuses(tmp_path, content, text):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ArgumentError, match=f"labels file '{tmp_path}/a.txt': {text}"):
        read_lines(tmp_path / "a.txt", "labels file", 99)


@pytest.mark.parametrize("text, expected", [
    ("n01440764\ttench, Tinca tinca\nn01443537\tgoldfish\n", ["tench, Tinca tinca", "goldfish"]),
    ("n01440764 tench\nn01443537 goldfish\n", ["tench", "goldfish"]),
    ("n01440764\nn01443537\n", ["n01440764", "n01443537"]),
    ("n01440764 tench\ngoldfish\n", ["n01440764 tench", "goldfish"])], ids=["tab", "space", "alone", "one"])
def test_labels_after_synset_ids(tmp_path, text, expected):
    (tmp_path / "names.txt").write_text(text)
    assert read_labels(tmp_path / "names.txt", 2) == expected


def test_labels_with_a_tab_are_refused(tmp_path):
    (tmp_path / "names.txt").write_text("cat\n1\tdog\n")
    with pytest.raises(ArgumentError, match=r"line 2 has a tab, '1\\tdog'; write the name of the class alone"):
        read_labels(tmp_path / "names.txt", 2)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("kind, text", [("pipe", "it is a pipe, no file"), ("device", "it is a device, no file"),
                                        ("folder", "Is a directory"), ("nul", "embedded null byte")])
def test_read_lines_takes_regular_files_only(tmp_path, kind, text):
    path = {"device": "/dev/zero", "folder": str(tmp_path), "nul": "a\0b"}.get(kind, str(tmp_path / "pipe"))
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(ArgumentError, match=re.escape(f"labels file {path!r}: it can't be read ({text}); check")):
        read_lines(path, "labels file", 99)


@pytest.mark.parametrize("text, classes, expected", [
    ("cat\ndog\n", 2, ["cat", "dog"]), (" cat \ndog\n\n \n", 2, ["cat", "dog"]), ("cat\n\ndog", 3, ["cat", "", "dog"])],
    ids=["plain", "empty_last_lines", "empty_between"])
def test_read_labels(tmp_path, text, classes, expected):
    (tmp_path / "a.txt").write_text(text)
    assert read_labels(tmp_path / "a.txt", classes) == expected


@pytest.mark.parametrize("text, classes, message", [
    ("cat\ndog\n", 3, "2 labels for 3 classes; write the name of a class on each line, in their order$"),
    ("name\ncat\ndog\n", 2, "3 labels for 2 classes; .* in their order; is the first line, 'name', a heading[?]$"),
    ("", 1, "0 labels for 1 class;"),
], ids=["few", "heading", "empty"])
def test_read_labels_refuses_another_number(tmp_path, text, classes, message):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ArgumentError, match=f"a.txt': {message}"):
        read_labels(tmp_path / "a.txt", classes)


@pytest.mark.parametrize("data, expected", [
    (b"a.jpg\0b\nc.jpg\0\0d.jpg\0", ["a.jpg", "b\nc.jpg", "d.jpg"]), (b"a.jpg\0b.jpg", ["a.jpg", "b.jpg"]),
    (b"\xef\xbb\xbfa.jpg\0b.jpg", ["a.jpg", "b.jpg"]), (b"\xe9.jpg\0\xe8.jpg\0", ["\udce9.jpg", "\udce8.jpg"]),
    (b"".join(b"%d.jpg\0" % i for i in range(30_000)), [f"{i}.jpg" for i in range(30_000)]),
    (b"".join(b"%d\n.jpg\0" % i for i in range(11, 999)).removeprefix(b"11\n"), None),
    (b"\0\0", []), (b"", []),
], ids=["newline_in_a_name", "no_last_nul", "byte_order_mark", "no_utf8", "many", "mixed", "nothing", "empty"])
def test_each_path_between_nul_bytes(data, expected):
    if expected is None:
        with pytest.raises(ArgumentError, match="list 'a.txt': b'.*' is not a path: it has a NUL byte"):
            paths(b"11\n" + data)
    else:
        assert paths(data) == expected


def test_each_path_on_windows_is_unicode(monkeypatch):
    """Names there are no bytes, which could stay as they are: a list saved in a code page has to be saved again."""
    monkeypatch.setattr(os, "fsdecode", lambda path: path.decode("utf-8", "surrogatepass"))
    assert paths("a.jpg\nü.jpg\n".encode()) == ["a.jpg", "ü.jpg"]
    with pytest.raises(ArgumentError, match=r"list 'a.txt': b'.xfc.jpg' can't be read as text in UTF-8; save it"):
        paths(b"a.jpg\n\xfc.jpg\n")


@pytest.mark.parametrize("before, after", [(b"", b""), (b"a.jpg\n", b"\n"), (b"a.jpg\0", b"\0")],
                         ids=["alone", "lines", "nul_bytes"])
def test_each_path_refuses_an_endless_line(before, after):
    longest = b"x" * LINE
    assert len(paths(before + longest + after)[-1]) == LINE
    with pytest.raises(ArgumentError, match="list 'a.txt': b'x{60}' is not a path: .* more than 65,536 bytes"):
        paths(before + longest + b"x" + after)


def test_each_path_reads_no_further_than_it_must():
    """Reading an endless file, such as a device, stops after one long line; `most` limits a list of short ones."""
    class Endless:
        taken = 0

        def readline(self, most):
            self.taken += most
            return b"x" * most

    file = Endless()
    with pytest.raises(ArgumentError, match="is not a path"):
        list(each_path(file, "standard input"))
    assert file.taken <= 3 * LINE
    assert paths(b"a\n" * 50, most=100) == ["a"] * 50
    with pytest.raises(ArgumentError, match="list 'a.txt': it has more than 100 bytes; split it"):
        paths(b"a\n" * 51, most=100)


@pytest.mark.parametrize("text, message", [
    ("a\n" * 2**23, "it is UTF-16, and has more than 16,777,216 bytes; save it as UTF-8"),
    ("x" * 70_000 + "\nb\n", "is not a path: it has a NUL byte, or more than 65,536 characters"),
    ("a\0b\n", "is not a path"),
], ids=["long", "long_line", "nul"])
def test_list_in_utf_16_has_limits(text, message):
    with pytest.raises(ArgumentError, match=message):
        list(each_path(io.BytesIO(text.encode("utf-16")), "standard input"))
