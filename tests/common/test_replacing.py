"""Replacing a file: whatever happens, there is the whole old file or the whole new one."""
import errno
import os
import stat
import threading
import time

import pytest

from npefficient.common.paths import replacing
from npefficient.errors import ArgumentError, DownloadError


def names(directory) -> list[str]:
    return sorted(os.listdir(directory))


# --- the old file and the new one ------------------------------------------------------------------------------------


def test_replacing_new_file(tmp_path):
    with replacing(tmp_path / "a.h5", force=False) as part:
        assert part.parent == tmp_path and part.read_bytes() == b"" and part.name.endswith(".part")
        assert not (tmp_path / "a.h5").exists()
        part.write_bytes(b"new")
    assert names(tmp_path) == ["a.h5"] and (tmp_path / "a.h5").read_bytes() == b"new"


def test_replacing_old_file_stays_until_the_end(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"old")
    with replacing(tmp_path / "a.h5", force=True) as part:
        part.write_bytes(b"new")
        assert (tmp_path / "a.h5").read_bytes() == b"old"
    assert names(tmp_path) == ["a.h5"] and (tmp_path / "a.h5").read_bytes() == b"new"


def test_replacing_takes_the_place_of_a_file_rewritten_inside(tmp_path):
    """A block may remove the empty file and create its own under that name."""
    with replacing(tmp_path / "a", force=False) as part:
        part.unlink()
        part.write_bytes(b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt("stop"),
                                     ValueError("bad")], ids=["full", "interrupt", "value"])
@pytest.mark.parametrize("place", ["block", "fsync", "replace", "block_without_file"])
@pytest.mark.parametrize("old", [True, False])
def test_replacing_failure_leaves_the_old_file(tmp_path, monkeypatch, place, failure, old):
    def fail(*args):
        raise failure
    if old:
        (tmp_path / "a").write_bytes(b"old")
    if place in ("fsync", "replace"):
        monkeypatch.setattr(os, place, fail)
    with pytest.raises(type(failure), match="No space left|stop|bad"):
        with replacing(tmp_path / "a", force=True) as part:
            part.write_bytes(b"half")
            if place == "block_without_file":
                part.unlink()
            if place.startswith("block"):
                fail()
    assert names(tmp_path) == (["a"] if old else []) and (not old or (tmp_path / "a").read_bytes() == b"old")


def test_replacing_is_done_where_a_directory_can_not_be_flushed(tmp_path, monkeypatch):
    """Some network file systems refuse it, but the file has been replaced by then, so that it is no error."""
    real = os.fsync

    def only_files(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)
    monkeypatch.setattr(os, "fsync", only_files)
    with replacing(tmp_path / "a", force=False) as part:
        part.write_bytes(b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_replacing_flushes_before_it_renames(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace

    def flush(handle):
        order.append("directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)
    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("rename"), replace(a, b)))
    with replacing(tmp_path / "a", force=False) as part:
        part.write_bytes(b"new")
    assert order == ["file", "rename", "directory"]


@pytest.mark.parametrize("mask, expected", [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o002, 0o664), (0, 0o666)])
def test_replacing_permissions_follow_the_umask(tmp_path, mask, expected):
    (tmp_path / "a").touch(0o400)  # the old file's mode must not matter
    before = os.umask(mask)
    try:
        with replacing(tmp_path / "a", force=True) as part:
            assert stat.S_IMODE(part.stat().st_mode) == expected  # from the beginning
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == expected


def test_replacing_never_touches_the_umask(tmp_path, monkeypatch):
    """The umask is the whole process's: another thread's file would get the wrong permissions."""
    def forbidden(mask):
        raise AssertionError("os.umask called")
    monkeypatch.setattr(os, "umask", forbidden)
    with replacing(tmp_path / "a", force=False):
        pass


@pytest.mark.parametrize("make, force, message", [
    (lambda path: path.mkdir(), True, "a.h5' is a directory"),
    (lambda path: path.touch(), False, "a.h5' exists already.*--force"),
    (lambda path: path.symlink_to("nowhere"), False, "a.h5' exists already"),
    (lambda path: path.parent.rmdir(), True, "a.h5': its directory does not exist"),
    (lambda path: (path.parent.rmdir(), path.parent.touch()), True, "a.h5': its directory does not exist"),
], ids=["directory", "exists", "dangling_link", "no_parent", "parent_is_file"])
def test_replacing_refused_before_the_block(tmp_path, make, force, message):
    target = tmp_path / "sub" / "a.h5"
    target.parent.mkdir()
    make(target)
    with pytest.raises(ArgumentError, match=message):
        with replacing(target, force=force):
            pytest.fail("the block must not run")
    assert not target.parent.is_dir() or set(names(target.parent)) <= {"a.h5"}


