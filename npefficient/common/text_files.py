"""Text files that people write: class names, labels of photos, lists of photos. One way to read them all.

UTF-8 with or without a byte order mark, or UTF-16 with one (what PowerShell's `>` writes); LF, CR LF or CR end a line.
"""
import codecs
import os
import re
from collections.abc import Iterator

from ..errors import ArgumentError
from .paths import open_regular
from .text import counted

LINE = 2**16  # bytes; a path has 4,096 at most on Linux, 65,534 on Windows
CLASS_NAMES = 2**22  # bytes of a file of class names
LABELS = 2**28  # bytes of a file of labels: those of millions of photos
LIST = 2**30  # bytes of a list of photos
WIDE = 2**24  # bytes of a list in UTF-16, which is read whole
SYNSET = re.compile(r"n\d{8}\s+")  # before a name; ids alone are names
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_labels(path, num_classes: int) -> list[str]:
    """Read the names of `num_classes` classes, one on each line in their order; empty last lines don't count.

    Where every line begins with a WordNet synset id ("n01440764<TAB>tench"), the name is what comes after it.
    """
    labels = [line.strip() for line in read_lines(path, "labels file", CLASS_NAMES)]
    while labels and not labels[-1]:
        labels.pop()
    if labels and all(map(SYNSET.match, labels)):
        labels = [SYNSET.sub("", label) for label in labels]
    for number, label in enumerate(labels, 1):
        if "\t" in label:
            raise ArgumentError(f"labels file {os.fspath(path)!r}: line {number} has a tab, {label[:60]!r}; write the "
                                "name of the class alone, or an ImageNet synset id, a tab and the name on every line")
    if len(labels) != num_classes:
        heading = f"; is the first line, {labels[0][:60]!r}, a heading?" if len(labels) == num_classes + 1 else ""
        raise ArgumentError(f"labels file {os.fspath(path)!r}: {counted(len(labels), 'label')} for "
                            f"{counted(num_classes, 'class')}; write the name of a class on each line, in their "
                            f"order{heading}")
    return labels


def read_lines(path, what: str, most: int, remedy: str = "write one short line for each class or photo") -> list[str]:
    """Read the lines of a text file of at most `most` bytes; `what` messages call it, such as "labels file".

    remedy: what to do about a longer one

    Raises ArgumentError for a file that can't be read, is too long, or is not text.
    """
    title = f"{what} {os.fspath(path)!r}"
    with opened(path, what) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ArgumentError(f"{title}: it has more than {most:,} bytes; {remedy}")
    return _text(data, title)


def _text(data: bytes, title: str) -> list[str]:
    """The lines of a text; not `splitlines`, which splits at a dozen other characters as well."""
    try:
        text = data.decode("utf-16" if data.startswith(UTF16) else "utf-8-sig")
    except UnicodeDecodeError as problem:
        raise ArgumentError(f"{title}: it can't be read as text in UTF-8 ({problem}); save it as UTF-8") from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def opened(path, what: str, remedy: str = "check the path"):
    """Open a regular file to read bytes; raises ArgumentError where that fails."""
    try:
        return open_regular(path)
    except (OSError, ValueError) as problem:  # ValueError: a NUL byte in the path
        why = getattr(problem, "strerror", None) or problem
        raise ArgumentError(f"{what} {os.fspath(path)!r}: it can't be read ({why}); {remedy}") from problem


def each_path(file, title: str, most: int | None = None) -> Iterator[str]:
    """Yield the paths in a binary file, each as soon as its line is read: one on a line, or with a NUL byte after each
    (`find -print0`). Empty ones are left out; bytes that are not UTF-8 become lone surrogates (PEP 383).

    title: what messages call the file, such as "list 'a.txt'"
    most: the most bytes that are read

    Raises ArgumentError for more, for a line of more than LINE bytes, for a NUL byte in one and, on Windows, for bytes
    that are no UTF-8.
    """
    lines = _limited(file, title, most)
    first = next(lines, b"")
    if first.startswith(UTF16):
        for path in filter(None, _text(_whole(first, lines, title), title)):
            if len(path) > LINE or "\0" in path:
                raise ArgumentError(f"{title}: {path[:60]!r} is not a path: it has a NUL byte, or more than {LINE:,} "
                                    "characters; write one path on each line")
            yield path
        return
    first = first.removeprefix(codecs.BOM_UTF8)
    for path in _between_nuls(first, lines) if b"\0" in first else _on_lines(first, lines):
        if len(path) > LINE or b"\0" in path:
            raise ArgumentError(f"{title}: {path[:60]!r} is not a path: it has a NUL byte, or more than {LINE:,} "
                                "bytes; write one path on each line")
        if path:
            yield _decoded(path, title)


def _decoded(path: bytes, title: str) -> str:
    try:
        return os.fsdecode(path)
    except UnicodeDecodeError as problem:  # on Windows, where every name is Unicode
        raise ArgumentError(f"{title}: {path[:60]!r} can't be read as text in UTF-8; save it as UTF-8") from problem


def _whole(first: bytes, lines: Iterator[bytes], title: str) -> bytes:
    """All of a UTF-16 file, whose line ends can't be found byte by byte."""
    data = bytearray(first)
    for part in lines:
        data += part
        if len(data) > WIDE:
            raise ArgumentError(f"{title}: it is UTF-16, and has more than {WIDE:,} bytes; save it as UTF-8")
    return bytes(data)


def _limited(file, title: str, most: int | None) -> Iterator[bytes]:
    """The lines of a file, long ones in parts."""
    total = 0
    while line := file.readline(LINE + 2):
        total += len(line)
        if most is not None and total > most:
            raise ArgumentError(f"{title}: it has more than {most:,} bytes; split it, or give it on standard input")
        yield line


def _on_lines(first: bytes, lines: Iterator[bytes]) -> Iterator[bytes]:
    yield first.rstrip(b"\r\n")
    for line in lines:
        yield line.rstrip(b"\r\n")


def _between_nuls(first: bytes, lines: Iterator[bytes]) -> Iterator[bytes]:
    *whole, rest = first.split(b"\0")
    yield from whole
    for line in lines:
        *whole, last = line.split(b"\0")
        if whole:
            yield rest + whole[0]
            yield from whole[1:]
            rest = b""
        rest += last
        if len(rest) > LINE:
            break  # `each_path` refuses it
    yield rest
