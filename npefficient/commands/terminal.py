"""A command's standard streams, warnings and signals."""
import _thread
import contextlib
import errno
import os
import signal
import sys
import threading
import warnings
from collections import Counter

from ..common.text import ERROR, plain, short

AGAIN = 0.01  # seconds after which an interrupt that Python has ignored is raised again
ALIKE = 5  # warnings shown per place in the code; a job over many photos could give millions


class Closed(BrokenPipeError):
    """The reader of standard output, such as `head`, has closed it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which `docker stop` and schedulers send: a job ends in the same way as after Ctrl-C."""


@contextlib.contextmanager
def guarded():
    """In the block, all output passes through `Stream`, warnings are printed like errors, SIGTERM raises, and no
    interrupt is lost.

    Streams that were closed at the start go to the null device; otherwise the next file opened would take their number.
    """
    before = sys.stdin, sys.stdout, sys.stderr, warnings.showwarning
    _occupy_closed_handles()
    sys.stdin = open(0, closefd=False) if sys.stdin is None else sys.stdin
    sys.stdout = Stream(sys.stdout or open(1, "w", closefd=False), "standard output")
    sys.stderr = Stream(sys.stderr or open(2, "w", closefd=False), None)
    warnings.showwarning = _warnings_shower()
    try:
        with _terminable(), _not_ignored():
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


@contextlib.contextmanager
def _not_ignored():
    """Raise an interrupt again that Python ignored, as it does with any exception in a finalizer or in the callback of
    a weak reference. It says so to `sys.unraisablehook`, where raising has no effect either.
    """
    before = sys.unraisablehook

    def again(ignored) -> None:
        if not isinstance(ignored.exc_value, KeyboardInterrupt):
            return before(ignored)
        number = signal.SIGTERM if isinstance(ignored.exc_value, Terminated) else signal.SIGINT
        threading.Timer(AGAIN, _interrupt, [number]).start()

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before


def _interrupt(number: int) -> None:
    """Send the main thread a signal."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident, number)  # also ends a wait, such as for other threads
    else:
        _thread.interrupt_main(number)
