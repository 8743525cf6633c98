"""A lock on an open file. The system releases it when the process ends, however it ends."""
from typing import IO

FAR = 1 << 40  # a byte that no file of ours reaches


def lock(file: IO[bytes]) -> bool:
    """Lock a file that is open for writing; False if another process has locked it.

    True also where nothing can be locked, as on some network file systems: then every process goes on.
    """
    try:
        _lock(file)
    except (BlockingIOError, PermissionError):  # the second is Windows'
        return False
    except (ImportError, OSError):
        return True
    return True


def unlock(file: IO[bytes]) -> None:
    """Release the lock. Closing the file does that too, unless a forked child has inherited it; Windows has no fork."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_UN)
    except OSError:  # nothing was locked: the file system has no locks
        return


def _lock(file: IO[bytes]) -> None:
    """Raise BlockingIOError, or on Windows PermissionError, if another process has locked the file."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        # Windows locks bytes, and nobody else can read a locked byte: this one is past the end of the file.
        file.seek(FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
