"""Teach a network classes of your own, from a folder of photos for each.

PHOTOS_DIR has a sub-folder for each class, named like the class, with its photos in it or below. Of each class a part
is kept out to measure with; to the others a new last layer is fitted (multinomial logistic regression by scikit-learn:
python -m pip install "npefficient[finetune]"). How strongly it is regularised is chosen by the smallest cross-entropy
on the part kept out, so that the accuracy printed for that part is slightly flattered. What is written is the layer
that was measured; with --refit one that was fitted once more, to all photos. `npefficient classify --weights` uses the
file, `npefficient export` hands it to timm. What was fitted with --exif is to be used with --exif.

What the network makes of each photo is kept, so that the next run with the same network decodes only photos that have
changed since: in ~/.cache/npefficient/embeddings (NPEFFICIENT_CACHE names another place), 5 kB a photo, at most 2 GiB
in all, of which the oldest go first.

Photos that can't be read are named on stderr and left out; the exit code stays 0 as long as every class has two left.
"""
from .options import add_reading, add_threads, add_weights, add_workers, compile_kernels, reading


def add_arguments(parser):
    parser.add_argument("photos_dir", metavar="PHOTOS_DIR", help="folder with a sub-folder for each class")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="weight file to write (.h5)")
    add_weights(parser)
    parser.add_argument("--val-split", metavar="SHARE", type=float, default=0.2,
                        help="share of each class to measure with (default: %(default)s)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of that choice (default: %(default)s)")
    parser.add_argument("--refit", action="store_true", help="write a layer fitted to all photos instead")
    add_reading(parser)
    parser.add_argument("--report", metavar="PICTURE", help="draw the confusion matrix (.png, .pdf, .svg)")
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON")
    parser.add_argument("--force", action="store_true", help="overwrite the files named")
    parser.add_argument("--no-cache", action="store_true", help="neither use nor keep embeddings")
    add_threads(parser)
    add_workers(parser)


def run(args) -> int:
    import sys

    from ..jobs.confusion_picture import check_picture, draw_confusion
    from ..engine.workers import check_threads
    from ..jobs.finetuning import finetune
    from ..paths import check_target
    from ..jobs.reports import write_json

    for path in filter(None, (args.report, args.json)):
        check_target(path, force=args.force)
    if args.report:
        check_picture(args.report)
    workers, how = check_threads(args.threads) if args.workers is None else args.workers, reading(args)
    compile_kernels()
    result = finetune(args.photos_dir, args.output, model=args.model, weights=args.weights, val_split=args.val_split,
                      seed=args.seed, refit=args.refit, cache=not args.no_cache, force=args.force, workers=workers,
                      say=lambda text: print(f"npefficient: {text}", file=sys.stderr), progress=True, **how)
    _print(result)
    if args.json:
        write_json(args.json, how | result.figures(), force=args.force)
        print(f"wrote {args.json}: all figures")
    if args.report:
        draw_confusion(result.confusion, result.labels, args.report, force=args.force)
        print(f"wrote {args.report}: the confusion matrix")
    print(f"wrote {args.output}: {result.weights.architecture.name} with {len(result.labels)} classes")
    for _, error in result.bad:
        print(f"npefficient: error: {error}", file=sys.stderr)
    if result.bad:
        print(f"npefficient: {len(result.bad):,} of {len(result.bad) + len(result.photos):,} photos could not be read "
              "and are left out", file=sys.stderr)
    return 0


def _print(result) -> None:
    from ..jobs.accuracy import describe

    kept = len(result.photos) - result.computed
    print(f"{len(result.photos):,} photos of {len(result.labels)} classes: {result.computed:,} went through the "
          f"network, {kept:,} had been kept from before")
    print(f"regularisation {result.penalty:g}, the best of " +
          ", ".join(f"{trial.penalty:g} ({trial.loss:.3f})" for trial in result.trials) + " by cross-entropy\n")
    width = max(5, *map(len, result.labels))
    print(f"{'class':{width}}  train    val  correct  accuracy")
    for row in result.per_class():
        print(f"{row['label']:{width}}{row['train']:>7,}{row['val']:>7,}{row['correct']:>9,}{row['accuracy']:>10.1%}")
    print(f"\naccuracy {describe(result.correct, result.measured)}" +
          (", before the layer was fitted to all photos" if result.refit else ""))
