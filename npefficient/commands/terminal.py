"""A command's standard streams, warnings and signals."""
import contextlib
import errno
import os
import signal
import sys
import threading
import warnings
from collections import Counter

from ..common.text import ERROR, plain, short

ALIKE = 5  # warnings shown per place in the code; a job over many photos could give millions


class Closed(BrokenPipeError):
    """The reader of standard output, such as `head`, has closed it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which `docker stop` and schedulers send: a job ends in the same way as after Ctrl-C."""


@contextlib.contextmanager
def guarded():
    """In the block, all output passes through `Stream`, warnings are printed like errors, and SIGTERM raises.

    Streams that were closed at the start go to the null device; otherwise the next file opened would take their number.
    """
    before = sys.stdin, sys.stdout, sys.stderr, warnings.showwarning
    _occupy_closed_handles()
    sys.stdin = open(0, closefd=False) if sys.stdin is None else sys.stdin
    sys.stdout = Stream(sys.stdout or open(1, "w", closefd=False), "standard output")
    sys.stderr = Stream(sys.stderr or open(2, "w", closefd=False), None)
    warnings.showwarning = _warnings_shower()
    try:
        with _terminable():
            yield
    finally:
        sys.stdin, sys.stdout, sys.stderr, warnings.showwarning = before


def say(text) -> None:
    """Write one line to stderr, after the program's name."""
    print(f"npefficient: {short(text, ERROR)}", file=sys.stderr, flush=True)


class Stream:
    """A text stream that escapes control characters, except newlines, and characters that its encoding lacks.

    name: the stream's name in errors; None ignores errors, as for messages. After an error, flushing raises it again.
    """

    def __init__(self, stream, name: str | None):
        self.unfiltered, self._name, self._failure = stream, name, None

    def __getattr__(self, attribute: str):
        return getattr(self.unfiltered, attribute)

    def write(self, text: str) -> int:
        clean = "\n".join(map(plain, text.split("\n")))
        encoding = getattr(self.unfiltered, "encoding", None)
        if encoding:
            clean = clean.encode(encoding, "backslashreplace").decode(encoding)
        with self._failures():
            self.unfiltered.write(clean)
        return len(text)

    def writelines(self, lines) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._failure:
            raise self._failure
        with self._failures():
            self.unfiltered.flush()

    @contextlib.contextmanager
    def _failures(self):
        try:
            yield
        except OSError as problem:
            self._drop()
            if self._name:
                kind = Closed if _has_no_reader(problem) else OSError
                self._failure = kind(problem.errno, problem.strerror, self._name)
                raise self._failure from problem

    def _drop(self) -> None:
        """Send the rest to the null device; otherwise Python would try to write it again at exit, and complain."""
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.unfiltered.fileno())
            os.close(nowhere)


def _has_no_reader(problem: OSError) -> bool:
    """True if a pipe was closed at its other end; Windows then says EINVAL (bugs.python.org/issue35754)."""
    return isinstance(problem, BrokenPipeError) or sys.platform == "win32" and problem.errno == errno.EINVAL


def _occupy_closed_handles() -> None:
    for handle in (0, 1, 2):
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _warnings_shower():
    """A `warnings.showwarning` that prints warnings like errors, and only the first few of each kind."""
    shown = Counter()

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        kind = category, filename, lineno
        shown[kind] += 1
        if shown[kind] <= ALIKE:
            say(f"warning: {message}")
        elif shown[kind] == ALIKE + 1:
            say("warning: more warnings of the same kind are not shown")

    return show


@contextlib.contextmanager
def _terminable():
    """Let SIGTERM raise Terminated: in the main thread only, and only if nobody else has set or ignored the signal."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not ours:
        yield
        return

    def terminate(*_):
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
