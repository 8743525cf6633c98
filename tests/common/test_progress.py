"""Progress: what it says, on a terminal and in a log."""
import io
import os
import re

import pytest
from fake_clock import Clock

from npefficient.common.progress import LINE, REDRAW, Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def screen(self):
        """What a terminal shows in the end."""
        lines, column = [""], 0
        for c in self.getvalue():
            if c == "\n":
                lines.append("")
                column = 0
            elif c == "\r":
                column = 0
            else:
                lines[-1] = lines[-1][:column] + c + lines[-1][column + 1:]
                column += 1
        return [line.rstrip() for line in lines]


def run(progress, clock, count, seconds):
    for _ in range(count):
        clock.now += seconds
        progress.advance()


@pytest.mark.parametrize("total, done, count, expected", [
    (2000, 0, 500, "500 of 2,000 photos (25%), 10.0 photos/s, 2:30 left"),
    (2000, 1000, 500, "1,500 of 2,000 photos (75%), 10.0 photos/s, 0:50 left"),
    (500, 0, 500, "500 of 500 photos (100%), 10.0 photos/s, 0:50"),
    (None, 0, 500, "500 photos, 10.0 photos/s, 0:50"),
    (2000, 0, 0, "0 of 2,000 photos (0%), 0.0 photos/s"),
    (0, 0, 0, "0 of 0 photos, 0.0 photos/s, 0:00"),
    (100, 0, 500, "500 of 100 photos (500%), 10.0 photos/s, 0:50"),
    (10_000_000, 0, 10, "10 of 10,000,000 photos (0%), 10.0 photos/s, 277:46:39 left"),
], ids=["amid", "resumed", "done", "total_unknown", "nothing_yet", "nothing_at_all", "more_than_announced", "days"])
def test_text_of_progress(total, done, count, expected):
    clock = Clock()
    progress = Progress(total, stream=io.StringIO(), done=done, clock=clock)
    run(progress, clock, count, 0.1)
    assert progress.text() == expected


def test_unit_is_said():
    assert Progress(4, "layers", io.StringIO(), clock=Clock()).text() == "0 of 4 layers (0%), 0.0 layers/s"


def test_bytes_are_said_in_megabytes():
    clock = Clock()
    progress = Progress(18_600_000, "MB", io.StringIO(), scale=10**6, clock=clock)
    clock.now += 2
    progress.advance(3_100_000)
    assert progress.text() == "3.1 of 18.6 MB (16%), 1.6 MB/s, 0:10 left"


def test_log_has_a_line_now_and_then_and_a_last_one():
    clock, log = Clock(), io.StringIO()
    with Progress(100, stream=log, clock=clock) as progress:
        run(progress, clock, 100, LINE / 40)
    lines = log.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["40", "80", "100"] and "\r" not in log.getvalue()


def test_log_has_a_last_line_after_an_error():
    log = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Progress(9, stream=log, clock=Clock()) as progress:  # noqa: PT012
        progress.advance(3)
        raise KeyboardInterrupt
    assert log.getvalue() == "3 of 9 photos (33%), 0.0 photos/s\n"


def test_bar_grows_in_one_line():
    clock, screen = Clock(), Terminal()
    with Progress(40, stream=screen, clock=clock) as progress:
        run(progress, clock, 10, REDRAW)
        assert screen.screen() == ["#####" + "." * 15 + "  10 of 40 photos (25%), 10.0 photos/s, 0:03 left"]
        run(progress, clock, 30, REDRAW)
    (line, rest) = screen.screen()
    assert line == "#" * 20 + "  40 of 40 photos (100%), 10.0 photos/s, 0:04" and rest == ""


def test_bar_is_not_drawn_for_every_photo():
    clock, screen = Clock(), Terminal()
    run(Progress(1000, stream=screen, clock=clock), clock, 1000, REDRAW / 50)
    assert screen.getvalue().count("\r") <= 20


@pytest.mark.parametrize("width", [1, 2, 10, 40, 59, 60, 61, 62, 80, 200, 0])
@pytest.mark.parametrize("total", [40, None], ids=["total", "no_total"])
def test_bar_never_fills_the_last_column(monkeypatch, width, total):
    """Otherwise the terminal would wrap, and each update would take a new line."""
    monkeypatch.setattr(os, "get_terminal_size", lambda handle: os.terminal_size((width, 24)))
    clock, screen = Clock(), Terminal()
    screen.fileno = lambda: 2
    with Progress(total, stream=screen, clock=clock) as progress:
        run(progress, clock, 40, REDRAW)
    assert max(map(len, re.split("[\r\n]", screen.getvalue()))) <= (width or 80) - 1
    assert len(screen.screen()) == 2


def test_a_shorter_state_covers_the_longer_one(monkeypatch):
    clock, screen, widths = Clock(), Terminal(), iter([200, 40])
    monkeypatch.setattr(os, "get_terminal_size", lambda handle: os.terminal_size((next(widths), 24)))
    screen.fileno = lambda: 2
    progress = Progress(4000, stream=screen, clock=clock)
    run(progress, clock, 2, 10 * REDRAW)
    assert screen.screen() == ["2 of 4,000 photos (0%), 1.0 photos/s, 1"]


def test_say_puts_a_line_above_the_bar():
    clock, screen = Clock(), Terminal()
    with Progress(40, stream=screen, clock=clock) as progress:
        progress.say("first")
        run(progress, clock, 10, REDRAW)
        progress.say("second")
    first, second, bar, rest = screen.screen()
    assert (first, second, rest) == ("first", "second", "") and "10 of 40 photos" in bar


def test_say_in_a_log():
    log = io.StringIO()
    Progress(40, stream=log, clock=Clock()).say("first")
    assert log.getvalue() == "first\n"


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("stream", [Full(), "closed"], ids=["full", "closed"])
def test_a_stream_that_takes_nothing_is_no_failure(stream):
    if stream == "closed":
        stream = io.StringIO()
        stream.close()
    with Progress(2, stream=stream) as progress:
        progress.advance(2)
        progress.say("done")
    assert progress.done == 2


def test_stderr_is_the_default(capsys):
    with Progress(2) as progress:
        progress.advance(2)
    assert re.fullmatch(r"2 of 2 photos \(100%\), [\d,.]+ photos/s, 0:00\n", capsys.readouterr().err)
