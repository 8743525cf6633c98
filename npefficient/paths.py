"""Where npefficient keeps what it fetches and compiles, and how it replaces a file."""
import contextlib
import os
import tempfile
from pathlib import Path

from .errors import ArgumentError


def cache_directory() -> Path:
    """Return $NPEFFICIENT_CACHE, else $XDG_CACHE_HOME/npefficient, else ~/.cache/npefficient; it may not exist yet.

    As the XDG rules ask, a relative XDG_CACHE_HOME is ignored.
    """
    own = os.environ.get("NPEFFICIENT_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache"
    return base / "npefficient"


@contextlib.contextmanager
def replacing(target: Path, *, force: bool):
    """Yield the path of an empty temporary file beside `target`, which takes the target's place when the block ends.

    A failure inside the block, or a crash at any moment, leaves the old target or none. Without `force` an existing
    target is an ArgumentError.
    """
    target = Path(target)
    if target.is_dir():
        raise ArgumentError(f"{str(target)!r} is a directory: name a file to write")
    if target.exists() and not force:
        raise ArgumentError(f"{str(target)!r} exists already: choose another name, or overwrite it with --force (force=True)")
    if not target.parent.is_dir():
        raise ArgumentError(f"{str(target)!r}: its directory does not exist; make it first")
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o666 & ~_umask())
        _flush(name)
        os.replace(name, target)
        _flush(target.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _flush(path) -> None:
    """Force a file or a directory to the disk (Windows can't open a directory, and needs no flush of it)."""
    if os.name == "nt" and os.path.isdir(path):
        return
    handle = os.open(path, os.O_RDWR if os.path.isfile(path) else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
