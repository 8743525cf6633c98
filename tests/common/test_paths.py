"""The cache directory, and the check of a target before any work."""
import os
from pathlib import Path

import pytest

from npefficient.common.paths import cache_directory, check_target
from npefficient.errors import ArgumentError

# --- the cache directory ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment, expected", [
    ({"NPEFFICIENT_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}, "/a/b"),
    ({"NPEFFICIENT_CACHE": "~/mine"}, "/home/me/mine"),
    ({"NPEFFICIENT_CACHE": "here"}, "CWD/here"),
    ({"NPEFFICIENT_CACHE": "", "XDG_CACHE_HOME": "/x"}, "/x/npefficient"),
    ({"XDG_CACHE_HOME": "/x"}, "/x/npefficient"),
    ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/npefficient"),
    ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/npefficient"),
    ({}, "/home/me/.cache/npefficient"),
], ids=["own", "own_home", "own_relative", "own_empty", "xdg", "xdg_relative", "xdg_empty", "neither"])
def test_cache_directory(monkeypatch, tmp_path, environment, expected):
    for name in ("NPEFFICIENT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    assert cache_directory() == Path(expected.replace("CWD", str(tmp_path)))
    assert os.listdir(tmp_path) == []  # it is not created yet


@pytest.mark.parametrize("own", [None, "~nobody-of-this-name/cache"])
def test_cache_directory_without_a_home(monkeypatch, own):
    def unknown(path):
        return path
    for name in ("NPEFFICIENT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    if own:
        monkeypatch.setenv("NPEFFICIENT_CACHE", own)
    monkeypatch.setattr(os.path, "expanduser", unknown)  # as for a user without an entry
    with pytest.raises(ArgumentError, match=f"NPEFFICIENT_CACHE={own!r}.*set NPEFFICIENT_CACHE"):
        cache_directory()


# --- what is refused beforehand --------------------------------------------------------------------------------------


def test_check_target_accepts_what_can_be_written(tmp_path):
    check_target(tmp_path / "a.h5", force=False)
    (tmp_path / "a.h5").write_bytes(b"old")
    check_target(str(tmp_path / "a.h5"), force=True)
    assert os.listdir(tmp_path) == ["a.h5"]


@pytest.mark.parametrize("name, text", [
    ("old", "old' exists already"), ("folder", "folder' is a directory"),
    ("none/a.h5", "none/a.h5': its directory does"),
], ids=["old", "folder", "no_folder"])
def test_check_target_refuses(tmp_path, name, text):
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ArgumentError, match=text):
        check_target(tmp_path / name, force=False)
