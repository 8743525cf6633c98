"""Show where the time of one photo goes, layer by layer.

For each step of the network, in its place in a real forward pass: time (median of many passes, and of the quickest),
multiply-accumulates, bytes, GFLOP/s and the share of what the processor can do at most; beside them what reading and
preparing the photo take. The network is verified first. The sum of the steps stands beside the whole. Times do not
depend on the weights: official ones are taken where they are at hand, else random ones.
"""
from .options import add_reading, model_name, reading, seconds, whole


def add_arguments(parser):
    parser.add_argument("photo", metavar="PHOTO", nargs="?", help="a photo (default: one that comes with npefficient)")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--model", metavar="NAME", type=model_name, default="lite0",
                         help="lite0 to lite4 (default: %(default)s)")
    weights.add_argument("--weights", metavar="FILE", help="a weight file (.h5) or checkpoint (.pth, .safetensors)")
    parser.add_argument("--threads", metavar="N", type=whole, default=1,
                        help="processors to use (default: %(default)s)")
    add_reading(parser)
    parser.add_argument("--seconds", metavar="S", type=seconds, default=3.0,
                        help="how long to measure (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures and their environment there")
    parser.add_argument("--trace", metavar="FILE", help="write a Chrome trace (JSON), for ui.perfetto.dev")


def run(args) -> int:
    from ..bench import profile
    from ..bench.report import Report
    from ..demo import photographs
    from ..model.loading import load_weights

    weights = load_weights(args.weights) if args.weights else _weights(args.model)
    photo = photographs()[0] if args.photo is None and weights.architecture.in_chans == 3 else args.photo
    report = Report(args.json)
    profile.run(report, weights, photo, args.threads, args.seconds, args.trace, **reading(args))
    report.write()
    return 0


def _weights(name: str):
    """Official weights of a variant where nothing has to be fetched for them, else random ones."""
    from .. import hub
    from ..model.loading import load_weights
    from ..network.architecture import build
    from ..network.parameters import random_weights

    return random_weights(build(name)) if hub.origin(name).kind == "download" else load_weights(hub.pretrained(name))
