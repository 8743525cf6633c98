"""Shared by several subcommands: the options for weights, reading photos and processors, and what these select."""
import contextlib
import threading
import time

from ..model.model import PRECISIONS
from .terminal import say
from .values import model_or_digits, weights_file, whole

TICK = 5.0  # seconds between progress lines while the kernels are compiled
WEIGHT_FILE = ("a weight file (.h5), a checkpoint (.pth, .safetensors), lite0 to lite4 for the official weights, or "
               "digits for the embedded model")  # what `weight_file` takes


@contextlib.contextmanager
def refusing(args):
    """For rules that involve several options: an ArgumentError in the block becomes a usage error."""
    from ..errors import ArgumentError

    try:
        yield
    except ArgumentError as error:
        args.refuse(str(error))


def add_weights(parser, demo: str | None = None) -> None:
    """Add --model, --weights and, if `demo` is its help text, --demo; `weights_path` evaluates them."""
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--model", metavar="NAME", type=model_or_digits,
                         help="lite0 to lite4 with the official ImageNet weights, from an installed package or "
                              "downloaded on first use; or digits, the embedded model of handwritten digits (default: "
                              "lite0)")
    weights.add_argument("--weights", metavar="FILE", type=weights_file,
                         help="a weight file (.h5) or checkpoint (.pth, .safetensors)")
    if demo is None:
        parser.set_defaults(demo=False)
    else:
        weights.add_argument("--demo", action="store_true", help=demo)


def add_precision(parser, of_weights: bool = True) -> None:
    """Add --precision, of the model that `make_model` makes; float32 by default unless weights can tell otherwise."""
    default = "that of the weights, float32 unless 'npefficient quantize' wrote them" if of_weights else "float32"
    parser.add_argument("--precision", choices=PRECISIONS, default=None if of_weights else "float32",
                        help="int8: weights and activations of 8 bits, made of the same weights; about three times as "
                             f"fast on x86 processors with VNNI, and slightly less accurate (default: {default})")


def add_reading(parser) -> None:
    """Add --exif and --max-pixels; `reading` evaluates them."""
    parser.add_argument("--exif", action="store_true", help="rotate photos by their EXIF orientation (timm does not)")
    parser.add_argument("--max-pixels", metavar="N", type=whole, help="refuse photos with more pixels (default: "
                                                                    "134,217,728; fewer for a file under 512 KiB)")


def reading(args) -> dict:
    """The chosen options for reading photos, as keyword arguments of `open_image` and the functions that call it."""
    from ..images.photo_limits import allow_pixels

    allow_pixels(args.max_pixels)
    return {"exif": args.exif, "max_pixels": args.max_pixels}


def list_photos(arguments) -> tuple:
    """(iterator over the photos that the arguments name, list of errors for folders that could not be listed).

    The list grows while the iterator is consumed. Its errors, and counts of skipped files, are reported on stderr.
    """
    from ..jobs.photo_paths import each_photo

    unlisted = []

    def error(text):
        unlisted.append(text)
        say(f"error: {text}")

    return each_photo(arguments, error=error, warning=say), unlisted


def add_threads(parser, default: int | None = None) -> None:
    """Add --threads; a default of None means all processors that are available to this process."""
    usual = "all that are available to this process" if default is None else default
    parser.add_argument("--threads", metavar="N", type=whole, default=default,
                        help=f"number of threads, one for each processor (default: {usual})")


def add_json(parser) -> None:
    """Add --json to a command that measures or compares; each run overwrites the file."""
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON; overwrites an existing file")


def check_outputs(args, *options: str, force: bool, reads=()) -> None:
    """Check, before any work, that the output files given by `options`, such as "output", can all be written.

    reads: the files that the command reads, or None for those that were not given

    Two options with the same file are a usage error, and so is an output that is one of `reads`. Raises ArgumentError
    as `check_target` does.
    """
    from pathlib import Path

    from ..common.paths import check_target, is_same

    seen = {}
    for option in options:
        given = getattr(args, option)
        if given is None:
            continue
        if given == "-":
            args.refuse(f"--{option} -: standard output is taken by the result; name a file (./- for one named so)")
        before = seen.setdefault(Path(given).absolute(), option)
        if before != option:
            args.refuse(f"--{before} and --{option} {given!r}: they are the same file; name two different ones")
        if any(source is not None and is_same(given, source) for source in reads):
            args.refuse(f"--{option} {given!r}: this file is read, and would be lost; name a different one")
        check_target(given, force=force)


def add_workers(parser) -> None:
    """Add --workers; `chosen_workers` evaluates it and --threads."""
    parser.add_argument("--workers", metavar="N", type=whole,
                        help="photos to process at the same time, each in its own thread (default: --threads; more "
                             "can help if files are on a network)")


def chosen_workers(args) -> int:
    """The number of photos to process at the same time that --workers selects, or else --threads."""
    from ..engine.cpus import check_threads

    return check_threads(args.threads) if args.workers is None else args.workers


def weights_path(args):
    """The weight file that the options select; official weights are downloaded on first use."""
    from .. import demo, hub

    if args.demo:
        chosen = demo.demo()
        if chosen.warning:
            say(chosen.warning)
        return chosen.weights
    if args.weights:
        return args.weights
    return demo.weights_path() if args.model == demo.NAME else hub.pretrained(args.model or "lite0")


def make_model(args, num_threads: int | None):
    """The model that the options select, on this many processors; None uses all that are available to this process."""
    from ..model.model import create_model

    return create_model(checkpoint_path=weights_path(args), num_threads=num_threads, precision=args.precision)


def demo_photos(args, photo) -> tuple:
    """The photos of --demo; a photo on the command line as well (`photo`) is a usage error."""
    from ..demo import demo

    if photo:
        args.refuse("--demo has its own photographs: omit it to use yours (--model digits is the embedded model of "
                    "handwritten digits)")
    return demo().photos


def is_file_name(given: str) -> bool:
    """True if an argument names a file, not a variant: the file exists, or the argument looks like a path."""
    from pathlib import Path

    path = Path(given)
    return path.exists() or bool(path.suffix) or path.name != given


def weight_file(given: str):
    """The file that such an argument names: a file, "digits", or a variant, for its official weights.

    These are downloaded on first use.
    """
    from .. import demo, hub
    from ..network.variants import canonical_name

    if is_file_name(given):
        return given
    return demo.weights_path() if given == demo.NAME else hub.pretrained(canonical_name(given, demo.NAME))


def compile_kernels(stream=None, precision: str = "float32", training: bool = False) -> None:
    """Compile the kernels, or load them, before the first photo; reports progress on stderr (or `stream`) if slow.

    training: those of training as well
    """
    import sys

    from ..engine import compiled
    from ..kernels.layout import TRAINING, layout_of

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
        for layout in (layout_of(precision), *[TRAINING] * training):
            compiled.driver(layout, report=tell)
    finally:
        done.set()
        ticker.join()
