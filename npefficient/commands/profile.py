"""Show where the time of one photo goes, layer by layer.

For each step of the network, in its place in a real forward pass: time (median of many passes, and of the quickest),
multiply-accumulates, bytes, GFLOP/s and the share of what the processor can do at most; with a PHOTO also what reading
and preparing it take. The network is verified first. The sum of the steps stands beside the whole. Times do not depend
on the weights: without --weights they are random.
"""
from .options import add_reading, reading


def add_arguments(parser):
    parser.add_argument("photo", metavar="PHOTO", nargs="?", help="a photo (default: random pixels)")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--model", metavar="NAME", default="lite0", help="lite0 to lite4 (default: %(default)s)")
    weights.add_argument("--weights", metavar="FILE", help="a weight file (.h5) or checkpoint (.pth, .safetensors)")
    parser.add_argument("--threads", metavar="N", type=int, default=1, help="processors to use (default: %(default)s)")
    add_reading(parser)
    parser.add_argument("--seconds", metavar="S", type=float, default=3.0,
                        help="how long to measure (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures and their environment there")
    parser.add_argument("--trace", metavar="FILE", help="write a Chrome trace (JSON), for ui.perfetto.dev")


def run(args) -> int:
    from ..architecture import build
    from ..bench import profile
    from ..bench.report import Report
    from ..engine.workers import check_threads
    from ..errors import ArgumentError
    from ..loading import load_weights
    from ..parameters import random_weights

    if not 0 < args.seconds < 3600:
        raise ArgumentError(f"--seconds {args.seconds}: it must be above 0 and below an hour")
    weights = load_weights(args.weights) if args.weights else random_weights(build(args.model))
    threads = check_threads(args.threads)
    report = Report(args.json)
    profile.run(report, weights, args.photo, threads, args.seconds, args.trace, **reading(args))
    report.write()
    return 0
