"""Recognise a photo by a few bytes: a weight file keeps those of the photos that its weights were fitted to."""
import hashlib
import os
from collections.abc import Collection, Iterable

from ..common.paths import open_regular
from ..common.text import counted
from ..network.parameters import PHOTO_MARK

BLOCK = 1 << 16  # bytes


def photo_mark(path) -> bytes | None:
    """The start of the sha256 of a file's size and of its first, middle and last BLOCK; None where it can't be read.

    The file's name and folder do not count. Reading all of each photo would take as long as fitting. Small files are
    read whole, and two different photos hardly ever agree in all of this.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(size.to_bytes(8, "little"))
            for place in (0, (size - BLOCK) // 2, size - BLOCK):
                file.seek(max(0, place))
                digest.update(file.read(BLOCK))
    except OSError:
        return None
    return digest.digest()[:PHOTO_MARK]


def photo_marks(paths: Iterable, known: bytes = b"") -> bytes:
    """The sorted, distinct marks of photos, concatenated; photos that can't be read have none.

    known: marks that are added to them, such as those of the weights that a run starts from
    """
    return b"".join(sorted({photo_mark(path) for path in paths} - {None} | _each(known)))


def count_marked(paths: Iterable, marks: bytes) -> int:
    """Photos whose mark is among `marks`; where there are none, no photo is read."""
    known = _each(marks)
    return sum(photo_mark(path) in known for path in paths) if known else 0


def warning_of_known(held_out: Collection, start: str, marks: bytes) -> str:
    """A warning if photos that are held out have marks of a run's start; "" if not."""
    known = count_marked(held_out, marks)
    if not known:
        return ""
    return (f"warning: the weights to start from ({start}) were fitted to {known:,} of the "
            f"{counted(len(held_out), 'photo')} held out, so that the accuracy is too high; hold out photos that they "
            "have not seen, such as by the seed of the run that made them")


def _each(marks: bytes) -> set[bytes]:
    return {marks[at:at + PHOTO_MARK] for at in range(0, len(marks), PHOTO_MARK)}
