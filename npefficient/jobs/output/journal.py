"""A file that lines are appended to, and that can be repaired after a crash at any moment."""
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ...common.file_lock import lock
from ...errors import ArgumentError
from .own_file import open_own
from .taken_back import REMEDY

SYNC = 2.0  # seconds between two calls of fsync
LONGEST = 1 << 26  # bytes of a line; one with an embedding has 20,000


class Journal:
    """Whole lines in `path`, which is created if missing. One process at a time.

    A line is with the system when `add` returns, and on the disk SYNC seconds later. A power cut can lose the last
    lines, and leave a torn line or a block of zeros at the end, which `lines` cuts off. If whole lines follow, it was
    not a power cut, and they are not thrown away.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = open_own(path, append=True)
        if not lock(self._file):
            self._file.close()
            raise ArgumentError(f"{str(path)!r}: another process is writing it; wait until it has ended")
        self._synced = time.monotonic()

    def lines(self) -> Iterator[bytes]:
        """Every whole line, without its end; after the last one, cut off a torn end.

        Raises ArgumentError for a line that is longer than any row, and for a damaged one with whole ones after it.
        """
        whole, damaged = 0, None  # bytes of whole lines; number of the first that is not
        with open(os.dup(self._file.fileno()), "rb") as file:  # not by name: it may be a different file by now
            file.seek(0)
            for number, line in enumerate(iter(lambda: file.readline(LONGEST + 1), b""), 1):
                if len(line) > LONGEST:
                    raise ArgumentError(f"{str(self.path)!r} has a line of more than {LONGEST:,} bytes, which is no "
                                        f"row; {REMEDY}")
                if not line.endswith(b"\n") or b"\0" in line:
                    damaged = damaged or number
                elif damaged:
                    raise ArgumentError(f"{str(self.path)!r}: line {damaged} is damaged (zeros), and whole ones follow "
                                        "it, which --resume does not throw away: repair that line, or truncate the "
                                        f"file to the {whole:,} bytes before it, to have the rest done again; or "
                                        f"{REMEDY}")
                else:
                    whole += len(line)
                    yield line[:-1]
        self._cut(whole)

    def add(self, line: bytes) -> None:
        """Append a line, given without its end; if the disk is full, the lines before it stay whole."""
        size = self.size()
        try:
            left = memoryview(line + b"\n")
            while left:
                left = left[self._file.write(left):]
        except OSError:
            self._cut(size)
            raise
        if time.monotonic() - self._synced >= SYNC:
            self.sync()

    def size(self) -> int:
        """Size in bytes, including a torn end."""
        return os.fstat(self._file.fileno()).st_size

    def clear(self) -> None:
        """Remove all lines."""
        self._cut(0)
        self.sync()

    def sync(self) -> None:
        """Flush everything to the disk."""
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def close(self) -> None:
        self._file.close()

    def _cut(self, size: int) -> None:
        if self.size() > size:
            self._file.truncate(size)
