"""Files that a job keeps beside its output, or goes on with: opened in one way, which no link leads astray."""
import os
import stat

from ...errors import ArgumentError

# O_NOFOLLOW: no link that comes between the look and the opening. O_NONBLOCK: opening a pipe does not wait for its
# other end. Windows has neither.
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def open_own(path, *, append: bool = False):
    """Open a regular file to read bytes, unbuffered; with `append` to append to it as well, made where it is missing.

    Raises ArgumentError for a symbolic link (whoever may write in the directory could let us write, or cut off,
    another file) and for a pipe or a device, OSError from the system.
    """
    name = os.fspath(path)
    if os.path.islink(name):
        raise ArgumentError(f"{name!r} is a symbolic link, and rows are kept in no file that a link leads to: name the "
                            "file itself, or remove the link")
    file = open(name, "a+b" if append else "rb", buffering=0,
                opener=lambda path, flags: os.open(path, flags | _FLAGS, 0o666))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ArgumentError(f"{name!r} is a pipe or a device: rows need a file that can be read back")
    return file
