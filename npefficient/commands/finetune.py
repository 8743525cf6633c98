"""Teach a network classes of your own, from a folder of photos for each.

PHOTOS_DIR has a sub-folder for each class, named like the class, with its photos in it or below. Of each class a part
is kept out to measure with; to the others a new last layer is fitted (multinomial logistic regression by scikit-learn:
python -m pip install "npefficient[finetune]"). How strongly it is regularised is chosen by the smallest cross-entropy
on the part kept out, so that the accuracy printed for that part is slightly flattered. What is written is the layer
that was measured; with --refit one that was fitted once more, to all photos. `npefficient classify --weights` uses the
file, `npefficient export` hands it to timm: the classes are numbered as timm's own reader of such folders numbers them
(2 before 10, capitals as small letters), and the file keeps their names. What was fitted with --exif is to be used with
--exif.

What the network makes of each photo is kept, so that the next run with the same network decodes only photos that have
changed since: in ~/.cache/npefficient/embeddings (NPEFFICIENT_CACHE names another place), 5 kB a photo, at most 2 GiB
in all, of which the oldest go first.

Photos that can't be read are named on stderr and left out; the exit code stays 0 as long as every class has two left.
"""
from ..common.text import counted, listed, plain, short
from .options import add_reading, add_threads, add_weights, add_workers, compile_kernels, number, reading
from .terminal import say

share = number(float, "a share above 0 and below 1, such as 0.2", lambda value: 0 < value < 1)
seed = number(int, "a whole number of at least 0", lambda value: value >= 0)


def add_arguments(parser):
    parser.add_argument("photos_dir", metavar="PHOTOS_DIR", help="folder with a sub-folder for each class")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="weight file to write (.h5)")
    add_weights(parser)
    parser.add_argument("--val-split", metavar="SHARE", type=share, default=0.2,
                        help="share of each class to measure with (default: %(default)s)")
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="of that choice (default: %(default)s)")
    parser.add_argument("--refit", action="store_true", help="write a layer fitted to all photos instead")
    add_reading(parser)
    parser.add_argument("--report", metavar="PICTURE", help="draw the confusion matrix (.png, .pdf, .svg)")
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON")
    parser.add_argument("--force", action="store_true", help="overwrite the files named")
    parser.add_argument("--no-cache", action="store_true", help="neither use nor keep embeddings")
    add_threads(parser)
    add_workers(parser)


def run(args) -> int:
    from ..common.paths import check_target
    from ..engine.workers import check_threads
    from ..jobs.figure_files import write_json
    from ..jobs.finetune.confusion_picture import check_picture, draw_confusion
    from ..jobs.finetune.finetuning import finetune

    for path in filter(None, (args.report, args.json)):
        check_target(path, force=args.force)
    if args.report:
        check_picture(args.report)
    workers, how = check_threads(args.threads) if args.workers is None else args.workers, reading(args)
    compile_kernels()
    result = finetune(args.photos_dir, args.output, model=args.model, weights=args.weights, val_split=args.val_split,
                      seed=args.seed, refit=args.refit, cache=not args.no_cache, force=args.force, workers=workers,
                      say=say, progress=True, **how)
    _print(result)
    if args.json:
        write_json(args.json, how | result.figures(), force=args.force)
        print(f"wrote {plain(args.json)}: all figures")
    if args.report:
        boxed = draw_confusion(result.confusion, result.labels, args.report, force=args.force)
        print(f"wrote {plain(args.report)}: the confusion matrix")
        if boxed:
            say(f"warning: {plain(args.report)} shows boxes for letters that its font lacks, in {listed(boxed)}")
    print(f"wrote {plain(args.output)}: {result.weights.architecture.name} with "
          f"{counted(len(result.labels), 'class')}, numbered in timm's order of such folders")
    for _, error in result.bad:
        say(f"error: {error}")
    if result.bad:
        say(f"{len(result.bad):,} of {counted(len(result.bad) + len(result.photos), 'photo')} could not be read and "
            "are left out")
    return 0


def _print(result) -> None:
    from ..jobs.accuracy import describe

    kept = len(result.photos) - result.computed
    print(f"{counted(len(result.photos), 'photo')} of {counted(len(result.labels), 'class')}: {result.computed:,} went "
          f"through the network, {kept:,} had been kept from before")
    penalties = [trial.penalty for trial in result.trials]
    ends = {max(penalties): "stronger", min(penalties): "weaker"}
    print(f"regularisation {result.penalty:g}, the best of " +
          ", ".join(f"{trial.penalty:g} ({trial.loss:.3f})" for trial in result.trials) + " by cross-entropy" +
          (f"; none {ends[result.penalty]} was tried" if result.penalty in ends else "") + "\n")
    labels = [short(label) for label in result.labels]
    width = max(5, *map(len, labels))
    print(f"{'class':{width}}  train    val  correct  accuracy")
    for label, row in zip(labels, result.per_class()):
        print(f"{label:{width}}{row['train']:>7,}{row['val']:>7,}{row['correct']:>9,}{row['accuracy']:>10.1%}")
    print(f"\naccuracy {describe(result.correct, result.measured)}" +
          (", before the layer was fitted to all photos" if result.refit else ""))
