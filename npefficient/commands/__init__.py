"""The command line: a file per subcommand, each with `add_arguments(parser)` and `run(args) -> exit code`.

Exit codes: 0 success, 1 failure (the reason is on stderr), 2 usage error, 70 a bug in npefficient, 130 interrupted,
141 the reader of standard output has gone, 143 terminated. A subcommand that answers yes or no uses 1 for no, and
defines its own code for failures as TROUBLE. It rejects a command line with `args.refuse(text)`, which prints its
usage.
"""
import argparse
import importlib
import os
import sys

from ..common import starting
from . import terminal

SUBCOMMANDS = ("bench", "classify", "compare", "convert", "explain", "export", "finetune", "info", "list", "profile",
               "quantize", "train", "validate", "warmup")
WRONG, FAULT = 1, 70  # 70: EX_SOFTWARE of sysexits.h
INTERRUPTED, CLOSED, TERMINATED = starting.INTERRUPTED, 141, 143  # 128 + the number of SIGINT, SIGPIPE, SIGTERM
TRACEBACK = "NPEFFICIENT_TRACEBACK"
# Environment variables; NPEFFICIENT_SHIP is read by setup.py, and is set while that calls a subcommand.
SETTINGS = ("NPEFFICIENT_CACHE", "NPEFFICIENT_MIRROR", "NPEFFICIENT_SHIP", TRACEBACK)


class _Parser(argparse.ArgumentParser):
    """Takes options before, between and after the other arguments; reports an error on one line, below the usage of
    the innermost subcommand."""

    _mixing = False  # within argparse's own method for such an order, which may call `parse_known_args`

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.set_defaults(refuse=self.error)

    def parse_known_args(self, args=None, namespace=None):
        found, unknown = super().parse_known_args(args, namespace)
        if self._mixing:
            return found, unknown
        if unknown and not any(word.startswith("-") and word != "-" for word in unknown):
            # as in `A --topk 1 B`: argparse ends a list of any length at the first option
            self._mixing = True
            found, unknown = self.parse_known_intermixed_args(args, namespace)
            self._mixing = False
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message):
        from ..common.text import ERROR, short

        super().error(short(message, ERROR))


def _module(name: str):
    return importlib.import_module(f"{__name__}.{name}")


def _parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The parser of all subcommands, or of just the chosen one if it is known, which is faster to build."""
    from ..common.version import __version__

    parser = _Parser(
        prog="npefficient", description="EfficientNet-Lite on the CPU, without PyTorch.",
        epilog="'npefficient SUBCOMMAND --help' explains a subcommand. Exit codes: 0 success; 1 failure, with the "
               f"reason on stderr; 2 usage error; 70 a bug in npefficient, whose traceback {TRACEBACK}=1 shows; "
               "130 and 143 interrupted by Ctrl-C or SIGTERM; 141 the reader of the output, such as head, has gone.")
    parser.add_argument("--version", action="version", version=f"npefficient {__version__}")
    parts = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    for name in [chosen] if chosen in SUBCOMMANDS else SUBCOMMANDS:
        module = _module(name)
        first, _, rest = (module.__doc__ or "").partition("\n")  # with python -OO there is none
        part = parts.add_parser(name, help=first.rstrip("."), description=first, epilog=rest.strip() or None,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(part)
    return parser


def _parsed(arguments: list[str]) -> argparse.Namespace:
    try:
        return _parser(*arguments[:1]).parse_args(arguments)
    except SystemExit:
        sys.stdout.flush()  # argparse ignores errors when it prints --help; this raises them
        raise


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        with terminal.guarded():
            return _run(sys.argv[1:] if arguments is None else arguments)
    finally:
        starting.quiet()


def _run(arguments: list[str]) -> int:
    """Run a command; any failure becomes a line on stderr and an exit code."""
    from ..errors import NpefficientError

    subcommand = None
    try:
        starting.started()
        args = _parsed(arguments)
        _warn_of_unknown_settings()
        subcommand = _module(args.subcommand)
        code = subcommand.run(args)
        sys.stdout.flush()
        return code
    except terminal.Closed:
        return CLOSED
    except NpefficientError as error:
        terminal.say(f"error: {error}")
    except OSError as error:
        terminal.say(f"error: {error.filename or 'the system'}: {error.strerror or error}")
    except Warning as warning:  # for whoever has made warnings errors, such as by PYTHONWARNINGS
        terminal.say(f"error: {warning}")
    except MemoryError:
        terminal.say("error: there is not enough memory")
    except KeyboardInterrupt as stop:
        starting.quiet()  # a second one
        terminal.say("interrupted" + (f": {stop}" if str(stop) else ""))
        return TERMINATED if isinstance(stop, terminal.Terminated) else INTERRUPTED
    except Exception as fault:
        if not _is_for_want_of_numba(fault):
            _show(fault)
            return FAULT
        terminal.say(f"error: {args.subcommand} needs Numba, which is not installed: python -m pip install numba")
    return getattr(subcommand, "TROUBLE", WRONG)


def _warn_of_unknown_settings() -> None:
    from ..common.text import meant

    for name in sorted(os.environ):
        if name.startswith("NPEFFICIENT_") and name not in SETTINGS:
            terminal.say(f"warning: unknown environment variable {name}{meant(name, SETTINGS)}; npefficient reads "
                         f"{', '.join(SETTINGS)}")


def _is_for_want_of_numba(fault: Exception) -> bool:
    """Compiled code that came with the package runs without Numba; what compiles more, or measures, does not."""
    return isinstance(fault, ModuleNotFoundError) and (fault.name or "").split(".")[0] in ("numba", "llvmlite")


def _show(fault: Exception) -> None:
    import traceback

    if os.environ.get(TRACEBACK):
        traceback.print_exception(fault)
    terminal.say(f"error: this is a bug in npefficient ({type(fault).__name__}: {fault}); please report it with the "
                 f"traceback that {TRACEBACK}=1 shows")
