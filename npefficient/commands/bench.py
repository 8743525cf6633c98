"""Measure: the processor's limits, models, layers and kernels, other engines beside ours, and photos in bulk.

Every benchmark verifies its results first (exit code 1 when they are wrong), warms up, then times. Figures of one run
compare with each other only. --json FILE keeps them with the machine and the versions they belong to.
"""


def add_arguments(parser):
    verbs = parser.add_subparsers(dest="bench", metavar="WHAT", required=True)

    def add(name, text, seconds):
        part = verbs.add_parser(name, help=text[0].lower() + text[1:], description=f"{text}.")
        part.add_argument("--seconds", metavar="S", type=float, default=seconds,
                          help="to measure each figure for (default: %(default)s)")
        part.add_argument("--json", metavar="FILE", help="write the figures and their environment there")
        return part

    add("peak", "What one core can do at most: multiply-adds, and reads from each level of memory", 0.5)
    part = add("model", "Whole models: start, speed, share of the peak, memory", 3.0)
    _models(part, "lite0", several=True)
    part.add_argument("--batch", metavar="N,..", default="1", help="pictures in a call, such as 1,16")
    part.add_argument("--threads", metavar="N,..", default="1", help="processors to use, such as 1,2")
    _size(part)
    part = add("layers", "The steps of a forward pass one by one, in place, and their sum beside the whole", 3.0)
    _models(part, "lite0", several=False)
    part.add_argument("--threads", metavar="N", default="1", help="processors to use")
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
    part.add_argument("--peer", metavar="NAME,..", default="all", help="only these (default: all that are installed)")
    part.add_argument("--threads", metavar="N,..", default="1", help="processors to use, such as 1,2")
    part.add_argument("--batch", metavar="N", default="1", help="pictures in a call")
    part.add_argument("--rounds", metavar="N", default="3", help="how often each engine has its turn")
    part = add("photos", "Photos from the file to the logits: decoding, computing, and both together", 3.0)
    _models(part, "lite0", several=False)
    part.add_argument("--threads", metavar="N", help="processors to use (default: all that are allowed)")


def _models(part, default, several):
    part.add_argument("--model", metavar="NAME,.." if several else "NAME", default=default,
                      help=f"lite0 to lite4{', or all' if several else ''} (default: %(default)s)")


def _size(part):
    part.add_argument("--size", metavar="N or HxW", help="input size in pixels (default: the variant's own)")


def run(args) -> int:
    from ..bench.report import Report
    from ..errors import ArgumentError

    if not 0 < args.seconds < 3600:
        raise ArgumentError(f"--seconds {args.seconds}: it must be above 0 and below an hour")
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
    from ..bench.subject import counts, models

    what = models(args.model), counts("--batch", args.batch), counts("--threads", args.threads), _pixels(args)
    return lambda report: model.run(report, *what, args.seconds)


def _layers(args):
    from ..bench import layers
    from ..bench.subject import count, model

    name, threads, size = model(args.model), count("--threads", args.threads), _pixels(args)
    return lambda report: layers.run(report, name, threads, size, args.seconds)


def _kernels(args):
    from ..bench import kernels, plots
    from ..bench.subject import model

    name, size, plot = model(args.model), _pixels(args), args.plot and plots.target(args.plot)
    return lambda report: kernels.run(report, name, args.op, args.layer, size, args.seconds, plot)


def _peers(args):
    from ..bench.peers import run as peers
    from ..bench.subject import count, counts, models

    what = models(args.model), peers.choose(args.peer), counts("--threads", args.threads)
    batch, rounds = count("--batch", args.batch), count("--rounds", args.rounds)
    return lambda report: peers.run(report, *what, batch, rounds, args.seconds)


def _photos(args):
    from ..bench import photos
    from ..bench.subject import count, model
    from ..engine.workers import available_threads

    name, workers = model(args.model), count("--threads", args.threads) if args.threads else available_threads()
    return lambda report: photos.run(report, name, workers, args.seconds)


def _pixels(args):
    from .info import parse_size

    return parse_size(args.size) if args.size else None


MEASURES = {"peak": _peak, "model": _model, "layers": _layers, "kernels": _kernels, "peers": _peers,
            "photos": _photos}