def test_replacing_target_that_appears_meanwhile(tmp_path):
    """Without force, a file that another program makes while ours is being written is kept."""
    with pytest.raises(ArgumentError, match="a' exists already"):
        with replacing(tmp_path / "a", force=False):
            (tmp_path / "a").write_bytes(b"theirs")
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"theirs"


def test_replacing_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "a").symlink_to("real")
    with replacing(tmp_path / "a", force=True) as part:
        part.write_bytes(b"new")
    assert (tmp_path / "real").read_bytes() == b"old" and not (tmp_path / "a").is_symlink()
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "🐶" * 63, "a b'\"$.h5", "-f", "mod\udce8le.h5"],
                         ids=["255", "two_bytes", "four_bytes", "quotes", "dash", "not_utf8"])
def test_replacing_names(tmp_path, name):
    """The temporary name fits wherever the target's own does (255 bytes)."""
    with replacing(tmp_path / name, force=False) as part:
        part.write_bytes(b"new")
    assert names(tmp_path) == [name]


def test_replacing_name_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with replacing("a.h5", force=False) as part:
        part.write_bytes(b"new")
    assert names(tmp_path) == ["a.h5"]


def test_replacing_from_many_threads(tmp_path):
    """Each thread has its own temporary file, and one of them is the file in the end, whole."""
    def write(i):
        for _ in range(5):
            with replacing(tmp_path / "a", force=True) as part:
                part.write_bytes(bytes([i]) * 10_000)
    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = (tmp_path / "a").read_bytes()
    assert names(tmp_path) == ["a"] and len(data) == 10_000 and len(set(data)) == 1


# --- what killed processes leave -------------------------------------------------------------------------------------


def part(name, age, directory):
    path = directory / name
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.mark.parametrize("target", ["a.h5", "x" * 100 + ".h5", "a [b].*.h5", "mod\udce8le.h5"],
                         ids=["short", "long", "pattern", "not_utf8"])
def test_replacing_removes_what_a_killed_process_left(tmp_path, target):
    old = part(f".{target[:40]}.0123456789abcdef.part", 100_000, tmp_path)
    young = part(f".{target[:40]}.fedcba9876543210.part", 80_000, tmp_path)
    with replacing(tmp_path / target, force=False) as new:
        assert not old.exists()
        new.write_bytes(b"new")
    assert names(tmp_path) == sorted([young.name, target]), "somebody may still write what is young"


@pytest.mark.parametrize("name", [
    ".b.h5.0123456789abcdef.part", ".a.h5.0123456789ABCDEF.part", ".a.h5.0123456789abcde.part", "a.h5.part",
    ".a.h5.0123456789abcdef.part.h5", ".a.h5.0123456789abcdef", ".aXh5.0123456789abcdef.part",
])
def test_replacing_leaves_what_is_not_its_own(tmp_path, name):
    part(name, 100_000, tmp_path)
    with replacing(tmp_path / "a.h5", force=False):
        pass
    assert names(tmp_path) == sorted([name, "a.h5"])


def test_replacing_leaves_directories_links_and_the_files_of_others(tmp_path, monkeypatch):
    (tmp_path / ".a.0000000000000001.part").mkdir()
    os.utime(tmp_path / ".a.0000000000000001.part", (0, 0))
    (tmp_path / "real").touch()
    (tmp_path / ".a.0000000000000002.part").symlink_to("real")
    os.utime(tmp_path / ".a.0000000000000002.part", (0, 0), follow_symlinks=False)
    with replacing(tmp_path / "a", force=False):
        pass
    left = names(tmp_path)
    assert len(left) == 4
    if hasattr(os, "geteuid"):
        theirs, me = part(".a.0000000000000003.part", 100_000, tmp_path), os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
        with replacing(tmp_path / "a", force=True):
            pass
        assert theirs.exists()


def test_replacing_in_a_directory_that_can_not_be_listed(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with replacing(tmp_path / "a", force=False) as new:
        new.write_bytes(b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("name", [None, "part", "other"])
def test_a_failure_names_the_target(tmp_path, name):
    """The error names the target where the system named the temporary file or none; other files keep their names."""
    with pytest.raises(OSError, match="No space left") as caught:
        with replacing(tmp_path / "a", force=False) as part:
            raise OSError(errno.ENOSPC, "No space left", *{None: (), "part": (str(part),), "other": ("b",)}[name])
    assert caught.value.filename == ("b" if name == "other" else str(tmp_path / "a"))


def test_an_error_of_ours_stays_what_it_is(tmp_path):
    with pytest.raises(DownloadError, match="^no network$"):
        with replacing(tmp_path / "a", force=False):
            raise DownloadError("no network")
