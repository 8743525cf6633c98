"""Measure speed: of the processor, models, layers, kernels, other engines, and of whole folders of photos.

Every benchmark verifies its results first (exit code 1 when they are wrong), warms up, then times. Only figures of the
same run compare with each other. --json FILE keeps them with the machine and the versions they belong to.

'npefficient bench WHAT --help' explains a benchmark.
"""
from ..common.picture_files import PICTURES
from .options import (
    add_json,
    add_threads,
    check_outputs,
    ending,
    model_name,
    model_names,
    option,
    seconds,
    size,
    whole,
    wholes,
)

PEERS = ("openvino", "litert", "onnxruntime", "ncnn", "torch_compile", "torch_eager")  # of `bench.peers.rounds`


def add_arguments(parser):
    benchmarks = parser.add_subparsers(dest="bench", metavar="WHAT", required=True)

    def add(name, text, default):
        part = benchmarks.add_parser(name, help=text, description=f"{text}.")
        part.add_argument("--seconds", metavar="S", type=seconds, default=default,
                          help="how long to measure each figure (default: %(default)s)")
        add_json(part)
        return part

    add("peak", "What one core can do at most: multiply-adds, and reads from each level of memory", 0.5)
    part = add("model", "Whole models: speed and its share of the peak, the time to start, and memory", 3.0)
    _models(part, "lite0", several=True)
    part.add_argument("--batch", metavar="N,..", type=wholes, default="1",
                      help="pictures in a call, one or more numbers such as 1,16 (default: %(default)s)")
    _threads(part)
    _size(part)
    part = add("layers", "The steps of a forward pass one by one, and their sum beside the time of the whole", 3.0)
    _models(part, "lite0", several=False)
    add_threads(part, default=1)
    _size(part)
    part = add("kernels", "Each kernel alone on each shape of a layer in a model, with its data in the cache; for one "
               "layer or block also the ladder from plain loops to what the engine runs", 0.2)
    _models(part, "lite0", several=False)
    part.add_argument("--op", choices=("stem", "depthwise", "pointwise", "pool", "classifier", "block"),
                      help="only this operator; block: only the ladder of the inverted residual block that --layer "
                           "names")
    part.add_argument("--layer", metavar="NAME",
                      help="only these layers, such as '*.conv_dw'; for a single one, such as blocks.1.0.conv_pw, its "
                           "ladder as well ('npefficient info lite0 --layers' lists the names)")
    part.add_argument("--plot", metavar="PICTURE", type=ending(*PICTURES),
                      help="draw the ladder if there is one, else the layers between the machine's limits "
                           f"({', '.join(PICTURES)}), in place of an older file")
    _size(part)
    part = add("peers", "Other inference engines beside ours, with the same weights, threads and precision (float32)",
               2.0)
    _models(part, "lite0", several=True)
    part.add_argument("--peer", metavar="NAME,..", type=_peer_list, default="all",
                      help=f"only these of {', '.join(PEERS)} (default: all that are installed)")
    _threads(part)
    part.add_argument("--batch", metavar="N", type=whole, default=1, help="pictures in a call (default: %(default)s)")
    part.add_argument("--rounds", metavar="N", type=whole, default=3,
                      help="how often each engine has its turn (default: %(default)s)")
    part = add("photos", "Photos from the file to the logits: decoding, computing, and both together", 1.0)
    _models(part, "lite0", several=False)
    add_threads(part)


def _models(part, default, several):
    part.add_argument("--model", metavar="NAME,.." if several else "NAME", default=default,
                      type=model_names if several else model_name,
                      help=f"lite0 to lite4{', several with commas, or all' if several else ''} "
                           "(default: %(default)s)")


def _threads(part):
    part.add_argument("--threads", metavar="N,..", type=wholes, default="1",
                      help="threads to compute with, one or more numbers such as 1,2 (default: %(default)s)")


def _size(part):
    part.add_argument("--size", metavar="N or HxW", type=size, help="input size in pixels (default: the model's own)")


@option
def _peer_list(text: str) -> list:
    from ..bench.peers.rounds import choose

    return choose(text)


def run(args) -> int:
    from ..bench.report import Report
    from ..engine.cpus import check_threads

    threads = getattr(args, "threads", None)
    for count in threads if isinstance(threads, list) else [threads]:
        check_threads(count)  # warns of too many; those of a benchmark may be in processes of their own
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
    from pathlib import Path

    from ..bench import kernels
    from ..common.picture_files import check_matplotlib

    check_outputs(args, "json", "plot", force=True)
    if args.plot:
        check_matplotlib("plot")
    plot = args.plot and Path(args.plot).absolute()
    return lambda report: kernels.run(report, args.model, args.op, args.layer, args.size, args.seconds, plot)


def _peers(args):
    from ..bench.peers import rounds as peers

    return lambda report: peers.run(report, args.model, args.peer, args.threads, args.batch, args.rounds, args.seconds)


def _photos(args):
    from ..bench import photos
    from ..engine.cpus import available_threads

    return lambda report: photos.run(report, args.model, args.threads or available_threads(), args.seconds)


MEASURES = {"peak": _peak, "model": _model, "layers": _layers, "kernels": _kernels, "peers": _peers,
            "photos": _photos}
