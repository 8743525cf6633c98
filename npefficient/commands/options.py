"""What several subcommands have in common: the values of options, which weights they run, how they read photos, and on
how many processors."""
import contextlib
import functools
import math
import threading
import time

from .terminal import say

TICK = 5.0  # seconds between two signs of life while the kernels are compiled


def option(read):
    """A `type=` of argparse: what `read` makes of the text; its ArgumentError is a wrong command line."""
    @functools.wraps(read)
    def convert(text: str):
        from argparse import ArgumentTypeError

        from ..errors import ArgumentError

        try:
            return read(text)
        except ArgumentError as error:
            raise ArgumentTypeError(str(error)) from None

    return convert


@contextlib.contextmanager
def refusing(args):
    """For what only several options tell together: an ArgumentError in the block is a wrong command line."""
    from ..errors import ArgumentError

    try:
        yield
    except ArgumentError as error:
        args.refuse(str(error))


def ending(*suffixes: str):
    """A `type=` of argparse: the name of a file to write, which ends in one of these."""
    @option
    def convert(text: str) -> str:
        from ..errors import ArgumentError

        if not text.lower().endswith(suffixes):
            raise ArgumentError(f"{text!r}: its name must end in {' or '.join(suffixes)}")
        return text

    return convert


def number(kind, rule: str, holds):
    """A `type=` of argparse: a number for which `holds`; `rule` says so in words."""
    def convert(text: str):
        from argparse import ArgumentTypeError

        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not holds(value):
            raise ArgumentTypeError(f"{text!r}: it must be {rule}")
        return value

    return convert


whole = number(int, "a whole number of at least 1", lambda value: value >= 1)
seconds = number(float, "a number of seconds above 0 and below an hour", lambda value: 0 < value < 3600)


def wholes(text: str) -> list[int]:
    """"1,16" -> [1, 16]."""
    return [whole(word) for word in text.split(",")]


@option
def model_name(text: str) -> str:
    """Any name of a variant -> its short one."""
    from ..network.variants import VARIANTS, canonical_name

    return VARIANTS[canonical_name(text)].short_name


def model_or_digits(text: str) -> str:
    """The same, or the name of the embedded model."""
    from ..demo import NAME

    return text if text == NAME else model_name(text)


def model_names(text: str) -> list[str]:
    """"lite0,lite4" or "all" -> the variants' short names."""
    from ..network.variants import VARIANTS

    return [model_name(name) for name in (VARIANTS if text == "all" else text.split(","))]


@option
def size(text: str) -> tuple[int, int]:
    """"224" or "256x320" -> (rows, columns)."""
    from ..errors import ArgumentError

    words = text.lower().split("x")
    if len(words) > 2 or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ArgumentError(f"{text!r}: give pixels as one number, such as 224, or as rows x columns, such as 256x320")
    return int(words[0]), int(words[-1])


def add_weights(parser, demo: str | None = None) -> None:
    """--model or --weights, and --demo where it is explained; `weights_path` says what was chosen."""
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--model", metavar="NAME", type=model_or_digits,
                         help="lite0 to lite4 with the official ImageNet weights, taken from an installed package or "
                              "fetched on first use; or digits, the embedded model of handwritten digits (default: "
                              "lite0)")
    weights.add_argument("--weights", metavar="FILE", help="a weight file (.h5) or checkpoint (.pth, .safetensors)")
    if demo is None:
        parser.set_defaults(demo=False)
    else:
        weights.add_argument("--demo", action="store_true", help=demo)


def add_reading(parser) -> None:
    """--exif and --max-pixels; `reading` says what was chosen."""
    parser.add_argument("--exif", action="store_true", help="turn photos as their EXIF data say (timm does not)")
    parser.add_argument("--max-pixels", metavar="N", type=whole, help="refuse photos with more pixels (default: "
                                                                    "134,217,728; fewer for a file under 512 KiB)")


def reading(args) -> dict:
    """How photos are to be read, as arguments of `open_image` and whatever calls it."""
    from ..images.photo_limits import allow_pixels

    allow_pixels(args.max_pixels)
    return {"exif": args.exif, "max_pixels": args.max_pixels}


def list_photos(arguments) -> tuple:
    """(an iterator over the photos that the arguments stand for, a list of what could not be listed).

    The second grows as the first is taken from; it and what else is left out are said on stderr.
    """
    from ..jobs.photo_paths import each_photo

    unlisted = []

    def error(text):
        unlisted.append(text)
        say(f"error: {text}")

    return each_photo(arguments, error=error, remark=say), unlisted


def add_threads(parser, default: int | None = None) -> None:
    """--threads, for None all that this process may use."""
    usual = "all that this process may use" if default is None else default
    parser.add_argument("--threads", metavar="N", type=whole, default=default,
                        help=f"threads to compute with, one for each processor (default: {usual})")


def add_json(parser) -> None:
    """--json of a command that measures or compares; each run replaces the file."""
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON, in place of an older file")


def check_outputs(args, *options: str, force: bool) -> None:
    """Refuse, before any work, files to write (names of options, such as "output") that can't all be written.

    Raises ArgumentError as `check_target` does.
    """
    from pathlib import Path

    from ..common.paths import check_target

    seen = {}
    for option in options:
        given = getattr(args, option)
        if given is None:
            continue
        before = seen.setdefault(Path(given).absolute(), option)
        if before != option:
            args.refuse(f"--{before} and --{option} {given!r}: they are the same file; name two")
        check_target(given, force=force)


def add_workers(parser) -> None:
    """--workers, for None one for each processor."""
    parser.add_argument("--workers", metavar="N", type=whole,
                        help="photos to work on at the same time, each in a thread of its own (default: --threads; "
                             "more help where files come over a network)")


def weights_path(args):
    """The file of the weights asked for; official ones are fetched on first use."""
    from .. import demo, hub

    if args.demo:
        chosen = demo.demo()
        if chosen.remark:
            say(chosen.remark)
        return chosen.weights
    if args.weights:
        return args.weights
    return demo.weights_path() if args.model == demo.NAME else hub.pretrained(args.model or "lite0")


def make_model(args, num_threads: int | None):
    """The model of the weights asked for, on so many processors; None takes all that this process may use."""
    from ..model.model import create_model

    return create_model(checkpoint_path=weights_path(args), num_threads=num_threads)


def demo_photos(args, photo) -> tuple:
    """The photos of --demo, which takes none of the user's (`photo`: what was given, or nothing)."""
    from ..demo import demo

    if photo:
        args.refuse("--demo has photographs of its own: leave it out to look at yours (--model digits is the embedded "
                    "model of handwritten digits)")
    return demo().photos


def is_file_name(given: str) -> bool:
    """Whether an argument that may be a file or a variant's name is a file's: it is there, or looks like a path."""
    from pathlib import Path

    path = Path(given)
    return path.exists() or bool(path.suffix) or path.name != given


def weight_file(given: str):
    """The file that such an argument names; for a variant's name the official weights, fetched on first use."""
    if is_file_name(given):
        return given
    from ..hub import pretrained

    return pretrained(given)


def compile_kernels(stream=None) -> None:
    """Get the compiled code before the first photo; where it takes a while, lines on stderr (or `stream`) say so."""
    import sys

    from ..engine import compiled

    def tell(text: str) -> None:
        print(text, file=stream or sys.stderr, flush=True)

    done = threading.Event()

    def tick() -> None:
        start = time.monotonic()
        while not done.wait(TICK):
            tell(f"  {time.monotonic() - start:.0f} s")

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        compiled.driver(report=tell)
    finally:
        done.set()
        ticker.join()
