"""Directories whose contents are used without another check: code that is run, weights that were verified before.

Only this user and root, who can do anything anyway, may be able to change them. So one of the two must own the
directory and every directory above it, and nobody else may write to any of these. The exception is a parent such as
/tmp, where the sticky bit keeps users from replacing each other's files. Windows has access control lists instead,
which are not read: there, the protection of the user's own profile has to suffice.
"""
import errno
import os
import stat
from pathlib import Path

KERNEL = Path("/proc")


def private_directory(path: Path) -> Path:
    """Make a directory and its parents, if they are missing; returns its path without symbolic links.

    Raises OSError if it can't be made. Raises PermissionError, which names the place, if others could change the
    directory or one of its parents, or if the directory itself is a link.
    """
    for missing in [place for place in reversed([path, *path.parents]) if not place.exists()]:
        missing.mkdir(mode=0o700, exist_ok=True)
    path = Path(os.path.realpath(path.parent), path.name)
    for place in reversed([path, *path.parents]):  # from the top: a checked parent protects the next
        check_private(place, leads=place != path)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{str(path)!r} is no directory")
    return path


def check_private(path: Path, *, leads: bool = False) -> None:
    """Raise PermissionError if others could change a file or a directory, OSError if it does not exist.

    leads: it is a parent of the directory in question, where the sticky bit suffices
    """
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise PermissionError(errno.EPERM, f"{str(path)!r} is a link")
    if not is_private(found, leads=leads):
        raise PermissionError(errno.EPERM, f"others can write {str(path)!r}, or own it")


def is_private(found: os.stat_result, *, leads: bool = False) -> bool:
    """True if this user or root is the owner and nobody else may write; always true on Windows."""
    if not hasattr(os, "geteuid"):
        return True
    owners = {os.geteuid(), 0} | (_unknown_owners() if leads else set())
    writers = stat.S_IWOTH | (0 if _is_own_group(found.st_gid) else stat.S_IWGRP)
    return found.st_uid in owners and (not found.st_mode & writers or leads and bool(found.st_mode & stat.S_ISVTX))


def _is_own_group(group: int) -> bool:
    """True for a group with this user's name and no other members: systems that make one for each user often let it
    write."""
    try:
        import grp
        import pwd

        user, members = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except (ImportError, KeyError):
        return False
    return (user.pw_gid, user.pw_name) == (group, members.gr_name) and set(members.gr_mem) <= {user.pw_name}


def _unknown_owners() -> set[int]:
    """The user id that root outside is shown as, in a container that maps only some users; else none."""
    try:
        users = (KERNEL / "self/uid_map").read_text().split()
        return set() if users == ["0", "0", "4294967295"] else {int((KERNEL / "sys/kernel/overflowuid").read_text())}
    except OSError:  # another system
        return set()
