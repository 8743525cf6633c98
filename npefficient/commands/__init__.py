"""The command line: a file per verb, each with `add_arguments(parser)` and `run(args) -> exit code`.

Exit codes: 0 all is well, 1 something could not be done (the reason is on stderr), 2 the command line is wrong,
130 interrupted. A verb whose answer is yes or no says no with 1, and has another code for errors in TROUBLE.
"""
import argparse
import importlib
import os
import sys

VERBS = ("bench", "classify", "compare", "convert", "explain", "export", "finetune", "info", "list", "profile",
         "validate", "warmup")


def _module(verb: str):
    return importlib.import_module(f"{__name__}.{verb}")


def _parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The parser of every verb; of the chosen one alone where it is known, which is quicker."""
    from .. import __version__

    parser = argparse.ArgumentParser(
        prog="npefficient", description="EfficientNet-Lite on the CPU, without PyTorch.",
        epilog="'npefficient VERB --help' explains a verb. Exit code 0: all is well; 1: something failed, the reason "
               "is on stderr; 2: the command line is wrong.")
    parser.add_argument("--version", action="version", version=f"npefficient {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in [chosen] if chosen in VERBS else VERBS:
        module = _module(verb)
        first, _, rest = module.__doc__.partition("\n")
        part = verbs.add_parser(verb, help=first.rstrip("."), description=first, epilog=rest.strip() or None,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(part)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    from ..errors import NpefficientError

    arguments = sys.argv[1:] if arguments is None else arguments
    args = _parser(*arguments[:1]).parse_args(arguments)
    verb = _module(args.verb)
    try:
        code = verb.run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except NpefficientError as error:
        print(f"npefficient: error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"npefficient: error: {error.filename or 'writing'}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("npefficient: interrupted", file=sys.stderr)
        return 130
    return getattr(verb, "TROUBLE", 1)
