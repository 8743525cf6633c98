"""Directories whose content is taken as it is: code that is run, weights that nothing verifies any more.

Nobody but this user and root, who can do anything, may be able to change what lies there. So they have to own the
directory and every one above it, and nobody else may write into one of these, but for directories such as /tmp, where
the sticky bit keeps others from exchanging what is not theirs. Windows keeps no such record.
"""
import errno
import os
import stat
from pathlib import Path

KERNEL = Path("/proc")


def private_directory(path: Path) -> Path:
    """Make a directory where it is missing, with all above it; returns where it really lies.

    Raises OSError where it can't be made, and PermissionError, which names the place, where others could change it or
    what leads there. Links may lead to the directory, but it is no link itself.
    """
    for missing in [place for place in reversed([path, *path.parents]) if not place.exists()]:
        missing.mkdir(mode=0o700, exist_ok=True)
    path = Path(os.path.realpath(path.parent), path.name)
    for place in reversed([path, *path.parents]):  # from the top: what has been checked keeps others from the next
        check_private(place, leads=place != path)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{str(path)!r} is no directory")
    return path


def check_private(path: Path, *, leads: bool = False) -> None:
    """Raise PermissionError where others could change a file or a directory; of one that leads there, what they own.

    Raises OSError where there is nothing.
    """
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise PermissionError(errno.EPERM, f"{str(path)!r} is a link")
    if not is_private(found, leads=leads):
        raise PermissionError(errno.EPERM, f"others can write {str(path)!r}, or own it")


def is_private(found: os.stat_result, *, leads: bool = False) -> bool:
    """True where this user or root is the owner, and nobody else may write; Windows keeps no such record."""
    if not hasattr(os, "geteuid"):
        return True
    owners = {os.geteuid(), 0} | (_unknown_owners() if leads else set())
    writers = stat.S_IWOTH | (0 if _is_own_group(found.st_gid) else stat.S_IWGRP)
    return found.st_uid in owners and (not found.st_mode & writers or leads and bool(found.st_mode & stat.S_ISVTX))


def _is_own_group(group: int) -> bool:
    """True for the group of this user's own name with nobody else in it: where each has one, all are given its rights.
    """
    try:
        import grp
        import pwd

        user, members = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except (ImportError, KeyError):
        return False
    return (user.pw_gid, user.pw_name) == (group, members.gr_name) and set(members.gr_mem) <= {user.pw_name}


def _unknown_owners() -> set[int]:
    """Whom root outside of a container is shown as inside, where this is a container that has not all users."""
    try:
        users = (KERNEL / "self/uid_map").read_text().split()
        return set() if users == ["0", "0", "4294967295"] else {int((KERNEL / "sys/kernel/overflowuid").read_text())}
    except OSError:  # another system
        return set()
