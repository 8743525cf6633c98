"""Classify photos.

Prints the most probable classes of each photo, with their probabilities. A photo that can't be read is reported on
stderr; the others are still classified, and the exit code is 1. --demo needs no photo: it runs Lite0 on four
photographs that come with npefficient. If the official weights are neither cached nor installed, it runs the embedded
model, a Lite0 trained on scikit-learn's handwritten digits, on ten digits that it was not trained on.

PHOTO may also be a folder (all photos in it and below, sorted, without hidden ones), a quoted glob ('**' matches any
folders), a list (a file name ending in .txt), or - for standard input. A list and standard input have one path per
line, or a NUL byte after each (find -print0), relative to the current directory. Folders that can't be listed are
reported on stderr, and so is the number of photos in formats that Pillow can't read.

--output writes the results to a file, one row per photo in the order given. The first photos that can't be read are
named on stderr, and the rows of all of them give the reason. If none of the photos exists, for example after a typing
error, no file is made. --resume continues after any interruption, with the same photos and settings: photos that were
read are not repeated; the others are tried again, and their new rows replace the old ones. Ctrl-C and SIGTERM leave a
valid file. The state for --resume is in hidden files beside it, such as .rows.csv.settings.json. In names, control
characters are written as escapes, such as \\n, and bytes that are not UTF-8 as \\udcXX. In a .csv file, an apostrophe
is put before text that a spreadsheet would take for a formula.

--engine ray runs the work on Ray, on this machine or on a cluster (--address) where every machine has npefficient with
its extra ray. --output is then a directory of Parquet files with the same rows as a .parquet file; in the order of
their names, they have the order of the photos. PHOTO and --output may be addresses, such as s3://bucket/photos. Ray
restarts lost workers and repeats their work. There is no --resume: files that were written stay, and another run needs
a new directory.
"""
from .classified import exit_code, name_width, photos_of, show, topk
from .options import (
    add_precision,
    add_reading,
    add_threads,
    add_weights,
    add_workers,
    compile_kernels,
    make_model,
    reading,
)
from .values import whole


def add_arguments(parser):
    parser.add_argument("photos", metavar="PHOTO", nargs="*", help="any picture that Pillow reads, a folder, a glob, a "
                                                                   "LIST.txt, or - for standard input")
    add_weights(parser, demo="classify the photographs that come with npefficient")
    add_precision(parser)
    parser.add_argument("--topk", metavar="K", type=whole,
                        help="how many classes to show (default: 5; 3 for --demo)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line for every photo, with "
                                                              "the fields of a .jsonl file")
    add_threads(parser)
    add_reading(parser)
    many = parser.add_argument_group("many photos")
    many.add_argument("--output", metavar="FILE", help="write one row per photo to FILE; its suffix, .csv, .jsonl, "
                                                       ".parquet or .h5, sets the format")
    many.add_argument("--embeddings", action="store_true", help="add the pooled features to each row; not for .csv")
    how = many.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="keep the rows in FILE, continue after them, and retry "
                                                          "photos that could not be read")
    how.add_argument("--force", action="store_true", help="overwrite an existing FILE")
    add_workers(many)
    many.add_argument("--batch-size", metavar="N", type=whole, help="photos that a worker reads before it computes "
                                                                    "(default: 1)")
    many.add_argument("--fast-decode", action="store_true", help="decode JPEGs that are much larger than needed at "
                                                                 "1/2, 1/4 or 1/8 of their size: faster, but changes "
                                                                 "the logits a little; the change on the first photos "
                                                                 "is reported")
    ray = parser.add_argument_group("more than one machine")
    ray.add_argument("--engine", choices=("threads", "ray"), default="threads",
                     help="threads: threads of this process (default); ray: Ray workers, --workers processes with "
                          "--threads processors each (default: one processor each, and as many as there are)")
    ray.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster, such as auto or 10.0.0.1:6379 (default: "
                                                          "RAY_ADDRESS, else only this machine)")


def run(args) -> int:
    if args.engine == "ray":
        from . import classify_ray

        return classify_ray.run(args)
    if args.address is not None:
        args.refuse(f"--address {args.address!r} without --engine ray: it is the address of a Ray cluster")
    if _many(args):
        from . import classify_many

        return classify_many.run(args)
    return _one_by_one(args)


def _many(args) -> bool:
    """True if several photos are to be processed at the same time."""
    wishes = (args.output, args.embeddings, args.resume, args.force, args.workers, args.batch_size, args.fast_decode)
    if any(wish not in (None, False) for wish in wishes):
        return True
    if not args.photos:
        return False
    from ..jobs.photo_paths import is_several

    return any(map(is_several, args.photos))


def _one_by_one(args) -> int:
    """Classify and print one photo at a time, with all processors on each."""
    from ..errors import ImageError
    from ..images.image import open_image
    from ..jobs.rows import Schema
    from ..jobs.stream import Outcome
    from ..model.model import warn_of_random

    photos, how = photos_of(args), reading(args)
    model = make_model(args, args.threads)
    warn_of_random(model)
    schema = Schema.of(model, topk(args))
    compile_kernels(precision=model.precision)
    if not args.json:
        print(model)
    bad, width = 0, name_width(name for name, _ in photos)
    for name, photo in photos:
        try:
            image = open_image(photo, in_chans=model.architecture.in_chans, **how)
            outcome = Outcome(name, {"classifier": model(model.transform(image)[None])[0]}, None)
        except ImageError as error:
            outcome = Outcome(name, None, str(error))
        bad += show(name, schema.row(outcome), args.json, width)
    return exit_code(bad, len(photos))
