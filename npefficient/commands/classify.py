"""Say what is on photos.

For each photo the most probable classes with their probability. A photo that can't be read is reported on stderr, the
others go on, and the exit code is 1 at the end. --demo needs no photo: it shows Lite0 on four photographs that come
with npefficient, or, where the official weights are neither kept nor installed, the embedded model, a Lite0 trained on
scikit-learn's handwritten digits, on ten digits that it has not seen.

PHOTO may also be a folder (every photo in it and below, sorted; hidden ones left out), a quoted glob ('**' for any
folders), a list (a name that ends in .txt) or - for standard input, both with a path on each line or a NUL byte after
each (find -print0), relative to the current directory. A folder below that can't be listed is reported on stderr as
well, and so is how many photos are of a kind that Pillow can't read. --output keeps the results, a row for each photo
in the order given; --resume goes on after an interruption of any kind, with the same photos and settings. It does none
twice that could be read, and tries the others again, whose new rows take the places of the old ones. Ctrl-C and SIGTERM
leave a valid file. The first photos that can't be read are named on stderr, and the rows of all say why. Where not one
of the photos is there, as with a mistyped name, no file is made. In names what a terminal would obey is written as an
escape, such as \\n, and bytes that are no UTF-8 as \\udcXX. In a .csv an apostrophe stands before text that a
spreadsheet would take for a formula. What --resume needs lies beside the file, in hidden ones such as
.rows.csv.settings.json.

--engine ray gives the work to Ray, on this machine or on a cluster (--address), where npefficient is installed with
its extra ray on each. --output is then a directory of Parquet files with the rows that .parquet has; sorted by their
names, they have the order of the photos. PHOTO and --output may be addresses, such as s3://bucket/photos. Ray starts
lost workers again and repeats their work; there is no --resume: what was written stays, and another run needs another
directory.
"""
from .classified import exit_code, name_width, photos_of, show, topk
from .options import add_reading, add_threads, add_weights, add_workers, compile_kernels, make_model, reading, whole
from .terminal import say


def add_arguments(parser):
    parser.add_argument("photos", metavar="PHOTO", nargs="*", help="any picture that Pillow reads, a folder, a glob, a "
                                                                   "LIST.txt, or - for standard input")
    add_weights(parser, demo="classify the photographs that come with npefficient")
    parser.add_argument("--topk", metavar="K", type=whole,
                        help="how many classes to show (default: 5; 3 for --demo)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line for every photo")
    add_threads(parser)
    add_reading(parser)
    many = parser.add_argument_group("many photos")
    many.add_argument("--output", metavar="FILE", help="write rows there: .csv, .jsonl, .parquet or .h5, by its suffix")
    many.add_argument("--embeddings", action="store_true", help="add the pooled features to each row; not for .csv")
    how = many.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="keep the rows that FILE has, go on after them, and "
                                                          "try photos again that could not be read")
    how.add_argument("--force", action="store_true", help="begin FILE anew")
    add_workers(many)
    many.add_argument("--batch-size", metavar="N", type=whole, help="photos that a worker reads before it computes "
                                                                    "(default: 1)")
    many.add_argument("--fast-decode", action="store_true", help="decode JPEGs much larger than needed at 1/2, 1/4 or "
                                                                 "1/8: quicker, and the logits move a little; says how "
                                                                 "much on the first photos")
    ray = parser.add_argument_group("more than one machine")
    ray.add_argument("--engine", choices=("threads", "ray"), default="threads",
                     help="who computes: threads of this process (default), or workers of Ray: --workers processes "
                          "with --threads processors each (default: as many as there is room for, with one)")
    ray.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster, such as auto or 10.0.0.1:6379 (default: "
                                                          "RAY_ADDRESS, else this machine alone)")


def run(args) -> int:
    if args.engine == "ray":
        from . import classify_ray

        return classify_ray.run(args)
    if args.address is not None:
        args.refuse(f"--address {args.address!r} without --engine ray: only Ray has a cluster")
    if _many(args):
        from . import classify_many

        return classify_many.run(args)
    return _one_by_one(args)


def _many(args) -> bool:
    """True where several photos are to be on their way at the same time."""
    wishes = (args.output, args.embeddings, args.resume, args.force, args.workers, args.batch_size, args.fast_decode)
    if any(wish not in (None, False) for wish in wishes):
        return True
    if not args.photos:
        return False
    from ..jobs.photo_paths import is_several

    return any(map(is_several, args.photos))


def _one_by_one(args) -> int:
    """Print what is on one photo after the other, with all processors on each."""
    from ..errors import ImageError
    from ..images.image import open_image

    photos, how = photos_of(args), reading(args)
    model = make_model(args, args.threads)
    compile_kernels()
    if not args.json:
        print(model)
    bad, width = 0, name_width(name for name, _ in photos)
    for name, photo in photos:
        try:
            image = open_image(photo, in_chans=model.architecture.in_chans, **how)
            result = model.classify(image, topk=topk(args))
        except ImageError as error:
            bad += 1
            say(f"error: {error}")
        else:
            show(name, result, args.json, width)
    return exit_code(bad, len(photos))
