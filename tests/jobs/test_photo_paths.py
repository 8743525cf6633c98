"""Which photos an argument stands for, and the error if it stands for none."""
import io
import ntpath
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from npefficient.errors import ArgumentError
from npefficient.jobs import photo_paths
from npefficient.jobs.photo_paths import each_photo, find_photos, photo_suffixes

FILES = ["b.jpg", "a.PNG", "notes.md", "h5.h5", ".hidden.jpg", "cats/2.jpeg", "cats/1.webp", "cats/deep/er/x.bmp",
         "dogs/10.tif", "dogs/9.tif", ".git/y.png", "photo[1].jpg", "no suffix"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory has a folder "p" with FILES in it; their content is never read."""
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


@pytest.mark.parametrize("pattern, expected", [
    ("C:/photos/**/*.jpg", ("C:\\", ["photos", "**", "*.jpg"])), ("C:\\photos\\*.jpg", ("C:\\", ["photos", "*.jpg"])),
    ("D:*.jpg", ("D:", ["*.jpg"])), ("photos/a\\*.jpg", ("", ["photos", "a", "*.jpg"])), ("/*.jpg", ("\\", ["*.jpg"])),
    ("//server/share/a/*.jpg", ("\\\\server\\share\\", ["a", "*.jpg"])),
], ids=["slashes", "backslashes", "drive's_current_folder", "both", "root", "share"])
def test_glob_of_windows_has_a_drive_and_two_separators(monkeypatch, pattern, expected):
    monkeypatch.setattr(photo_paths, "os", SimpleNamespace(path=ntpath, sep="\\", altsep="/"))
    assert photo_paths._split(pattern) == expected


@pytest.mark.parametrize("name", ["p/photo[1].jpg", "p/no suffix", "p/none.jpg", "p/.hidden.jpg", "./p/b.jpg"])
def test_anything_else_is_taken_as_it_is(folder, name):
    assert found(name, name) == [name, name]


def test_arguments_keep_their_order(folder):
    assert found("p/b.jpg", "p/cats", "p/a*") == ["p/b.jpg", *ALL[2:5], "p/a.PNG"]


@pytest.mark.parametrize("text", [
    b"p/b.jpg\nnone.png\np/a.PNG\n", b"p/b.jpg\r\n\r\nnone.png\r\np/a.PNG",
    b"\xef\xbb\xbfp/b.jpg\nnone.png\n\n\np/a.PNG", "p/b.jpg\r\nnone.png\r\np/a.PNG\r\n".encode("utf-16"),
    b"p/b.jpg\0none.png\0p/a.PNG\0",
], ids=["lines", "windows", "byte_order_mark", "utf16", "nul_bytes"])
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
    lines = io.BytesIO(b"1.jpg\n2.jpg\n")
    monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": lines}))
    photos = each_photo(["-"])
    assert next(photos) == "1.jpg" and lines.read() == b"2.jpg\n"


@pytest.mark.parametrize("argument, message", [
    ("p/empty", "folder 'p/empty': there is no photo in it"),
    ("p/*.gif", r"glob 'p/\*.gif': no photo matches"),
    ("none/**/*.jpg", r"glob 'none/\*\*/\*.jpg': no photo matches"),
    ("p/*.md", r"glob 'p/\*.md': no photo matches; photos in folders end in .jpg"),
    ("empty.txt", "list 'empty.txt': it names no photo"),
    ("none.txt", r"list 'none.txt': it can't be read \(No such file or directory\); a name that ends in .txt is a"),
    ("/dev/full.txt", "list '/dev/full.txt': it can't be read"),
    ("p/raw", "folder 'p/raw': there is no photo in it; .*; left out: 2 .cr2, 1 .heic, which Pillow can't read; save"),
    ("p/raw/*", r"glob 'p/raw/\*': no photo matches; .*; left out: 2 .cr2, 1 .heic, which Pillow can't read"),
    ("-", "standard input: it names no photo"),
])
def test_nothing_there_is_an_error(folder, monkeypatch, argument, message):
    (folder.parent / "empty.txt").write_text("\n\n")
    (folder / "raw").mkdir()
    for name in ("1.cr2", "2.CR2", "3.heic", "notes.md"):
        (folder / "raw" / name).touch()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    with pytest.raises(ArgumentError, match=message):
        found("p/b.jpg", argument)


@pytest.mark.parametrize("argument", ["p", "p/**/*.jpg", "p/*/*.jpg"])
def test_folder_that_cannot_be_listed_is_an_error(folder, unlistable, argument):
    unlistable("p/cats")
    with pytest.raises(ArgumentError, match=r"folder 'p/cats': it can't be listed \(Permission denied\)"):
        found(argument)


@pytest.mark.parametrize("argument, expected", [
    ("p", [path for path in ALL if "cats" not in path]), ("p/**/*.jpg", ["p/b.jpg", "p/photo[1].jpg"]),
    ("p/*/*", ["p/dogs/10.tif", "p/dogs/9.tif"])])
def test_folder_that_cannot_be_listed_is_passed_over_by_whom_it_is_told(folder, unlistable, argument, expected):
    unlistable("p/cats")
    said = []
    assert list(each_photo([argument], error=said.append)) == expected
    assert said == ["folder 'p/cats': it can't be listed (Permission denied); change its permissions, or name the "
                    "photos without it"]


def test_folder_that_was_named_itself_is_an_error_all_the_same(folder, unlistable):
    unlistable("p/cats")
    with pytest.raises(ArgumentError, match="folder 'p/cats': it can't be listed"):
        list(each_photo(["p/cats"], error=print))


def test_folder_whose_files_can_not_be_looked_at(folder, monkeypatch):
    """Its names can be listed: photos are tried, and reported as unreadable; other names may be folders."""
    stat = os.stat

    def refuse(path, **how):
        if str(path).startswith("p/dogs/"):
            raise PermissionError(13, "Permission denied")
        return stat(path, **how)

    (folder / "dogs" / "more").mkdir()
    monkeypatch.setattr(photo_paths.os, "stat", refuse)
    said = []
    assert list(each_photo(["p"], error=said.append)) == ALL
    assert [text.partition(":")[0] for text in said] == ["folder 'p/dogs/more'"]


def test_photos_of_kinds_that_pillow_can_not_read_are_counted(folder):
    for name in ("1.HEIC", "cats/2.heic", "cats/.3.heic", "dogs/4.NEF", "b.txt"):
        (folder / name).touch()
    said = []
    assert list(each_photo(["p", "p/*.jpg", "p/1.HEIC"], warning=said.append)) == [
        *ALL, "p/b.jpg", "p/photo[1].jpg", "p/1.HEIC"]
    assert said == ["left out of 'p': 2 .heic, 1 .nef, which Pillow can't read; save them as JPEG"]


def test_one_argument_needs_no_list(folder):
    expected = [Path(path) for path in ALL]
    assert find_photos("p") == find_photos(Path("p")) == find_photos(b"p") == find_photos(iter(["p"])) == expected


@pytest.mark.parametrize("arguments, text", [
    (None, "photos None: give paths"), (3, "photos 3: give paths"), ([None], "photo None: it must be the path"),
    (["p", 3], "photo 3: it must be the path"),
], ids=repr)
def test_what_is_no_path_is_an_error(folder, arguments, text):
    with pytest.raises(ArgumentError, match=text):
        find_photos(arguments)


def test_links(folder):
    """Links are followed, each real folder once, under the first name that leads there; a dangling one is a photo."""
    (folder / "dogs" / "up").symlink_to("..")
    (folder / "dogs" / "itself").symlink_to(".")
    (folder / "dogs" / "loop.jpg").symlink_to("loop.jpg")
    (folder / "dogs" / "z.jpg").symlink_to("../b.jpg")
    (folder / "dogs" / "lost.jpg").symlink_to("none.jpg")
    (folder / "dogs" / "cats").symlink_to("../cats")
    (folder / "bats").symlink_to("cats/deep")
    expected = sorted([*ALL, "p/dogs/loop.jpg", "p/dogs/lost.jpg", "p/dogs/z.jpg", "p/bats/er/x.bmp"])
    expected.remove("p/cats/deep/er/x.bmp")
    assert found("p") == expected
    assert sorted(found("p/**")) == expected and sorted(found("**/*.*")) == expected
    assert found("p/dogs/*/1.webp") == ["p/dogs/cats/1.webp"]  # no `**`: exactly this folder


@pytest.mark.parametrize("argument", ["p", "p/**", "**/*.jpg", "**/a/**/*.jpg"])
def test_links_that_fan_out_are_no_more_work_than_the_folders(tmp_path, monkeypatch, argument):
    """Thirty folders with links to one another: 30! ways, and 31 listings for each part of the pattern."""
    monkeypatch.chdir(tmp_path)
    folders = [tmp_path / "p" / str(i) / "a" for i in range(30)]
    for i, folder in enumerate(folders):
        folder.mkdir(parents=True)
        (folder / f"{i}.jpg").touch()
    for one in folders:
        for other in folders:
            (one / f"to{other.parent.name}").symlink_to(other)
    listed, listdir = [], os.listdir
    monkeypatch.setattr(photo_paths.os, "listdir", lambda path: listed.append(path) or listdir(path))
    got = found(argument)
    assert sorted(os.path.basename(path) for path in got) == sorted(f"{i}.jpg" for i in range(30))
    assert len(listed) <= 200


@pytest.fixture
def deep(tmp_path, monkeypatch):
    """A photo 1,300 folders deep, made and removed here, since `os.makedirs` and pytest's cleaning recurse."""
    monkeypatch.chdir(tmp_path)
    folders = ["p" + "/d" * depth for depth in range(1300)]
    for folder in folders:
        os.mkdir(folder)
    photo = f"{folders[-1]}/x.jpg"
    open(photo, "wb").close()
    yield photo
    os.remove(photo)
    for folder in reversed(folders):
        os.rmdir(folder)


@pytest.mark.parametrize("argument", ["p", "p/**/*.jpg"])
def test_folders_a_thousand_deep(deep, argument):
    assert found(argument) == [deep]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_in_a_folder_are_left_out(folder):
    """Opening one would wait for a writer forever."""
    os.mkfifo(folder / "cats" / "pipe.jpg")
    assert found("p") == ALL and sorted(found("p/**")) == ALL


def test_suffixes_are_those_that_pillow_reads(tmp_path):
    suffixes = photo_suffixes()
    assert suffixes >= {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    assert not suffixes & {".h5", ".hdf", ".pdf", ".eps", ".mpg", ".emf", ".txt", ".csv", ""}
    for suffix in suffixes - {".mpo"}:  # several JPEGs in a row, which Pillow opens as a JPEG
        assert Image.EXTENSION[suffix] in Image.OPEN
