"""Count how often a network is right on photos whose class is known.

DIR has a sub-folder for each class, named by one of: the weights' own label of the class, its ImageNet synset id
(n01440764), its number from 0 on (7, or 007); all in the same way. With --labels-file DIR is any folder, and the file
has a line for each photo: 'name,class' or 'name class', in any order, names relative to DIR; or the class alone, for
the photos in the order of their sorted names (such as ILSVRC's validation photos). Classes are named there in the same
three ways; --labels-base 1 if the first one has number 1. Beware of the ILSVRC development kit's own ground truth: its
numbers count the classes in an order of its own, see its meta.mat.

Shares come with their 95 % interval (Wilson's), and the published figures stand beside them where the weights are the
official ones: timm's, for all 50,000 photos of ImageNet's validation part. Top-5 needs five classes. Photos that can't
be read are named on stderr and left out, as are folders that can't be listed, and the exit code is 1.

--preprocess tf prepares photos as TensorFlow does in place of timm: first the crop, then a resize without antialiasing.
"""
from ..common.text import counted, plain
from .options import add_reading, add_threads, add_weights, add_workers, compile_kernels, make_model, reading, whole
from .terminal import say


def add_arguments(parser):
    parser.add_argument("directory", metavar="DIR", help="folder with the photos")
    parser.add_argument("--labels-file", metavar="FILE", help="the classes of the photos, one on each line")
    parser.add_argument("--labels-base", metavar="0|1", type=int, default=0, choices=(0, 1),
                        help="number of the first class, where classes are numbered (default: %(default)s)")
    add_weights(parser)
    parser.add_argument("--preprocess", choices=("timm", "tf"), default="timm",
                        help="whose preprocessing (default: %(default)s)")
    add_reading(parser)
    parser.add_argument("--csv", metavar="FILE", help="write the counts of each class")
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON")
    parser.add_argument("--force", action="store_true", help="overwrite the files named")
    add_threads(parser)
    add_workers(parser)
    parser.add_argument("--batch-size", metavar="N", type=whole, default=1,
                        help="photos that a worker reads before it computes (default: %(default)s)")


def run(args) -> int:
    from ..common.paths import check_target
    from ..engine.workers import check_threads
    from ..jobs.figure_files import write_csv, write_json
    from ..jobs.validate.validation import validate

    for path in filter(None, (args.csv, args.json)):
        check_target(path, force=args.force)
    workers, how = check_threads(args.threads) if args.workers is None else args.workers, reading(args)
    model = make_model(args, num_threads=1)
    compile_kernels()
    print(model, flush=True)
    result = validate(model, args.directory, labels_file=args.labels_file, labels_base=args.labels_base,
                      preprocess=args.preprocess, workers=workers, batch_size=args.batch_size,
                      say=say, progress=True, **how)
    _print(result)
    if args.csv:
        rows = result.per_class()
        write_csv(args.csv, ["class", "synset", "label", "photos", "top1", "top5"], map(dict.values, rows),
                  force=args.force)
        print(f"wrote {plain(args.csv)}: {counted(len(rows), 'class')}")
    if args.json:
        what = {"directory": args.directory, "model": model.architecture.name, "weights": model.source.name,
                "input_size": list(model.preprocessing.input_size), "preprocess": args.preprocess, **how}
        write_json(args.json, what | result.figures(), force=args.force)
        print(f"wrote {plain(args.json)}: all figures")
    for _, error in result.bad:
        say(f"error: {error}")
    if result.bad:
        say(f"{len(result.bad):,} of {counted(len(result.bad) + len(result.photos), 'photo')} could not be read")
    return 1 if result.bad or result.unlisted else 0


def _print(result) -> None:
    from ..jobs.accuracy import describe
    from ..network.variants import MODEL_CARD

    for name, hits, place in (("top-1", result.top1, 0), ("top-5", result.top5, 1)):
        if hits is not None:
            beside = f"   published {result.published[place]:.2f}%" if result.published else ""
            print(f"{name}  {describe(hits, len(result.photos))}{beside}")
    if result.published:
        print(f"published: {MODEL_CARD}, 50,000 photos, timm's preprocessing")
