"""Measure speed: of the processor, models, layers, kernels, other engines, and photos from the file to the logits.

Every benchmark first verifies its results (exit code 1 if they are wrong), then warms up, then times. Compare only
figures of the same run. --json FILE saves them together with a description of the machine and all versions.

'npefficient bench WHAT --help' explains a benchmark.
"""
from ..common.picture_files import PICTURES
from ..model.model import PRECISIONS
from .options import add_json, add_precision, add_threads, check_outputs
from .values import batches, ending, model_name, model_names, option, seconds, size, whole, wholes

PEERS = ("openvino", "litert", "onnxruntime", "ncnn", "torch_compile", "torch_eager")  # of `bench.peers.peer`
TRAINING_PEERS = PEERS[-2:]  # those that train


def add_arguments(parser):
    benchmarks = parser.add_subparsers(dest="bench", metavar="WHAT", required=True)

    def add(name, text, default):
        part = benchmarks.add_parser(name, help=text, description=f"{text}.")
        part.add_argument("--seconds", metavar="S", type=seconds, default=default,
                          help="how long to measure each figure (default: %(default)s)")
        add_json(part)
        return part

    add("peak", "The peak of one core: multiply-adds of floats, dot products of integers, its clock, and reads from "
                "each level of memory", 0.5)
    part = add("model", "Whole models: speed and its share of the peak, which is measured before and after, start-up "
                        "time, and memory", 3.0)
    _models(part, "lite0", several=True)
    _batches(part)
    _threads(part)
    _size(part)
    part.add_argument("--precision", metavar="P,..", type=_precisions, default="float32",
                      help="float32, int8, or both separated by a comma, which also compares them (default: "
                           "%(default)s)")
    part = add("layers", "The steps of a forward pass one by one, and their sum compared with the whole pass", 3.0)
    _models(part, "lite0", several=False)
    add_threads(part, default=1)
    _size(part)
    add_precision(part, of_weights=False)
    part = add("kernels", "Each kernel on the shape of each layer of a model, with its data in the cache; for a single "
               "layer or block also the ladder from plain loops to the engine's kernel", 0.2)
    _models(part, "lite0", several=False)
    part.add_argument("--op", choices=("stem", "depthwise", "pointwise", "quantize", "pool", "classifier", "block"),
                      help="only this operator; quantize: of int8; block: only the ladder of the inverted residual "
                           "block given by --layer")
    part.add_argument("--layer", metavar="NAME",
                      help="only these layers, such as '*.conv_dw'; a single one, such as blocks.1.0.conv_pw, gets its "
                           "ladder too ('npefficient info lite0 --layers' lists the names)")
    part.add_argument("--plot", metavar="PICTURE", type=ending(*PICTURES),
                      help="draw the ladder if there is one, else the layers in a roofline plot "
                           f"({', '.join(PICTURES)}); overwrites an existing file")
    _size(part)
    add_precision(part, of_weights=False)
    part = add("peers", "Other inference engines and ours, with the same weights, threads and precision", 2.0)
    _models(part, "lite0", several=True)
    part.add_argument("--peer", metavar="NAME,..", type=_peer_list, default="all",
                      help=f"some of {', '.join(PEERS)} (default: all that are installed)")
    _threads(part)
    _batches(part)
    part.add_argument("--precision", choices=PRECISIONS, default="float32",
                      help="int8: each engine with 8 bits as its own tools make them, and how far its logits for four "
                           "photographs are from those in float32 (default: %(default)s)")
    _rounds(part)
    part = add("training", "A training step (forward, backward, SGD with momentum): ours and torch's, with the same "
                           "weights, batch and threads", 2.0)
    _models(part, "lite0", several=True)
    part.add_argument("--peer", metavar="NAME,..", type=_training_peer_list, default="all",
                      help=f"some of {', '.join(TRAINING_PEERS)} (default: all that are installed)")
    _threads(part)
    part.add_argument("--batch", metavar="N,..", type=batches, default="16",
                      help="pictures per step, one or more numbers such as 16,32 (default: %(default)s)")
    _rounds(part)
    part = add("photos", "Photos from the file to the logits: decoding, computing, and both together", 1.0)
    _models(part, "lite0", several=False)
    add_threads(part)


def _models(part, default, several):
    part.add_argument("--model", metavar="NAME,.." if several else "NAME", default=default,
                      type=model_names if several else model_name,
                      help=f"lite0 to lite4{', several separated by commas, or all' if several else ''} "
                           "(default: %(default)s)")


def _batches(part):
    part.add_argument("--batch", metavar="N,..", type=batches, default="1",
                      help="pictures per call, one or more numbers such as 1,16 (default: %(default)s)")


def _threads(part):
    part.add_argument("--threads", metavar="N,..", type=wholes, default="1",
                      help="number of threads, one or more numbers such as 1,2 (default: %(default)s)")


def _rounds(part):
    part.add_argument("--rounds", metavar="N", type=whole, default=3,
                      help="how many times each engine is measured, in turn (default: %(default)s)")


def _size(part):
    part.add_argument("--size", metavar="N or HxW", type=size, help="input size in pixels (default: the model's own)")


@option
def _peer_list(text: str) -> list:
    from ..bench.peers.peer import choose

    return choose(text)


@option
def _training_peer_list(text: str) -> list:
    from ..bench.peers.peer import choose

    return choose(text, training=True)


@option
def _precisions(text: str) -> list[str]:
    from ..common.checks import word

    return [word("precision", name, PRECISIONS) for name in text.split(",")]


def run(args) -> int:
    from ..bench.report import Report
    from ..engine.cpus import check_threads

    threads = getattr(args, "threads", None)
    for count in threads if isinstance(threads, list) else [threads]:
        check_threads(count)  # warns if there are too many; the benchmark itself may start them in other processes
    measure = MEASURES[args.bench](args)
    report = Report(args.json)
    measure(report)
    report.write()
    return 0


def _peak(args):
    from ..bench import peak

    return lambda report: peak.run(report, args.seconds, tuple(peak.UNITS))


def _model(args):
    from ..bench import model

    return lambda report: model.run(report, args.model, args.batch, args.threads, args.size, args.seconds,
                                    args.precision)


def _layers(args):
    from ..bench import layers

    return lambda report: layers.run(report, args.model, args.threads, args.size, args.seconds, args.precision)


def _kernels(args):
    from pathlib import Path

    from ..bench import kernels
    from ..common.picture_files import check_matplotlib

    check_outputs(args, "json", "plot", force=True)
    if args.plot:
        check_matplotlib("plot")
    plot = args.plot and Path(args.plot).absolute()
    return lambda report: kernels.run(report, args.model, args.op, args.layer, args.size, args.seconds, plot,
                                      args.precision)


def _peers(args):
    from ..bench.peers import rounds as peers

    return lambda report: peers.run(report, args.model, args.peer, args.threads, args.batch, args.rounds, args.seconds,
                                    args.precision)


def _training(args):
    from ..bench.peers import training

    return lambda report: training.run(report, args.model, args.peer, args.threads, args.batch, args.rounds,
                                       args.seconds)


def _photos(args):
    from ..bench import photos
    from ..engine.cpus import available_threads

    return lambda report: photos.run(report, args.model, args.threads or available_threads(), args.seconds)


MEASURES = {"peak": _peak, "model": _model, "layers": _layers, "kernels": _kernels, "peers": _peers,
            "training": _training, "photos": _photos}
