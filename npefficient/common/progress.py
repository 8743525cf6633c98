"""Progress of a long job: a bar on a terminal, a line now and then in a log."""
import contextlib
import os
import sys
import time

from .text import plain

BAR = 20  # characters, where the terminal is wide enough
SHORTEST = 10  # characters; where less is left, there is no bar
REDRAW = 0.1  # seconds between two states of the bar
LINE = 30.0  # seconds between two lines in a log


class Progress:
    """Counts what is done and says so on `stream`, with the speed and the time left.

    total: how many there are; None where nobody knows, as with standard input
    unit: what is counted, in the plural
    stream: where to write; None for sys.stderr. A closed one is no reason to fail. The bar needs its carriage returns,
        which a command's stream would escape, so the stream below that is used, and `say` escapes its text itself.
    done: how many were done before this run: they count, but not for the speed
    scale: what makes up a unit, such as 10**6 for bytes in "MB"; amounts then have one decimal

    A context manager: the last state is written when the block ends, however it ends.
    """

    def __init__(self, total: int | None, unit: str = "photos", stream=None, *, done: int = 0, scale: int = 1,
                 clock=time.monotonic):
        self.total, self.unit, self.done, self.before, self.scale = total, unit, done, done, scale
        stream = sys.stderr if stream is None else stream
        self.stream = getattr(stream, "unfiltered", stream)
        self._clock, self._start, self._shown = clock, clock(), clock()
        self.live = _is_terminal(self.stream)
        self._drawn = 0  # characters on the terminal's line

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def advance(self, n: int = 1) -> None:
        """Count `n` more, and show it if the last time was long enough ago."""
        self.done += n
        now = self._clock()
        if now - self._shown >= (REDRAW if self.live else LINE):
            self._shown = now
            self._show()

    def say(self, text: str) -> None:
        """Write a line of its own, above the bar where there is one."""
        drawn = self._drawn
        self._erase()
        write(self.stream, f"{plain(text)}\n")
        if drawn:
            self._show()

    def close(self) -> None:
        """Write the last state."""
        self._show()
        if self.live:
            write(self.stream, "\n")
            self._drawn = 0

    def _show(self) -> None:
        if not self.live:
            write(self.stream, f"{self.text()}\n")
            return
        line = self._line(_width(self.stream))
        write(self.stream, f"\r{line:{self._drawn}}")
        self._drawn = len(line)

    def _erase(self) -> None:
        if self._drawn:
            write(self.stream, f"\r{'':{self._drawn}}\r")
            self._drawn = 0

    def _line(self, width: int) -> str:
        """The text with a bar before it, as far as `width` allows; the last column stays free, or the line would wrap.
        """
        text, width = self.text(), width - 1
        bar = min(BAR, width - len(text) - 2)
        if not self.total or bar < SHORTEST:
            return text[:width]
        filled = min(bar, bar * self.done // self.total)
        return f"{'#' * filled}{'.' * (bar - filled)}  {text}"

    def text(self) -> str:
        """Such as "1,200 of 2,000 photos (60%), 512.3 photos/s, 0:02 left"."""
        taken = self._clock() - self._start
        rate = (self.done - self.before) / taken if taken > 0 else 0.0
        speed = f"{rate / self.scale:,.1f} {self.unit}/s"
        if self.total is None:
            return f"{self._amount(self.done)} {self.unit}, {speed}, {_span(taken)}"
        share = f" ({100 * self.done // self.total}%)" if self.total else ""
        left = self.total - self.done
        end = f", {_span(left / rate)} left" if left > 0 and rate else "" if left > 0 else f", {_span(taken)}"
        return f"{self._amount(self.done)} of {self._amount(self.total)} {self.unit}{share}, {speed}{end}"

    def _amount(self, count: int) -> str:
        return f"{count:,}" if self.scale == 1 else f"{count / self.scale:,.1f}"


def _span(seconds: float) -> str:
    """Such as "0:05" or "26:00:00"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _is_terminal(stream) -> bool:
    with contextlib.suppress(AttributeError, ValueError):  # None under pythonw, or closed
        return stream.isatty()
    return False


def _width(stream) -> int:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.get_terminal_size(stream.fileno()).columns or 80  # some terminals say 0
    return 80


def write(stream, text: str) -> None:
    """Write to a stream, such as sys.stderr; a closed one, or None, is no reason to fail."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        stream.write(text)
        stream.flush()
