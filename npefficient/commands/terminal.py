"""What a command writes to stdout and stderr, and what ends it from outside."""
import contextlib
import os
import signal
import sys
import threading
import warnings

from ..common.text import ERROR, plain, short


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
    warnings.showwarning = _show_warning
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

    name: what it is called where writing fails; None where that is no reason to stop, as with messages
    """

    def __init__(self, stream, name: str | None):
        self.unfiltered, self._name = stream, name

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
        with self._failures():
            self.unfiltered.flush()

    @contextlib.contextmanager
    def _failures(self):
        try:
            yield
        except OSError as problem:
            self._drop()
            if isinstance(problem, BrokenPipeError) and self._name:
                raise
            if self._name:
                raise OSError(problem.errno, problem.strerror, self._name) from problem

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


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    say(f"warning: {message}")


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
