"""Directories that nobody else can change: how they are made and checked, and that caches use no others."""
import os
import stat
from types import SimpleNamespace

import pytest

from npefficient import hub
from npefficient.common import private_directory
from npefficient.common.private_directory import check_private, is_private
from npefficient.errors import DownloadError
from npefficient.hub import packaged
from npefficient.network.variants import VARIANTS

pwd = pytest.importorskip("pwd", reason="Windows keeps no owner and no mode")
grp = pytest.importorskip("grp")

USER = 1234  # nobody of this machine


@pytest.fixture(autouse=True)
def no_package(monkeypatch):
    """Weights come from the cache or over the network."""
    monkeypatch.setattr(packaged, "find", lambda package: None)


@pytest.fixture(autouse=True)
def initial_namespace(monkeypatch, tmp_path):
    """As outside of a container, wherever the tests run."""
    set_users(monkeypatch, tmp_path, "0 0 4294967295")


def set_users(monkeypatch, tmp_path, users, unknown=65534):
    kernel = tmp_path / "proc"
    (kernel / "self").mkdir(parents=True, exist_ok=True)
    (kernel / "sys" / "kernel").mkdir(parents=True, exist_ok=True)
    (kernel / "self" / "uid_map").write_text(f"         {users}\n")
    (kernel / "sys" / "kernel" / "overflowuid").write_text(f"{unknown}\n")
    monkeypatch.setattr(private_directory, "KERNEL", kernel)


def of(mode, owner, group=4321):
    return SimpleNamespace(st_mode=stat.S_IFDIR | mode, st_uid=owner, st_gid=group)


@pytest.fixture
def user(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: USER)


# --- one file or directory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode, owner, itself, leading", [
    (0o700, USER, True, True), (0o755, USER, True, True), (0o755, 0, True, True),
    (0o755, USER + 1, False, False), (0o700, 65534, False, False),
    (0o775, USER, False, False), (0o757, USER, False, False), (0o777, 0, False, False),
    (0o1777, 0, False, True), (0o1775, 0, False, True), (0o1777, USER + 1, False, False),
], ids=["own", "readable", "root", "another", "nobody", "group", "others", "all", "tmp", "sticky_group",
        "anothers_tmp"])
def test_is_private(user, mode, owner, itself, leading):
    assert is_private(of(mode, owner)) is itself
    assert is_private(of(mode, owner), leads=True) is leading


@pytest.mark.parametrize("group, members, mode, expected", [
    ("ann", [], 0o775, True), ("ann", ["ann"], 0o775, True), ("ann", ["bob"], 0o775, False),
    ("users", [], 0o775, False), ("ann", [], 0o777, False),
], ids=["own", "own_named", "shared", "another_name", "others"])
def test_group_of_one_user_is_that_user(user, monkeypatch, group, members, mode, expected):
    """Umask 002 is usual where each user has a group of their own."""
    monkeypatch.setattr(pwd, "getpwuid", lambda number: SimpleNamespace(pw_name="ann", pw_gid=77))
    monkeypatch.setattr(grp, "getgrgid", lambda number: SimpleNamespace(gr_name=group, gr_mem=members))
    assert is_private(of(mode, USER, 77)) is expected
    assert is_private(of(mode, USER, 78)) is False, "not the user's first group"


def test_group_of_a_user_without_an_entry(user, monkeypatch):
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # KeyError, as the real one
    assert is_private(of(0o755, USER)) and not is_private(of(0o775, USER))


@pytest.mark.parametrize("users, expected", [("0 0 4294967295", False), ("1234 1000 1", True)],
                         ids=["host", "container"])
def test_root_of_the_host_is_nobody_in_a_container(user, monkeypatch, tmp_path, users, expected):
    set_users(monkeypatch, tmp_path, users)
    assert is_private(of(0o755, 65534), leads=True) is expected
    assert is_private(of(0o755, 65534)) is False, "the directory itself has to be the user's"
    assert is_private(of(0o777, 65534), leads=True) is False


def test_system_without_proc(user, monkeypatch, tmp_path):
    monkeypatch.setattr(private_directory, "KERNEL", tmp_path / "none")
    assert is_private(of(0o755, 0), leads=True) and not is_private(of(0o755, 65534), leads=True)


def test_windows_has_no_owners(monkeypatch):
    monkeypatch.delattr(os, "geteuid")
    assert is_private(of(0o777, USER))


def test_check_private_tells_which_and_why(tmp_path):
    (tmp_path / "file").touch()
    check_private(tmp_path / "file")
    (tmp_path / "file").chmod(0o666)
    with pytest.raises(PermissionError, match=rf"others can write '{tmp_path}/file', or own it"):
        check_private(tmp_path / "file")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(PermissionError, match=rf"'{tmp_path}/link' is a link"):
        check_private(tmp_path / "link")
    with pytest.raises(FileNotFoundError, match="none"):
        check_private(tmp_path / "none")


