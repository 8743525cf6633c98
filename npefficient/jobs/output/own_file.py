"""Open files that a job resumes, or keeps beside its output, without following links."""
import os
import stat

from ...errors import ArgumentError

# O_NOFOLLOW: refuses a link that is made between the check and the opening. O_NONBLOCK: opening a pipe does not wait
# for its other end. Windows has neither.
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def open_own(path, *, append: bool = False):
    """Open a regular file to read bytes, unbuffered; with `append` to append to it as well, created if missing.

    Raises ArgumentError for a symbolic link (anyone who can write to the directory could make us write to, or
    truncate, a different file) and for a pipe or a device, OSError from the system.
    """
    name = os.fspath(path)
    if os.path.islink(name):
        raise ArgumentError(f"{name!r} is a symbolic link, and rows are not written through links: name the file "
                            "itself, or remove the link")
    file = open(name, "a+b" if append else "rb", buffering=0,
                opener=lambda path, flags: os.open(path, flags | _FLAGS, 0o666))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ArgumentError(f"{name!r} is a pipe or a device: rows need a file that can be read back")
    return file
