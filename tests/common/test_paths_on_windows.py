"""Replacing a file on Windows, which refuses that while any program has it open; its refusals are simulated."""
import errno
import os
import sys

import pytest

from npefficient.common import paths
from npefficient.common.paths import replacing


@pytest.fixture
def open_elsewhere(monkeypatch):
    """open_elsewhere(n): Windows, where another program has the target open for the first n attempts; list of them."""
    def start(refusals):
        replace, attempts = os.replace, []

        def refuse(part, target):
            attempts.append(target)
            if len(attempts) <= refusals:
                raise PermissionError(errno.EACCES, "Access is denied", str(part), 5, str(target))
            replace(part, target)

        monkeypatch.setattr(os, "replace", refuse)
        monkeypatch.setattr(sys, "platform", "win32")
        return attempts

    return start


def test_replacing_on_windows_waits_for_the_virus_scanner(tmp_path, open_elsewhere):
    (tmp_path / "a").write_bytes(b"old")
    attempts = open_elsewhere(2)
    with replacing(tmp_path / "a", force=True) as part:
        part.write_bytes(b"new")
    assert len(attempts) == 3 and os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"new"


def test_replacing_on_windows_names_the_file_that_stays_open(tmp_path, monkeypatch, open_elsewhere):
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(paths, "PATIENCE", 0.2)
    attempts = open_elsewhere(1000)
    with pytest.raises(PermissionError, match="Access is denied; if another program has it open, close it") as caught:
        with replacing(tmp_path / "a", force=True) as part:
            part.write_bytes(b"new")
    assert caught.value.filename == str(tmp_path / "a") and len(attempts) > 1
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"old"


def test_replacing_elsewhere_does_not_ask_again(tmp_path, monkeypatch, open_elsewhere):
    attempts = open_elsewhere(1000)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(PermissionError, match="Access is denied$|Access is denied: "):
        with replacing(tmp_path / "a", force=True):
            pass
    assert len(attempts) == 1
