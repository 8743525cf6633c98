"""What a command writes to stdout and stderr, and what ends it from outside."""
import contextlib
import os
import signal
import sys
import threading
import warnings
from collections import Counter

from ..common.text import ERROR, plain, short

ALIKE = 5  # warnings of the same place in the code that are shown; a job over many photos could bring millions


class Closed(BrokenPipeError):
    """Whoever reads standard output, such as `head`, has seen enough."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, as `docker stop` and schedulers send it: a job ends as it does after Ctrl-C."""


@contextlib.contextmanager
def guarded():
    """For the block, let everything written pass `Stream`, warnings be lines as errors are, and SIGTERM raise.

    Streams that were closed when the process began lead nowhere: the next file that is opened would take their place.
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
    """Write a line of ours to stderr."""
    print(f"npefficient: {short(text, ERROR)}", file=sys.stderr, flush=True)


class Stream:
    """A text stream that writes as escapes what a terminal would obey, but for the end of a line, and what its encoding
    lacks.

    name: what it is called where writing fails; None where that is no reason to stop, as with messages. Flushing says
        once more that it has failed.
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
                kind = Closed if isinstance(problem, BrokenPipeError) else OSError
                self._failure = kind(problem.errno, problem.strerror, self._name)
                raise self._failure from problem

    def _drop(self) -> None:
        """Let what is left lead nowhere, or Python would try it once more when it ends, and complain."""
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.unfiltered.fileno())
            os.close(nowhere)


def _occupy_closed_handles() -> None:
    for handle in (0, 1, 2):
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free: this one


def _warnings_shower():
    """A `warnings.showwarning` for lines as errors are, the first few of each kind."""
    shown = Counter()

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        kind = category, filename, lineno
        shown[kind] += 1
        if shown[kind] <= ALIKE:
            say(f"warning: {message}")
        elif shown[kind] == ALIKE + 1:
            say("warning: more of the same kind, which are not shown")

    return show


@contextlib.contextmanager
def _terminable():
    """Let SIGTERM raise Terminated, where that is ours to decide: in the main thread, and unless it is ignored."""
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
