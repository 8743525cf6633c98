"""Which photos a command line means: files, folders, globs, lists and standard input.

Names stay text as given. Those whose bytes are no UTF-8 hold lone surrogates, as Python's file system functions take
them (PEP 383).
"""
import fnmatch
import glob
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import ArgumentError

REFUSED = ("EPS", "MPEG")  # Pillow opens them, but one is a program that `open_image` refuses, one has no pixels for it


def find_photos(arguments: Sequence[str]) -> list[Path]:
    """List the photos that `arguments` stand for, in their order; what they may be, see `each_photo`."""
    return [Path(photo) for photo in each_photo(arguments)]


def each_photo(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the photos that `arguments` stand for, in their order, each as soon as it is known.

    A folder stands for all photos in it and below, sorted folder by folder: the names with a suffix of
    `photo_suffixes`, but for hidden ones. A glob that the shell has left alone (quoted) stands for the same kind of
    names, `**` for any folders. A name that ends in .txt is a list, and "-" standard input: a path on each line,
    relative to the current directory. Anything else is a photo, whether it exists or not. Raises ArgumentError for a
    folder, a glob or a list with no photo, and for a folder or list that can't be read.
    """
    for argument in map(os.fspath, arguments):
        if argument == "-":
            found, what = _lines(sys.stdin.buffer), "standard input: it names no photo, one path on each line"
        elif os.path.isdir(argument):
            found, what = _folder(argument), f"folder {argument!r}: there is no photo in it; {_suffixes()}"
        elif _is_list(argument):
            found, what = _list(argument), f"list {argument!r}: it names no photo; write one path on each line"
        elif _is_glob(argument):
            found, what = _glob(argument), f"glob {argument!r}: no photo matches; {_suffixes()}"
        else:
            found, what = iter([argument]), ""
        first = next(found, None)
        if first is None:
            raise ArgumentError(what)
        yield first
        yield from found


def photo_suffixes() -> frozenset[str]:
    """The suffixes of the files that Pillow can read here, in lower case with the dot, such as ".jpg"."""
    from PIL import Image, ImageFile

    Image.init()

    def reads(name):
        opener = Image.OPEN.get(name, (None,))[0]
        stub = isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile)  # needs a reader of its own
        return opener is not None and not stub and name not in REFUSED

    return frozenset(suffix for suffix, name in Image.EXTENSION.items() if reads(name))


def is_several(argument: str) -> bool:
    """True where an argument of `each_photo` stands for any number of photos."""
    return argument == "-" or os.path.isdir(argument) or _is_list(argument) or _is_glob(argument)


def _is_list(argument: str) -> bool:
    return argument.lower().endswith(".txt")


def _is_glob(argument: str) -> bool:
    return glob.has_magic(argument) and not os.path.lexists(argument)


def _suffixes() -> str:
    return "photos in folders end in .jpg, .png or another suffix that Pillow reads, and don't begin with a dot"


def _lines(file) -> Iterator[str]:
    """The paths in a binary file, one on each line; a byte order mark and empty lines are left out."""
    for number, line in enumerate(file):
        path = line.removeprefix(b"\xef\xbb\xbf" if number == 0 else b"").rstrip(b"\r\n")
        if path:
            yield os.fsdecode(path)


def _list(path: str) -> Iterator[str]:
    try:
        with open(path, "rb") as file:
            yield from _lines(file)
    except OSError as problem:
        raise ArgumentError(f"list {path!r}: {problem.strerror}; a name that ends in .txt is a file with the path of a "
                            "photo on each line") from problem


def _folder(folder: str) -> Iterator[str]:
    """Every photo in a folder and below."""
    suffixes = photo_suffixes()
    for path in _files(folder):
        if os.path.splitext(path)[1].lower() in suffixes:
            yield path


def _files(folder: str, above: tuple = ()) -> Iterator[str]:
    """Every file in a folder and below, sorted; a link to a folder that it lies in itself is not followed."""
    above = (*above, _identity(folder))
    for name in _names(folder):
        path = os.path.join(folder, name)
        if not os.path.isdir(path):
            if _is_file(path):
                yield path
        elif _identity(path) not in above:
            yield from _files(path, above)


def _glob(pattern: str) -> Iterator[str]:
    """Every photo that matches; a part of the pattern matches a part of the path, `**` any number of folders."""
    suffixes, seen = photo_suffixes(), set()
    drive, rest = os.path.splitdrive(pattern)
    parts = rest.replace(os.altsep or os.sep, os.sep).split(os.sep)
    start = drive + os.sep if rest.startswith(os.sep) else drive
    for path in _matching(start, [part for part in parts if part]):
        if os.path.splitext(path)[1].lower() in suffixes and path not in seen:
            seen.add(path)  # with two `**` there are several ways to a file
            yield path


def _matching(folder: str, parts: list[str], above: tuple = ()) -> Iterator[str]:
    """The files below a folder ("" for the current one) whose path matches the parts of a pattern."""
    part, *rest = parts
    if part == "**":
        yield from _matching(folder, rest or ["*"])
        above = (*above, _identity(folder or "."))
        for path in _folders(folder, "*"):
            if _identity(path) not in above:
                yield from _matching(path, parts, above)
    elif not rest:
        names = [part] if not glob.has_magic(part) else _names(folder, part)
        yield from filter(_is_file, (os.path.join(folder, name) for name in names if name))
    elif not glob.has_magic(part):
        if os.path.isdir(os.path.join(folder, part)):
            yield from _matching(os.path.join(folder, part), rest)
    else:
        for path in _folders(folder, part):
            yield from _matching(path, rest)


def _folders(folder: str, part: str) -> Iterator[str]:
    return filter(os.path.isdir, (os.path.join(folder, name) for name in _names(folder, part)))


def _names(folder: str, part: str = "*") -> list[str]:
    """The sorted names in a folder that match a part of a pattern; hidden ones only where the part begins so."""
    try:
        names = os.listdir(folder or ".")
    except OSError as problem:
        raise ArgumentError(f"folder {folder or '.'!r}: it can't be listed ({problem.strerror}); change its "
                            "permissions, or name the photos without it") from problem
    shown = (name for name in names if part.startswith(".") or not name.startswith("."))
    return sorted(name for name in shown if fnmatch.fnmatch(name, part))


def _is_file(path: str) -> bool:
    """True for a file, and for a link that leads nowhere: its photo is missing, which is to be said of it."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return os.path.islink(path)


def _identity(folder: str) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino
