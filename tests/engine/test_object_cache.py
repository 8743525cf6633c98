"""Files of compiled code: what is kept, what is refused, and that nothing old or foreign is ever read."""
import os
import shutil
import stat

import pytest

from npefficient.engine import object_cache

KEY, OTHER, CODE = bytes(range(32)), bytes(range(1, 33)), b"the code" * 100

owners = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows keeps no owner and no mode")


@pytest.fixture
def kept(tmp_path):
    """A directory in which the code of KEY is kept."""
    directory = tmp_path / "cache" / "compiled"
    assert object_cache.read(directory, KEY) is None
    object_cache.write(directory, KEY, CODE)
    assert object_cache.read(directory, KEY) == CODE
    return directory


def test_nothing_is_found_for_another_key(kept):
    assert object_cache.read(kept, OTHER) is None
    shutil.copy(object_cache.path_of(kept, KEY), object_cache.path_of(kept, OTHER))
    assert object_cache.read(kept, OTHER) is None, "a file under another key's name"


@pytest.mark.parametrize("place", [0, 20, 40, 60, 90, -1])
def test_altered_file_is_as_good_as_absent(kept, place):
    path = object_cache.path_of(kept, KEY)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert object_cache.read(kept, KEY) is None


@pytest.mark.parametrize("size", [0, 5, 19, 51, 83, 500, -1])
def test_truncated_file_is_as_good_as_absent(kept, size):
    path = object_cache.path_of(kept, KEY)
    path.write_bytes(path.read_bytes()[:size])
    assert object_cache.read(kept, KEY) is None


@owners
def test_only_the_user_can_read_what_is_written(tmp_path):
    before = os.umask(0)
    try:
        directory = tmp_path / "compiled"
        object_cache.read(directory, KEY)
        object_cache.write(directory, KEY, CODE)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (directory, object_cache.path_of(directory, KEY))]
    assert modes == [0o700, 0o600]


@owners
@pytest.mark.parametrize("mode", [0o702, 0o777])
@pytest.mark.parametrize("place", ["cache", "cache/compiled"])
def test_directory_that_others_can_write_is_not_used(kept, tmp_path, place, mode):
    (tmp_path / place).chmod(mode)
    for use in (lambda: object_cache.read(kept, KEY), lambda: object_cache.write(kept, KEY, CODE)):
        with pytest.raises(PermissionError, match=f"others can write '{tmp_path / place}', or own it"):
            use()


@owners
@pytest.mark.parametrize("mode", [0o602, 0o666])
def test_file_that_others_can_write_is_not_used(kept, mode):
    object_cache.path_of(kept, KEY).chmod(mode)
    assert object_cache.read(kept, KEY) is None
    object_cache.write(kept, KEY, CODE)
    assert object_cache.read(kept, KEY) == CODE


@owners
@pytest.mark.parametrize("place", ["cache", "cache/compiled"])
def test_directory_of_another_user_is_not_used(kept, tmp_path, monkeypatch, place):
    lstat = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: owned(lstat(path), by=4321 if path == tmp_path / place else None))
    with pytest.raises(PermissionError, match=f"others can write '{tmp_path / place}', or own it"):
        object_cache.read(kept, KEY)


def owned(status, by):
    mode, number, device, links, user, *rest = status
    return os.stat_result((mode, number, device, links, user if by is None else by, *rest))


@owners
def test_file_of_another_user_is_not_used(kept, monkeypatch):
    """os.fstat is asked for the file alone."""
    fstat = os.fstat
    monkeypatch.setattr(os, "fstat", lambda handle: owned(fstat(handle), by=4321))
    assert object_cache.read(kept, KEY) is None


@owners
def test_link_to_a_file_elsewhere_is_not_followed(kept, tmp_path):
    path = object_cache.path_of(kept, KEY)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert object_cache.read(kept, KEY) is None


@owners
def test_directory_that_is_a_link_is_not_used(kept, tmp_path):
    """The directory of another user, whose files are those of this one."""
    kept.rename(tmp_path / "elsewhere")
    kept.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="compiled' is a link"):
        object_cache.read(kept, KEY)


def test_only_the_newest_files_stay(kept):
    keys = [bytes([i] * 32) for i in range(object_cache.KEPT + 3)]
    for age, key in enumerate(reversed(keys)):
        object_cache.write(kept, key, CODE)
        path = object_cache.path_of(kept, key)
        os.utime(path, (path.stat().st_mtime - 1000 + age,) * 2)
    object_cache.write(kept, KEY, CODE)
    assert {path.name for path in kept.iterdir()} == {
        object_cache.path_of(kept, key).name for key in (KEY, *keys[: object_cache.KEPT - 1])}
