"""Show where the time for one photo goes, layer by layer.

First the times for reading and preparing the photo, for the network, and for naming the classes. Then, for each step of
the network, measured within real forward passes: time (median and minimum of many passes), multiply-accumulates, bytes,
GFLOP/s, and the share of the processor's peak. Last, the sum of the steps compared with the whole pass. The network is
verified before it is timed. Times do not depend on the weights: without --weights, the official ones are used if they
are in the cache or in an installed package, else random ones.

With --precision int8, the steps are those of the int8 network, among them those that quantise a layer's input, and the
peak is that of dot products of integers.
"""
from .options import add_json, add_precision, add_reading, add_threads, check_outputs, reading
from .values import model_name, seconds


def add_arguments(parser):
    parser.add_argument("photo", metavar="PHOTO", nargs="?", help="a photo (default: one that comes with npefficient)")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--model", metavar="NAME", type=model_name, default="lite0",
                         help="lite0 to lite4 (default: %(default)s)")
    weights.add_argument("--weights", metavar="FILE", help="a weight file (.h5) or checkpoint (.pth, .safetensors)")
    add_precision(parser)
    add_threads(parser, default=1)
    add_reading(parser)
    parser.add_argument("--seconds", metavar="S", type=seconds, default=3.0,
                        help="how long to measure (default: %(default)s)")
    add_json(parser)
    parser.add_argument("--trace", metavar="FILE",
                        help="write a Chrome trace (JSON) for ui.perfetto.dev; overwrites an existing file")


def run(args) -> int:
    from ..bench import profile
    from ..bench.peers.photographs import at_hand
    from ..bench.report import Report
    from ..demo import photographs
    from ..engine.cpus import check_threads
    from ..model.loading import in_precision, load_stored
    from ..model.model import precision_of

    check_outputs(args, "json", "trace", force=True, reads=[args.photo, args.weights])
    threads = check_threads(args.threads)
    weights = load_stored(args.weights) if args.weights else at_hand(args.model)
    weights = in_precision(weights, precision_of(weights, args.precision))
    photo = photographs()[0] if args.photo is None and weights.architecture.in_chans == 3 else args.photo
    report = Report(args.json)
    profile.run(report, weights, photo, threads, args.seconds, args.trace, **reading(args))
    report.write()
    return 0
