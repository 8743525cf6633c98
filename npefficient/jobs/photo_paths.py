"""Which photos a command line means: files, folders, globs, lists and standard input.

Names stay as given. Those whose bytes are not UTF-8 hold lone surrogates, as Python's file system functions take them
(PEP 383).
"""
import fnmatch
import glob
import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ..common.paths import StrPath
from ..common.text_files import LIST, each_path, opened
from ..errors import ArgumentError
from ..images.photo_file import photo_suffixes

# Suffixes of photos that Pillow can't read by itself. They are left out of folders, with a warning.
FOREIGN = frozenset((".3fr", ".arw", ".cr2", ".cr3", ".dng", ".heic", ".heics", ".heif", ".heifs", ".hif", ".jxl",
                     ".nef", ".nrw", ".orf", ".pef", ".psd", ".raf", ".rw2", ".srw"))
Say = Callable[[str], None]


def find_photos(arguments: StrPath | Iterable[StrPath], *, error: Say | None = None,
                warning: Say | None = None) -> list[Path]:
    """List the photos that `arguments` stand for: paths of photos, folders, globs or lists, or a single one of these.

    They keep the order of the arguments. A folder stands for all photos in it and below, sorted folder by folder: the
    names with a suffix that Pillow reads, except hidden ones. Each real folder is visited once, whatever links lead to
    it. A glob such as "photos/**/*.jpg" stands for the same kind of names, `**` for any folders. A name that ends in
    .txt is a list, and "-" standard input: a path on each line, or a NUL byte after each (`find -print0`), relative to
    the current directory. Anything else is a photo, whether it exists or not.

    error: called with a line for each sub-folder that can't be listed, which is skipped; without it, that raises
        ArgumentError
    warning: called with a line on photos that are left out because Pillow can't read their format, such as .heic

    Raises ArgumentError for a folder, a glob or a list with no photo, and for a folder or list that can't be read.
    """
    return [Path(photo) for photo in each_photo(arguments, error=error, warning=warning)]


def each_photo(arguments: StrPath | Iterable[StrPath], *, error: Say | None = None,
               warning: Say | None = None) -> Iterator[str]:
    """Yield what `find_photos` lists, each photo as soon as it is known."""
    if isinstance(arguments, (str, bytes, os.PathLike)):
        arguments = [arguments]
    if not isinstance(arguments, Iterable):
        raise ArgumentError(f"photos {arguments!r}: give paths of photos, folders, globs or lists")
    for argument in arguments:
        if not isinstance(argument, (str, bytes, os.PathLike)):
            raise ArgumentError(f"photo {argument!r}: it must be the path of a photo, a folder, a glob or a list")
        yield from _photos_of(os.fsdecode(argument), _Search(error, warning))


def _photos_of(argument: str, search: "_Search") -> Iterator[str]:
    if argument == "-":
        found = each_path(sys.stdin.buffer, "standard input")
        what = "standard input: it names no photo; write one path on each line"
    elif os.path.isdir(argument):
        found, what = search.folder(argument), f"folder {argument!r}: there is no photo in it; {_suffixes()}"
    elif _is_list(argument):
        found, what = _list(argument), f"list {argument!r}: it names no photo; write one path on each line"
    elif _is_glob(argument):
        found, what = search.glob(argument), f"glob {argument!r}: no photo matches; {_suffixes()}"
    else:
        found, what = iter([argument]), ""
    first = next(found, None)
    if first is None:
        raise ArgumentError(what + search.left_out("; left out: "))
    yield first
    yield from found
    search.say_what_is_left_out(argument)


def check_found(photos: Sequence[str]) -> None:
    """Raise ArgumentError where none of these photos exists: most likely their name is mistyped."""
    if not any(map(os.path.lexists, photos)):
        others = f", nor does any other of the {len(photos):,} given" if len(photos) > 1 else ""
        raise ArgumentError(f"photo {photos[0]!r} does not exist{others}: check the path, which is relative to the "
                            "current directory; nothing was written")


def photos_below(folder: str, *, error: Say, warning: Say) -> Iterator[str]:
    """Yield the photos in a folder and below, if any; `error` is also called if the folder itself can't be listed."""
    search = _Search(error, warning)
    yield from search.folder(folder, named=False)
    search.say_what_is_left_out(folder)


def is_several(argument: str) -> bool:
    """True where an argument of `each_photo` stands for any number of photos."""
    return argument == "-" or os.path.isdir(argument) or _is_list(argument) or _is_glob(argument)


def _is_list(argument: str) -> bool:
    return argument.lower().endswith(".txt")


def _is_glob(argument: str) -> bool:
    return glob.has_magic(argument) and not os.path.lexists(argument)


def _suffixes() -> str:
    return "photos in folders end in .jpg, .png or another suffix that Pillow reads, and don't begin with a dot"


def _list(path: str) -> Iterator[str]:
    with opened(path, "list", "a name that ends in .txt is a file with the path of a photo on each line") as file:
        yield from each_path(file, f"list {path!r}", LIST)


