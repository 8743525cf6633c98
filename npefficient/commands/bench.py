"""Measure: the processor's limits, models, layers and kernels, other engines beside ours, and photos in bulk.

Every benchmark verifies its results first (exit code 1 when they are wrong), warms up, then times. Figures of one run
compare with each other only. --json FILE keeps them with the machine and the versions they belong to.
"""
from .options import model_name, model_names, option, seconds, size, whole, wholes


def add_arguments(parser):
    verbs = parser.add_subparsers(dest="bench", metavar="WHAT", required=True)

    def add(name, text, default):
        part = verbs.add_parser(name, help=text[0].lower() + text[1:], description=f"{text}.")
        part.add_argument("--seconds", metavar="S", type=seconds, default=default,
                          help="to measure each figure for (default: %(default)s)")
        part.add_argument("--json", metavar="FILE", help="write the figures and their environment there")
        return part

    add("peak", "What one core can do at most: multiply-adds, and reads from each level of memory", 0.5)
    part = add("model", "Whole models: start, speed, share of the peak, memory", 3.0)
    _models(part, "lite0", several=True)
    part.add_argument("--batch", metavar="N,..", type=wholes, default="1",
                      help="pictures in a call, such as 1,16 (default: %(default)s)")
    part.add_argument("--threads", metavar="N,..", type=wholes, default="1",
                      help="processors to use, such as 1,2 (default: %(default)s)")
    _size(part)
    part = add("layers", "The steps of a forward pass one by one, in place, and their sum beside the whole", 3.0)
    _models(part, "lite0", several=False)
    part.add_argument("--threads", metavar="N", type=whole, default=1, help="processors to use (default: %(default)s)")
    _size(part)
    part = add("kernels", "Every kernel on every distinct layer shape of a model, hot; and for one layer or block the "
               "ladder from plain loops to what the engine runs", 0.2)
    _models(part, "lite0", several=False)
    part.add_argument("--op", choices=("stem", "depthwise", "pointwise", "pool", "classifier", "block"),
                      help="only this operator; block: the ladder of the inverted residual block that --layer names")
    part.add_argument("--layer", metavar="NAME", help="only these layers, such as '*.conv_dw'; where it names one, "
                      "such as blocks.1.0.conv_pw, its ladder as well")
    part.add_argument("--plot", metavar="FILE", help="draw the ladder where there is one, else the layers between the "
                      "machine's limits (.png, .svg or .pdf; needs matplotlib)")
    _size(part)
    part = add("peers", "Other engines beside ours, with the same weights, threads and precision (float32)", 2.0)
    _models(part, "lite0", several=True)
    part.add_argument("--peer", metavar="NAME,..", type=_peer_list, default="all",
                      help="only these (default: all that are installed)")
    part.add_argument("--threads", metavar="N,..", type=wholes, default="1",
                      help="processors to use, such as 1,2 (default: %(default)s)")
    part.add_argument("--batch", metavar="N", type=whole, default=1, help="pictures in a call (default: %(default)s)")
    part.add_argument("--rounds", metavar="N", type=whole, default=3,
                      help="how often each engine has its turn (default: %(default)s)")
    part = add("photos", "Photos from the file to the logits: decoding, computing, and both together", 3.0)
    _models(part, "lite0", several=False)
    part.add_argument("--threads", metavar="N", type=whole, help="processors to use (default: all that are allowed)")


def _models(part, default, several):
    part.add_argument("--model", metavar="NAME,.." if several else "NAME", default=default,
                      type=model_names if several else model_name,
                      help=f"lite0 to lite4{', or all' if several else ''} (default: %(default)s)")


def _size(part):
    part.add_argument("--size", metavar="N or HxW", type=size, help="input size in pixels (default: the variant's own)")


@option
def _peer_list(text: str) -> list:
    from ..bench.peers.turns import choose

    return choose(text)


def run(args) -> int:
    from ..bench.report import Report

    measure = MEASURES[args.bench](args)
    report = Report(args.json)
    measure(report)
    report.write()
    return 0


def _peak(args):
    from ..bench import peak

    return lambda report: peak.run(report, args.seconds)


def _model(args):
    from ..bench import model

    return lambda report: model.run(report, args.model, args.batch, args.threads, args.size, args.seconds)


def _layers(args):
    from ..bench import layers

    return lambda report: layers.run(report, args.model, args.threads, args.size, args.seconds)


def _kernels(args):
    from ..bench import kernels, plots

    plot = args.plot and plots.target(args.plot)
    return lambda report: kernels.run(report, args.model, args.op, args.layer, args.size, args.seconds, plot)


def _peers(args):
    from ..bench.peers import turns as peers

    return lambda report: peers.run(report, args.model, args.peer, args.threads, args.batch, args.rounds, args.seconds)


def _photos(args):
    from ..bench import photos
    from ..engine.workers import available_threads

    return lambda report: photos.run(report, args.model, args.threads or available_threads(), args.seconds)


MEASURES = {"peak": _peak, "model": _model, "layers": _layers, "kernels": _kernels, "peers": _peers,
            "photos": _photos}
