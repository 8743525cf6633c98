"""Which photos an argument means, and what is said when it means none."""
import io
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from npefficient.jobs import photos
from npefficient.errors import ArgumentError
from npefficient.jobs.photos import each_photo, find_photos, photo_suffixes

FILES = ["b.jpg", "a.PNG", "notes.md", "h5.h5", ".hidden.jpg", "cats/2.jpeg", "cats/1.webp", "cats/deep/er/x.bmp",
         "dogs/10.tif", "dogs/9.tif", ".git/y.png", "photo[1].jpg", "no suffix"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory has a folder "p" with FILES in it; nothing in them is looked at."""
    for name in FILES:
        path = tmp_path / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "p" / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "p"


ALL = ["p/a.PNG", "p/b.jpg", "p/cats/1.webp", "p/cats/2.jpeg", "p/cats/deep/er/x.bmp", "p/dogs/10.tif", "p/dogs/9.tif",
       "p/photo[1].jpg"]


def found(*arguments):
    return list(each_photo(arguments))


@pytest.mark.parametrize("name", ["p", "p/", "./p", "p/../p"])
def test_folder_is_all_below_it_sorted(folder, name):
    assert found(name) == [os.path.join(name, path.removeprefix("p/")) for path in ALL]
    assert find_photos([name]) == [Path(name, path.removeprefix("p/")) for path in ALL]


def test_folder_absolute(folder):
    assert found(folder) == [str(folder.parent / path) for path in ALL]


@pytest.mark.parametrize("pattern, expected", [
    ("p/*.jpg", ["p/b.jpg", "p/photo[1].jpg"]),
    ("p/*", ["p/a.PNG", "p/b.jpg", "p/photo[1].jpg"]),
    ("p/?.*", ["p/a.PNG", "p/b.jpg"]),
    ("p/*/*", ["p/cats/1.webp", "p/cats/2.jpeg", "p/dogs/10.tif", "p/dogs/9.tif"]),
    ("p/[cd]*/[19].*", ["p/cats/1.webp", "p/dogs/9.tif"]),
    ("p/cats/**", ["p/cats/1.webp", "p/cats/2.jpeg", "p/cats/deep/er/x.bmp"]),
    ("**/*.jp*g", ["p/b.jpg", "p/photo[1].jpg", "p/cats/2.jpeg"]),
    ("p/**/er/*", ["p/cats/deep/er/x.bmp"]),
    ("**/cats/**/*.bmp", ["p/cats/deep/er/x.bmp"]),
    ("**/**/x.bmp", ["p/cats/deep/er/x.bmp"]),
    ("*/dogs/9.tif", ["p/dogs/9.tif"]),
    ("p/.*.jpg", ["p/.hidden.jpg"]),
    ("p/photo[[]1].jpg", ["p/photo[1].jpg"]),
    ("p//*.jpg", ["p/b.jpg", "p/photo[1].jpg"]),
], ids=lambda value: value if isinstance(value, str) else "")
def test_glob(folder, pattern, expected):
    assert found(pattern) == expected
    assert found(f"{folder.parent}/{pattern}") == [f"{folder.parent}/{path}" for path in expected]


@pytest.mark.parametrize("name", ["p/photo[1].jpg", "p/no suffix", "p/none.jpg", "p/.hidden.jpg", "./p/b.jpg"])
def test_anything_else_is_taken_as_it_is(folder, name):
    assert found(name, name) == [name, name]


def test_arguments_keep_their_order(folder):
    assert found("p/b.jpg", "p/cats", "p/a*") == ["p/b.jpg", *ALL[2:5], "p/a.PNG"]


@pytest.mark.parametrize("text", [
    b"p/b.jpg\nnone.png\np/a.PNG\n", b"p/b.jpg\r\n\r\nnone.png\r\np/a.PNG",
    b"\xef\xbb\xbfp/b.jpg\nnone.png\n\n\np/a.PNG",
], ids=["lines", "windows", "byte_order_mark"])
def test_list_and_standard_input(folder, monkeypatch, text):
    expected = ["p/b.jpg", "none.png", "p/a.PNG"]  # relative to the current directory, wherever the list lies
    (folder / "list.TXT").write_bytes(text)
    assert found("p/list.TXT") == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert found("-") == expected


def test_list_keeps_blanks_and_looks_at_no_suffix(folder):
    (folder / "list.txt").write_text(" a b .jpg \n#1\n*.jpg\n")
    assert found("p/list.txt") == [" a b .jpg ", "#1", "*.jpg"]


def test_names_that_are_no_utf8(folder, monkeypatch):
    name = os.path.join(b"p", b"cats", b"\xe9t\xe9.jpg")
    try:
        open(name, "wb").close()
    except OSError:
        pytest.fail("this file system refuses such names: nothing is left to test")
    (folder / "list.txt").write_bytes(name + b"\n")
    expected = "p/cats/\udce9t\udce9.jpg"
    assert found("p/list.txt") == [expected] and expected in found("p") and expected in found("p/cats/*.jpg")
    assert os.path.exists(expected)


def test_standard_input_is_read_line_by_line(folder, monkeypatch):
    lines = iter([b"1.jpg\n", b"2.jpg\n"])
    monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": lines}))
    photos = each_photo(["-"])
    assert next(photos) == "1.jpg" and next(lines) == b"2.jpg\n"


@pytest.mark.parametrize("argument, message", [
    ("p/empty", "folder 'p/empty': there is no photo in it"),
    ("p/*.gif", r"glob 'p/\*.gif': no photo matches"),
    ("none/**/*.jpg", r"glob 'none/\*\*/\*.jpg': no photo matches"),
    ("p/*.md", r"glob 'p/\*.md': no photo matches; photos in folders end in .jpg"),
    ("empty.txt", "list 'empty.txt': it names no photo"),
    ("none.txt", "list 'none.txt': No such file or directory; a name that ends in .txt is a file with the path"),
    ("-", "standard input: it names no photo"),
])
def test_nothing_there_is_an_error(folder, monkeypatch, argument, message):
    (folder.parent / "empty.txt").write_text("\n\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    with pytest.raises(ArgumentError, match=message):
        found("p/b.jpg", argument)


@pytest.mark.parametrize("argument", ["p", "p/**/*.jpg", "p/*/*.jpg"])
def test_folder_that_cannot_be_listed_is_an_error(folder, monkeypatch, argument):
    listdir = os.listdir

    def refuse(path):
        if str(path) == "p/cats":
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(photos.os, "listdir", refuse)
    with pytest.raises(ArgumentError, match=r"folder 'p/cats': it can't be listed \(Permission denied\)"):
        found(argument)


def test_links(folder):
    """To files and folders they are followed, to the folder that they lie in they are not; a lost one is a photo."""
    (folder / "dogs" / "up").symlink_to("..")
    (folder / "dogs" / "itself").symlink_to(".")
    (folder / "dogs" / "loop.jpg").symlink_to("loop.jpg")
    (folder / "dogs" / "z.jpg").symlink_to("../b.jpg")
    (folder / "dogs" / "lost.jpg").symlink_to("none.jpg")
    (folder / "dogs" / "cats").symlink_to("../cats")
    more = ["p/dogs/cats/1.webp", "p/dogs/cats/2.jpeg", "p/dogs/cats/deep/er/x.bmp"]
    expected = sorted([*ALL, *more, "p/dogs/loop.jpg", "p/dogs/lost.jpg", "p/dogs/z.jpg"])
    assert found("p") == expected
    assert sorted(found("p/**")) == expected and sorted(found("**/*.*")) == expected


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_in_a_folder_are_left_out(folder):
    """To open one would wait for a writer for ever."""
    os.mkfifo(folder / "cats" / "pipe.jpg")
    assert found("p") == ALL and sorted(found("p/**")) == ALL


def test_suffixes_are_those_that_pillow_reads(tmp_path):
    suffixes = photo_suffixes()
    assert suffixes >= {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    assert not suffixes & {".h5", ".hdf", ".pdf", ".eps", ".mpg", ".emf", ".txt", ".csv", ""}
    for suffix in suffixes & set(Image.registered_extensions()):
        assert Image.EXTENSION[suffix] in Image.OPEN