class _Search:
    """A search through folders that reports what it can't read."""

    def __init__(self, error: Say | None, warning: Say | None):
        self.error, self.warning = error, warning
        self.suffixes = photo_suffixes()
        self.foreign: Counter[str] = Counter()
        self.unreadable: set[str] = set()

    def left_out(self, before: str) -> str:
        """How many photos are of kinds that Pillow can't read; "" for none."""
        if not self.foreign:
            return ""
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(self.foreign.items()))
        return f"{before}{kinds}, which Pillow can't read; save them as JPEG"

    def say_what_is_left_out(self, argument: str) -> None:
        if self.warning and self.foreign:
            self.warning(self.left_out(f"left out of {argument!r}: "))

    def folder(self, folder: str, named: bool = True) -> Iterator[str]:
        """Every photo in a folder and below, sorted by name folder by folder; each real folder once."""
        seen, pending = {self._place(folder)}, [iter(self._paths(folder, named=named))]
        while pending:  # no recursion: folders may be a thousand deep
            path = next(pending[-1], None)
            if path is None:
                pending.pop()
            elif (place := self._place(path)) is None:
                yield from self._photo(path)
            elif place not in seen:
                seen.add(place)
                pending.append(iter(self._paths(path)))

    def glob(self, pattern: str) -> Iterator[str]:
        """Every photo that matches; a part of the pattern matches a part of the path, `**` any number of folders."""
        root, parts = _split(pattern)
        parts = [part for part, after in zip(parts, [*parts[1:], ""]) if not part == after == "**"]
        for path in self._matching(root, parts, {}):
            yield from self._photo(path)

    def _matching(self, folder: str, parts: list[str], seen: dict[int, set]) -> Iterator[str]:
        """The files below a folder ("" for the current one) that match the parts of a pattern.

        seen: for each `**`, by the number of parts after it, the folders that it has matched: each real one once
        """
        part, *rest = parts
        if part == "**":
            for below in self._below(folder, seen.setdefault(len(rest), set())):
                yield from self._matching(below, rest or ["*"], seen)
            return
        for path in self._paths(folder, part) if glob.has_magic(part) else [os.path.join(folder, part)]:
            is_folder = self._place(path) is not None
            if not rest and not is_folder:
                yield path
            elif rest and is_folder:
                yield from self._matching(path, rest, seen)

    def _below(self, folder: str, seen: set) -> Iterator[str]:
        """A folder and all below it, sorted folder by folder, except those seen."""
        pending = [iter([folder])]
        while pending:
            path = next(pending[-1], None)
            if path is None:
                pending.pop()
            elif (place := self._place(path or ".")) is not None and place not in seen:
                seen.add(place)
                yield path
                pending.append(iter(self._paths(path)))

    def _photo(self, path: str) -> Iterator[str]:
        """The path, if its suffix is that of a photo."""
        suffix = self._suffix(path)
        if suffix in self.suffixes:
            if _is_file(path):
                yield path
        elif suffix in FOREIGN:
            self.foreign[suffix] += 1

    def _paths(self, folder: str, part: str = "*", named: bool = False) -> list[str]:
        """The sorted paths in a folder whose names match a part of a pattern; hidden ones only if it begins with a dot.

        named: the user has named this very folder, so that failing to list it is always an error
        """
        try:
            names = os.listdir(folder or ".")
        except OSError as problem:
            self._unreadable(folder or ".", problem, named)
            return []
        shown = (name for name in names if part.startswith(".") or not name.startswith("."))
        return [os.path.join(folder, name) for name in sorted(shown) if fnmatch.fnmatch(name, part)]

    def _place(self, path: str) -> tuple[int, int] | None:
        """(device, inode) of a folder, the same by whatever path it is reached; None for anything else."""
        try:
            found = os.stat(path)
        except OSError as problem:
            if self._suffix(path) not in self.suffixes and os.path.lexists(path) and not os.path.islink(path):
                self._unreadable(path, problem)  # it may be a folder; a photo's error is reported when it is opened
            return None
        return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None

    def _unreadable(self, path: str, problem: OSError, named: bool = False) -> None:
        text = (f"folder {path!r}: it can't be listed ({problem.strerror}); change its permissions, or name the photos "
                "without it")
        if self.error is None or named:
            raise ArgumentError(text) from problem
        if path not in self.unreadable:  # a glob may visit it twice
            self.unreadable.add(path)
            self.error(text)

    @staticmethod
    def _suffix(path: str) -> str:
        return os.path.splitext(path)[1].lower()


def _split(pattern: str) -> tuple[str, list[str]]:
    """Where a pattern starts, "" for the current folder, and its parts; Windows has drives and two separators."""
    drive, rest = os.path.splitdrive(pattern.replace(os.altsep or os.sep, os.sep))
    return drive + os.sep * rest.startswith(os.sep), [part for part in rest.split(os.sep) if part]


def _is_file(path: str) -> bool:
    """True for a file, and for what can't be examined, such as a broken link: opening it then reports the error."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return os.path.lexists(path)
