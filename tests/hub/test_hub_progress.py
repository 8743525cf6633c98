"""The progress of a download on stderr."""
import io
import re
import sys

import pytest
from hub_server import CONTENT, FILE, status, unsized

from npefficient.errors import DownloadError
from npefficient.hub import download, pretrained


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal_counts_in_one_line(server, weights, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    pretrained("lite0")
    first, bar, rest = sys.stderr.getvalue().split("\n")
    assert first == f"fetching {FILE}, 1.0 MB" and rest == ""
    assert re.search(r"\r#{20}  1\.0 of 1\.0 MB \(100%\), [\d,.]+ MB/s, \d:\d\d *$", bar)


def test_progress_on_a_terminal_ends_its_line_before_an_error(server, weights, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    server.replies = [unsized(CONTENT + b"x")]
    with pytest.raises(DownloadError, match="more than the 1024000 bytes"):
        pretrained("lite0")
    assert re.search(r"\r.* of 1\.0 MB .*\n$", sys.stderr.getvalue())


def test_progress_in_a_log_is_a_line_at_the_start_and_one_at_the_end(server, weights, capsys):
    pretrained("lite0")
    first, last = capsys.readouterr().err.splitlines()
    assert first == f"fetching {FILE}, 1.0 MB" and re.fullmatch(r"1\.0 of 1\.0 MB \(100%\), [\d,.]+ MB/s, 0:0\d", last)


def test_progress_of_a_server_that_answers_with_an_error_is_no_state(server, weights, monkeypatch, capsys):
    monkeypatch.setattr(download, "PAUSES", ())
    server.replies = [status(500)]
    with pytest.raises(DownloadError, match="500"):
        pretrained("lite0")
    assert capsys.readouterr().err == f"fetching {FILE}, 1.0 MB\n"


@pytest.mark.parametrize("stream", [None, "closed"])
def test_progress_without_a_usable_stderr_is_no_error(stream, server, weights, monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", None if stream is None else closed)
    assert pretrained("lite0").exists()


def test_progress_false_prints_nothing(server, weights, capsys):
    pretrained("lite0", progress=False)
    assert capsys.readouterr().err == ""