# --- a directory and what leads there --------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0, 0o022, 0o077], ids=oct)
def test_made_for_this_user_alone(tmp_path, mask):
    before = os.umask(mask)
    try:
        got = private_directory.private_directory(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    assert got == tmp_path / "a" / "b" / "c"
    assert [stat.S_IMODE(place.stat().st_mode) for place in (got, got.parent, got.parent.parent)] == [0o700] * 3
    assert private_directory.private_directory(got) == got


@pytest.mark.parametrize("place", ["a", "a/b", "a/b/c"])
def test_refused_where_others_can_write_anywhere_above(tmp_path, place):
    directory = private_directory.private_directory(tmp_path / "a" / "b" / "c")
    (tmp_path / place).chmod(0o777)
    with pytest.raises(PermissionError, match=rf"others can write '{tmp_path}/{place}', or own it"):
        private_directory.private_directory(directory)
    (tmp_path / place).chmod(0o1777)
    if place == "a/b/c":
        with pytest.raises(PermissionError, match=rf"others can write '{directory}'"):
            private_directory.private_directory(directory)
    else:
        assert private_directory.private_directory(directory) == directory


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("place", ["a", "a/b"])
def test_refused_where_another_user_owns_what_leads_there(tmp_path, place):
    directory = private_directory.private_directory(tmp_path / "a" / "b" / "c")
    os.chown(tmp_path / place, USER, -1)
    with pytest.raises(PermissionError, match=rf"others can write '{tmp_path}/{place}', or own it"):
        private_directory.private_directory(directory)


def test_link_on_the_way_counts_for_where_it_leads(tmp_path):
    real = private_directory.private_directory(tmp_path / "real" / "cache")
    (tmp_path / "link").symlink_to("real")
    assert private_directory.private_directory(tmp_path / "link" / "cache") == real
    (tmp_path / "real").chmod(0o777)
    with pytest.raises(PermissionError, match=rf"others can write '{tmp_path}/real'"):
        private_directory.private_directory(tmp_path / "link" / "cache")


@pytest.mark.parametrize("target", ["real", "nowhere", "loop"])
def test_directory_that_is_a_link_is_refused(tmp_path, target):
    (tmp_path / "real").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    if target != "loop":
        (tmp_path / "link").symlink_to(target)
    with pytest.raises(OSError, match="link' is a link|File exists|symbolic links"):
        private_directory.private_directory(tmp_path / ("loop" if target == "loop" else "link"))
    assert not (tmp_path / "nowhere").exists()


def test_file_in_the_place_of_a_directory(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory|File exists"):
        private_directory.private_directory(tmp_path / "file" / "a")
    with pytest.raises(OSError, match="file' is no directory"):
        private_directory.private_directory(tmp_path / "file")


# --- whom it keeps out -----------------------------------------------------------------------------------------------


@pytest.fixture
def planted(monkeypatch, tmp_path):
    """A weight file that somebody else has put where the official one would be."""
    monkeypatch.setenv("NPEFFICIENT_CACHE", str(tmp_path / "cache"))
    variant = VARIANTS["tf_efficientnet_lite0"]
    file = private_directory.private_directory(tmp_path / "cache" / "weights") / f"{variant.file[:-4]}.h5"
    file.write_bytes(b"planted")
    file.chmod(0o644)
    return file


def test_planted_weights_can_be_seen(planted):
    assert hub.kept("lite0") == hub.pretrained("lite0") == planted


@pytest.mark.parametrize("place, mode", [("cache", 0o777), ("cache/weights", 0o777), ("cache/weights", 0o1777)])
def test_planted_weights_are_not_taken(planted, tmp_path, place, mode):
    (tmp_path / place).chmod(mode)
    for ask in (hub.kept, hub.pretrained):
        with pytest.raises(DownloadError, match=rf"weights can't be used .*others can write '{tmp_path}/{place}', or"):
            ask("lite0")


def test_planted_weights_that_stayed_are_not_taken(planted):
    planted.chmod(0o666)
    with pytest.raises(DownloadError, match=f"others can write '{planted}', or own it.*NPEFFICIENT_CACHE"):
        hub.pretrained("lite0")


def test_lock_that_leads_elsewhere_makes_no_file(planted, tmp_path):
    planted.unlink()
    (planted.parent / f".{VARIANTS['tf_efficientnet_lite0'].file}.lock").symlink_to(tmp_path / "elsewhere")
    planted.parent.chmod(0o777)
    with pytest.raises(DownloadError, match="weights can't be used"):
        hub.pretrained("lite0")
    assert not (tmp_path / "elsewhere").exists()
