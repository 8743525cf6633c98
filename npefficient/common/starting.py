"""Ctrl-C while a command starts, and after it has ended: the process ends quietly, with exit code 130.

Until `main` is there to handle an interrupt, NumPy and much else is imported, for some tenths of a second. So this is
imported before them, by `npefficient/__init__.py`. After `main`, Python waits for threads. This module does nothing
unless the process is the command `npefficient`.
"""
import os
import sys

INTERRUPTED = 130  # 128 + the number of SIGINT
COMMANDS = ("npefficient", "-m")  # the installed script; "-m" stands there while Python imports what it is to run
_COMMAND = os.path.splitext(os.path.basename(getattr(sys, "argv", [""])[0]))[0] in COMMANDS  # ".exe" on Windows


def _end(*_) -> None:
    os._exit(INTERRUPTED)  # in the midst of an import, or after the last flush: there is nothing to tidy up


def started() -> None:
    """From now on an interrupt raises KeyboardInterrupt again."""
    if (signal := sys.modules.get("signal")) and signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def quiet() -> None:
    """From now on an interrupt ends the process, if that is the command `npefficient`."""
    if not _COMMAND:
        return
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # neither ignored, as after `nohup`, nor taken
        signal.signal(signal.SIGINT, _end)


quiet()
