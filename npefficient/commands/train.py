"""Train a network on your own classes, from a folder of photos for each class.

PHOTOS_DIR has a sub-folder for each class, named after it, with its photos in it or below. A part of each class, or the
folder --val-dir, is held out. All weights are trained but those of the stages that --freeze names and, with
--freeze-bn, those of batch norm. They start as those of --from, with a new classifier unless they are for the same
classes. After each epoch the network is measured on the held-out photos. OUT.h5 has the weights of the best epoch, so
its accuracy is slightly optimistic. Beside it, OUT-last.h5 has the weights after the last epoch, and OUT.csv a line for
each epoch. Where matplotlib is installed, OUT-curves.png and OUT-confusion.png show losses, accuracy and confused
classes.

A recipe is a file with an option on each line, such as "lr = 0.01"; --print-recipe writes one. Options on the command
line take the place of the recipe's. Their names and meanings are those of timm's train.py.

The run is kept after each epoch, every five minutes, and when it is interrupted. The same command with --resume goes on
from there, and ends with the same bits as without a stop, for any number of threads.

`npefficient classify --weights OUT.h5` uses the file, `npefficient export` converts it for timm. After training with
--exif, classify with --exif. Photos that can't be read are named on stderr, and others take their places; the exit code
stays 0.
"""
from argparse import BooleanOptionalAction
from pathlib import Path

from ..common.text import counted, plain
from ..training.recipe_values import Flag, OrNone, Range, Word
from ..training.recipes import OPTIONS
from .options import add_reading, add_threads, add_workers, compile_kernels, is_file_name, reading, refusing
from .terminal import say
from .values import model_name, share, weight_output


def add_arguments(parser):
    parser.usage = "%(prog)s PHOTOS_DIR -o OUT.h5 [--recipe NAME|FILE] [options]"  # short, as each error repeats it
    parser.add_argument("photos_dir", metavar="PHOTOS_DIR", nargs="?", help="folder with a sub-folder for each class")
    parser.add_argument("-o", "--output", metavar="OUT.h5", type=weight_output, help="the weight file to write")
    parser.add_argument("--model", metavar="NAME", type=model_name,
                        help="lite0 to lite4 (default: the network of --from, or lite0)")
    parser.add_argument("--from", dest="start", metavar="WHAT",
                        help="what to start from: lite0 to lite4 for the official ImageNet weights, a weight file "
                             "(.h5) or checkpoint (.pth, .safetensors), or nothing, for random weights (default: the "
                             "official weights of --model)")
    parser.add_argument("--recipe", metavar="NAME|FILE", default="finetune",
                        help="finetune, few-photos, efficientnet or a file (default: %(default)s)")
    parser.add_argument("--print-recipe", action="store_true", help="print all options as a recipe file, and stop")
    held_out = parser.add_mutually_exclusive_group()
    held_out.add_argument("--val-dir", metavar="DIR",
                          help="folder with the photos to validate on, in sub-folders named like some of the classes")
    held_out.add_argument("--val-split", metavar="SHARE", type=share, default=0.2,
                          help="else the share of each class to hold out (default: %(default)s)")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true",
                       help="go on with the run that was begun with the same command, if one was")
    again.add_argument("--force", action="store_true", help="begin anew, and overwrite existing files")
    add_reading(parser)
    add_threads(parser)
    add_workers(parser)
    group = parser.add_argument_group("options of the recipe")
    for name, option in OPTIONS.items():
        group.add_argument(f"--{name}", dest=f"recipe_{option.field}", help=option.help.replace("%", "%%"),
                           **_form(option.kind))


def _form(kind) -> dict:
    """How an option of this kind is given on the command line."""
    kind = kind.kind if isinstance(kind, OrNone) else kind
    if isinstance(kind, Flag):
        return {"action": BooleanOptionalAction}
    if isinstance(kind, Range):
        return {"nargs": 2, "metavar": ("LOW", "HIGH")}
    return {"metavar": "|".join(kind.words) if isinstance(kind, Word) else "VALUE"}


def run(args) -> int:
    from ..engine.cpus import check_threads
    from ..jobs.class_folders import check_outside
    from ..network.variants import canonical_name
    from ..training.recipe_files import recipe_text
    from ..training.run_files import check_run_files
    from ..training.train import train

    with refusing(args):
        recipe = _recipe(args)
    if args.print_recipe:
        print(recipe_text(recipe), end="")
        return 0
    missing = [what for what, given in (("PHOTOS_DIR", args.photos_dir), ("-o/--output", args.output)) if not given]
    if missing:
        args.refuse(f"the following arguments are required: {', '.join(missing)}")
    start = args.start
    if start not in (None, "nothing"):
        with refusing(args):  # a Path, as `train` takes a str for a model's name first
            start = Path(start) if is_file_name(start) else canonical_name(start)
    check_run_files(args.output, start, resume=args.resume, force=args.force)
    check_outside([args.output], [args.photos_dir, args.val_dir])
    threads, how = check_threads(args.threads), reading(args)
    compile_kernels(training=True)
    result = train(args.photos_dir, args.output, model=args.model, weights=start, recipe=recipe, val_dir=args.val_dir,
                   val_split=args.val_split, resume=args.resume, force=args.force, num_threads=threads,
                   workers=args.workers, say=say, progress=True, **how)
    _print(result)
    return 0


def _recipe(args):
    """The recipe with the options of the command line."""
    from ..training.recipe_files import read_recipe
    from ..training.recipes import changed

    given = {name: getattr(args, f"recipe_{option.field}") for name, option in OPTIONS.items()}
    texts = {name: " ".join(value) if isinstance(value, list) else str(value).lower() if isinstance(value, bool)
             else value for name, value in given.items() if value is not None}
    return changed(read_recipe(args.recipe), texts)


def _print(result) -> None:
    from ..jobs.accuracy import describe

    best, last, table = map(plain, result.files)
    of = f"epoch {result.best.epoch} of {len(result.epochs)}"
    photos = result.best.val_photos
    print(f"accuracy {describe(round(result.best.val_top1 * photos), photos)}, after {of}")
    print(f"wrote {best}: {result.weights.architecture.name} with {counted(len(result.labels), 'class')}, after {of}")
    print(f"wrote {last}: the weights after the last epoch")
    print(f"wrote {table}: a line for each epoch")
    for path, what in zip(result.pictures, ("the losses and the accuracy", "the confusion matrix")):
        print(f"wrote {plain(path)}: {what}")
    if result.bad:
        say(f"{counted(len(result.bad), 'photo')} could not be read; others took their places")
