"""What several verbs have in common: which weights they run, and on how many processors."""


def add_weights(parser, demo: str | None = None) -> None:
    """--model or --weights, and --demo where it is explained; `weights_path` says what was chosen."""
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--model", metavar="NAME", help="lite0 to lite4 with the official ImageNet weights, taken from "
                                                         "an installed package or fetched on first use; or digits, the "
                                                         "embedded model of handwritten digits (default: lite0)")
    weights.add_argument("--weights", metavar="FILE", help="a weight file (.h5) or checkpoint (.pth, .safetensors)")
    if demo is None:
        parser.set_defaults(demo=False)
    else:
        weights.add_argument("--demo", action="store_true", help=demo)


def add_threads(parser) -> None:
    """--threads, for None all that this process may use."""
    parser.add_argument("--threads", metavar="N", type=int, help="processors to use (default: all that are allowed)")


def add_workers(parser) -> None:
    """--workers, for None one for each processor."""
    parser.add_argument("--workers", metavar="N", type=int, help="threads that read photos and compute (default: one "
                                                                 "for each processor; more help where reading waits)")


def weights_path(args):
    """The file of the weights asked for; official ones are fetched on first use."""
    from .. import demo, hub

    if args.demo:
        chosen = demo.demo()
        if chosen.remark:
            import sys

            print(f"npefficient: {chosen.remark}", file=sys.stderr)
        return chosen.weights
    if args.weights:
        return args.weights
    return demo.weights_path() if args.model == demo.NAME else hub.pretrained(args.model or "lite0")


def demo_photos(photo) -> tuple:
    """The photos of --demo, which takes none of the user's (`photo`: what was given, or nothing)."""
    from ..demo import demo
    from ..errors import ArgumentError

    if photo:
        raise ArgumentError("--demo has photographs of its own: leave it out to look at yours (--model digits is the "
                            "embedded model of handwritten digits)")
    return demo().photos


def compile_kernels() -> None:
    """Get the compiled code before the first photo; a line on stderr says so where it takes a while."""
    import sys

    from ..engine import compiled

    compiled.driver(lambda text: print(text, file=sys.stderr, flush=True))
