"""Where npefficient keeps downloads and compiled code, and how it replaces a file."""
import contextlib
import errno
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from ..errors import ArgumentError, NpefficientError
from .checks import can_be_a_name, path_of

WEIGHT_FILES = (".h5", ".hdf5")  # what their names end in
ABANDONED = 86_400  # seconds after which nobody writes to a temporary file, or into a directory, any more
PATIENCE = 2.0  # seconds for which Windows is asked again to replace a file that some program has open
StrPath = str | os.PathLike[str]  # what public functions take as a path


def cache_directory() -> Path:
    """Return $NPEFFICIENT_CACHE, else $XDG_CACHE_HOME/npefficient, else ~/.cache/npefficient; it may not exist yet.

    A relative XDG_CACHE_HOME is ignored, as the XDG specification demands. Raises ArgumentError if the home directory
    is needed and not known.
    """
    own, xdg = os.environ.get("NPEFFICIENT_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    try:
        if own:
            return Path(own).expanduser().absolute()
        return (Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache") / "npefficient"
    except RuntimeError as error:
        raise ArgumentError(f"no place to keep files (NPEFFICIENT_CACHE={own!r}): {error}; set NPEFFICIENT_CACHE to "
                            "the full path of a directory") from error


def open_regular(path: StrPath) -> BufferedReader:
    """Open a regular file to read bytes. Raises OSError, with the path, for anything else.

    Opening a pipe would wait for its writer, perhaps forever, and a device may have no end.
    """
    # O_NONBLOCK: opening a pipe does not wait. Windows has neither this flag nor such pipes.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise OSError(errno.EINVAL, f"it is a {'pipe' if stat.S_ISFIFO(mode) else 'device'}, no file", os.fspath(path))
    return file


@contextlib.contextmanager
def replacing(target: Path, *, force: bool, mode: int = 0o666) -> Iterator[Path]:
    """Yield the path of an empty temporary file beside `target`, which takes the target's place when the block ends.

    After a failure inside the block, or a crash at any moment, the target is as it was before. A temporary file left
    by a killed process is removed the next time that the same target is replaced, if it is a day old by then. The new
    file has the permissions `mode` minus the umask. A symbolic link is replaced, not followed. Raises ArgumentError if
    the target exists and `force` is not set, if it is a directory, or if its own directory does not exist; and the
    system's OSError, which then names the target.
    """
    target = Path(target)
    check_target(target, force=force)
    part = target.with_name(f"{_part_start(target)}{os.urandom(8).hex()}.part")
    _remove_abandoned(target)
    try:
        # Not tempfile: the system itself applies the umask to `mode` (to ask for it, one would have to change it).
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode))
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        _check_free(target, force)
        _put_in_place(part, target)
    except BaseException as problem:
        with contextlib.suppress(OSError):
            os.unlink(part)
        ours = isinstance(problem, NpefficientError)
        if isinstance(problem, OSError) and not ours and problem.filename in (None, str(part)):
            raise OSError(problem.errno, problem.strerror or str(problem), str(target)) from problem
        raise
    _flush_directory(target.parent)


def _put_in_place(part: Path, target: Path) -> None:
    """Rename `part` to `target`.

    Windows refuses this while any program has the target open. Virus scanners and search indexers open every new file
    for a moment, so a refusal counts only after PATIENCE.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return os.replace(part, target)
        except PermissionError as problem:
            if sys.platform != "win32":
                raise
            if time.monotonic() > deadline:
                raise PermissionError(problem.errno, f"{problem.strerror}; if another program has it open, close it "
                                                     "there", str(target)) from problem
        time.sleep(0.05)


def _part_start(target: Path) -> str:
    return f".{target.name[:40]}."


def _remove_abandoned(target: Path) -> None:
    """Remove this user's temporary files for a target, if nobody has written to them for a day."""
    ours = re.compile(re.escape(_part_start(target)) + r"[0-9a-f]{16}\.part")
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:  # not listable, or another was quicker
        for entry in entries:
            if not ours.fullmatch(entry.name):
                continue
            found = entry.stat(follow_symlinks=False)
            mine = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
            if mine and stat.S_ISREG(found.st_mode) and time.time() - found.st_mtime > ABANDONED:
                os.unlink(entry.path)


def check_target(target: StrPath, *, force: bool) -> None:
    """Raise ArgumentError or OSError if `replacing` would: to be called before the work whose result is written."""
    target = Path(target)
    if target.is_dir():
        raise ArgumentError(f"{str(target)!r} is a directory: name a file to write")
    if not target.parent.is_dir():
        raise ArgumentError(f"{str(target)!r}: its directory does not exist; make it first")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    _check_free(target, force)


def is_same(path: StrPath, other: StrPath) -> bool:
    """True if both name one file, or directory, that is there."""
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):  # one of them is not there, or can't be a name
        return False


def named(target: StrPath, suffixes: tuple[str, ...], more: str = "") -> Path:
    """The path of a file to write; raises ArgumentError, with `more` at its end, unless it has one of the suffixes."""
    path = path_of("target", target)
    if not can_be_a_name(path):
        raise ArgumentError(f"{str(path)!r}: no file can have this name, with a NUL or half a character in it")
    if path.suffix.lower() not in suffixes:
        raise ArgumentError(f"{str(path)!r}: its name must end in {' or '.join(suffixes)}{more}")
    return path


def _check_free(target: Path, force: bool) -> None:
    if os.path.lexists(target) and not force:
        raise ArgumentError(f"{str(target)!r} exists already: choose another name, or overwrite it with --force "
                            "(force=True)")


def _flush_directory(directory: Path) -> None:
    """Make the new name survive a power cut, except on Windows and some network file systems, which can't do that."""
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
