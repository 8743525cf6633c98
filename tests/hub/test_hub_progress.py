"""How far a download is, as stderr shows it."""
import io
import sys

import pytest
from hub_server import CONTENT, FILE, unsized

from npefficient.errors import DownloadError
from npefficient.hub import pretrained


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal_counts_in_one_line(server, weights, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    pretrained("lite0")
    got = sys.stderr.getvalue()
    assert got.endswith(f"\r{FILE}: 1.0 of 1.0 MB\n") and got.count("\n") == 1 and 2 <= got.count("\r") <= 101


def test_progress_on_a_terminal_ends_its_line_before_an_error(server, weights, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    server.replies = [unsized(CONTENT + b"x")]
    with pytest.raises(DownloadError, match="more than the 1024000 bytes"):
        pretrained("lite0")
    assert sys.stderr.getvalue().endswith("MB\n")


def test_progress_elsewhere_is_a_line_per_quarter(server, weights, capsys):
    pretrained("lite0")
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == f"{FILE}: 1.0 of 1.0 MB" and 2 <= len(lines) <= 5


@pytest.mark.parametrize("stream", [None, "closed"])
def test_progress_without_a_usable_stderr_is_no_error(stream, server, weights, monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", None if stream is None else closed)
    assert pretrained("lite0").exists()


def test_progress_false_prints_nothing(server, weights, capsys):
    pretrained("lite0", progress=False)
    assert capsys.readouterr().err == ""
