"""What several verbs have in common: which weights they run, how they read photos, and on how many processors."""


def add_weights(parser, demo: str | None = None) -> None:
    """--model or --weights, and --demo where it is explained; `weights_path` says what was chosen."""
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--model", metavar="NAME", help="lite0 to lite4 with the official ImageNet weights, which are "
                                                         "fetched on first use (default: lite0)")
    weights.add_argument("--weights", metavar="FILE", help="a weight file (.h5) or checkpoint (.pth, .safetensors)")
    if demo is None:
        parser.set_defaults(demo=False)
    else:
        weights.add_argument("--demo", action="store_true", help=f"use the embedded digit model; {demo}")


def add_reading(parser) -> None:
    """--exif and --max-pixels; `reading` says what was chosen."""
    parser.add_argument("--exif", action="store_true", help="turn photos as their EXIF data say (timm does not)")
    parser.add_argument("--max-pixels", metavar="N", type=int, help="decode photos of up to so many pixels (default: "
                                                                    "134,217,728, and fewer in a very small file)")


def reading(args) -> dict:
    """How photos are to be read, as arguments of `open_image` and whatever calls it."""
    from ..photo_file import check_max_pixels
    from ..photo_limits import allow_pixels

    check_max_pixels(args.max_pixels)
    allow_pixels(args.max_pixels)
    return {"exif": args.exif, "max_pixels": args.max_pixels}


def listed(arguments) -> tuple:
    """(an iterator over the photos that the arguments stand for, a list of what could not be listed).

    The second grows as the first is taken from; it and what else is left out are said on stderr.
    """
    import sys

    from ..jobs.photos import each_photo

    unlisted = []

    def error(text):
        unlisted.append(text)
        print(f"npefficient: error: {text}", file=sys.stderr)

    return each_photo(arguments, error=error,
                      remark=lambda text: print(f"npefficient: {text}", file=sys.stderr)), unlisted


def add_threads(parser) -> None:
    """--threads, for None all that this process may use."""
    parser.add_argument("--threads", metavar="N", type=int, help="processors to use (default: all that are allowed)")


def add_workers(parser) -> None:
    """--workers, for None one for each processor."""
    parser.add_argument("--workers", metavar="N", type=int, help="threads that read photos and compute (default: one "
                                                                 "for each processor; more help where reading waits)")


def weights_path(args):
    """The file of the weights asked for; official ones are fetched on first use."""
    if args.demo:
        from ..demo import weights_path

        return weights_path()
    if args.weights:
        return args.weights
    from ..hub import pretrained

    return pretrained(args.model or "lite0")


def compile_kernels() -> None:
    """Get the compiled code before the first photo; a line on stderr says so where it takes a while."""
    import sys

    from ..engine import compiled

    compiled.driver(lambda text: print(text, file=sys.stderr, flush=True))
