"""Train the classifier on your own classes, from a folder of photos for each class.

PHOTOS_DIR has a sub-folder for each class, named after it, with its photos in it or below. Some photos of each class
are held out. A new last layer is fitted to the others by multinomial logistic regression and evaluated on the held-out
ones. It needs scikit-learn: python -m pip install matplotlib scikit-learn. The regularisation strength is the one with
the lowest loss on the held-out photos, so the accuracy is slightly optimistic. OUT.h5 has the layer that was evaluated;
with --refit, one that was then fitted to all photos.

`npefficient classify --weights OUT.h5` uses the file, `npefficient export` converts it for timm. It contains the class
names, in timm's order for such folders (2 before 10, ignoring case), and 8 bytes of a hash of each photo in the fit, by
which `npefficient validate` recognises them. After fitting with --exif, classify with --exif; after fitting with
--precision int8, with --precision int8. The weights in OUT.h5 are float32 all the same.

The network's features of each photo (5 kB) are cached in ~/.cache/npefficient/embeddings, or below NPEFFICIENT_CACHE.
The next run with the same network decodes only photos that are new or have changed. Above 2 GiB, the least recently
used features are deleted.

Photos that can't be read are named on stderr and left out; the exit code stays 0 as long as each class has two left.
"""
from ..common.picture_files import PICTURES
from ..common.text import counted, listed, plain, short
from .options import (
    add_precision,
    add_reading,
    add_threads,
    add_weights,
    add_workers,
    check_outputs,
    chosen_workers,
    compile_kernels,
    reading,
    weights_path,
)
from .terminal import say
from .values import ending, number, share, weight_output

seed = number(int, "a whole number of at least 0", lambda value: value >= 0)


def add_arguments(parser):
    parser.add_argument("photos_dir", metavar="PHOTOS_DIR", help="folder with a sub-folder for each class")
    parser.add_argument("-o", "--output", metavar="OUT.h5", type=weight_output, required=True,
                        help="the weight file to write")
    add_weights(parser)
    add_precision(parser)
    parser.add_argument("--val-split", metavar="SHARE", type=share, default=0.2,
                        help="share of each class to hold out for evaluation (default: %(default)s)")
    parser.add_argument("--seed", metavar="N", type=seed, default=42,
                        help="random seed for choosing the held-out photos (default: %(default)s)")
    parser.add_argument("--refit", action="store_true", help="after evaluation, fit again to all photos")
    add_reading(parser)
    parser.add_argument("--report", metavar="PICTURE", type=ending(*PICTURES),
                        help=f"draw the confusion matrix ({', '.join(PICTURES)})")
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    parser.add_argument("--no-cache", action="store_true", help="do not read or write cached features")
    add_threads(parser)
    add_workers(parser)


def run(args) -> int:
    from ..common.figure_files import write_json
    from ..common.picture_files import check_matplotlib
    from ..jobs.class_folders import check_outside
    from ..jobs.finetune.confusion_picture import draw_confusion
    from ..jobs.finetune.finetuning import finetune
    from ..jobs.finetune.linear_classifier import check_installed

    check_installed()
    if args.report:
        check_matplotlib("finetune")
    check_outputs(args, "output", "json", "report", force=args.force, reads=[args.weights])
    check_outside([args.output, args.json, args.report], [args.photos_dir])
    workers, how = chosen_workers(args), reading(args)
    precision = args.precision or "float32"  # that of the weights, as no others can be fitted to
    compile_kernels(precision=precision)
    result = finetune(args.photos_dir, args.output, weights=weights_path(args), val_split=args.val_split,
                      seed=args.seed, refit=args.refit, cache=not args.no_cache, force=args.force, workers=workers,
                      precision=precision, say=say, progress=True, **how)
    _print(result)
    if args.json:
        write_json(args.json, how | result.figures(), force=args.force)
        print(f"wrote {plain(args.json)}: all figures")
    if args.report:
        escaped = draw_confusion(result.confusion, result.labels, args.report, force=args.force)
        print(f"wrote {plain(args.report)}: the confusion matrix")
        if escaped:
            say(f"warning: {plain(args.report)} has escapes for letters that no installed font has, in "
                f"{listed(escaped)}")
    print(f"wrote {plain(args.output)}: {result.weights.architecture.name} with "
          f"{counted(len(result.labels), 'class')}, in timm's order for such folders" +
          f"; use it with --precision {result.precision}" * (result.precision != "float32"))
    for _, error in result.bad:
        say(f"error: {error}")
    if result.bad:
        say(f"{len(result.bad):,} of {counted(len(result.bad) + len(result.photos), 'photo')} could not be read and "
            "are left out")
    return 0


def _print(result) -> None:
    from ..jobs.accuracy import describe

    kept = len(result.photos) - result.computed
    print(f"{counted(len(result.photos), 'photo')} of {counted(len(result.labels), 'class')}: "
          f"{result.computed:,} through the network, {kept:,} from the cache")
    losses = {trial.penalty: trial.loss for trial in result.trials}
    strongest, weakest = max(losses), min(losses)
    end = {strongest: "; nothing stronger was tried", weakest: "; nothing weaker was tried"}.get(result.penalty, "")
    print(f"regularisation: {result.penalty:g}, with the lowest held-out loss ({losses[result.penalty]:.3f}) of "
          f"{len(losses)} strengths from {strongest:g} to {weakest:g}{end}\n")
    labels = [short(label) for label in result.labels]
    width = max(5, *map(len, labels))
    print(f"{'class':{width}}  train    val  correct  accuracy")
    for label, row in zip(labels, result.per_class()):
        print(f"{label:{width}}{row['train']:>7,}{row['val']:>7,}{row['correct']:>9,}{row['accuracy']:>10.1%}")
    print(f"\naccuracy {describe(result.correct, result.measured)}" +
          (", before the final fit to all photos" if result.refit else ""))
