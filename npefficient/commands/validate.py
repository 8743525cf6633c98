"""Measure a network's accuracy on labelled photos.

DIR has a sub-folder for each class. All of them are named in one of three ways: by the label of the class in the weight
file, by its ImageNet synset id (n01440764), or by its number, counting from 0 (7 or 007).

With --labels-file, DIR is any folder, and FILE has a line for each photo: 'name,class' or 'name class', in any order,
with names relative to DIR; or only the class, for the photos in the order of their sorted names (such as ILSVRC's
validation photos). Classes are named in the same three ways; if the first one has the number 1, use --labels-base 1.
Beware of the ground truth in ILSVRC's development kit: it numbers the classes in its own order, see its meta.mat.

Accuracies have a 95 % confidence interval (Wilson). For the official weights, timm's published figures for all 50,000
photos of ImageNet's validation set are printed beside them. Top-5 needs at least five classes. A warning says how many
of the photos were used to fit the weights with `npefficient finetune` or `train`. Photos that can't be read and folders
that can't be listed are named on stderr and left out, and the exit code is 1.

--preprocess tf prepares photos as TensorFlow does: it crops first, then resizes without antialiasing.
"""
from ..common.text import counted, plain
from ..jobs.validate.validation import PREPROCESS
from .options import (
    add_precision,
    add_reading,
    add_threads,
    add_weights,
    add_workers,
    check_outputs,
    chosen_workers,
    compile_kernels,
    make_model,
    reading,
)
from .terminal import say
from .values import whole


def add_arguments(parser):
    parser.add_argument("directory", metavar="DIR", help="folder with a sub-folder of photos for each class")
    parser.add_argument("--labels-file", metavar="FILE", help="text file with the class of each photo in DIR")
    parser.add_argument("--labels-base", metavar="0|1", type=int, default=0, choices=(0, 1),
                        help="number of the first class, if classes are numbered (default: %(default)s)")
    add_weights(parser)
    add_precision(parser)
    parser.add_argument("--preprocess", choices=PREPROCESS, default="timm",
                        help="prepare photos as timm or as TensorFlow does (default: %(default)s)")
    add_reading(parser)
    parser.add_argument("--csv", metavar="FILE", help="write the counts of each class as CSV")
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    add_threads(parser)
    add_workers(parser)
    parser.add_argument("--batch-size", metavar="N", type=whole, default=1,
                        help="photos that a worker reads before it computes (default: %(default)s)")


def run(args) -> int:
    from ..common.figure_files import write_csv, write_json
    from ..jobs.class_folders import check_folder, check_outside
    from ..jobs.validate.validation import validate

    check_outputs(args, "csv", "json", force=args.force, reads=[args.labels_file, args.weights])
    check_folder(args.directory)
    if not args.labels_file:
        check_outside([args.csv, args.json], [args.directory])
    workers, how = chosen_workers(args), reading(args)
    model = make_model(args, num_threads=1)
    compile_kernels(precision=model.precision)
    print(model, flush=True)
    result = validate(model, args.directory, labels_file=args.labels_file, labels_base=args.labels_base,
                      preprocess=args.preprocess, workers=workers, batch_size=args.batch_size,
                      say=say, progress=True, **how)
    if result.photos:
        _print(result)
    if args.csv:
        rows = result.per_class()
        write_csv(args.csv, ["class", "synset", "label", "photos", "top1", "top5"], map(dict.values, rows),
                  force=args.force)
        print(f"wrote {plain(args.csv)}: {counted(len(rows), 'class')}")
    if args.json:
        what = {"directory": args.directory, "model": model.architecture.name, "weights": model.source.name,
                "input_size": list(model.preprocessing.input_size), "preprocess": args.preprocess,
                "precision": model.precision, **how}
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
            beside = f"   published {result.published[place]:.2%}" if result.published else ""
            print(f"{name}  {describe(hits, len(result.photos))}{beside}")
    if result.published:
        print(f"published: {MODEL_CARD}, 50,000 photos, timm's preprocessing")
