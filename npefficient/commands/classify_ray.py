"""`classify --engine ray`: Ray workers process the photos; the rows are the same."""
import contextlib
import sys

from ..common.text import counted, plain
from ..jobs.distributed import HERE, check_job, classify, first_errors, is_remote
from ..jobs.photo_paths import check_found
from ..model.loading import load_stored
from .classified import exit_code, photos_of, topk
from .options import list_photos, reading, weights_path
from .terminal import say

NAMED = 5  # unreadable photos that are named on stderr


def run(args) -> int:
    if args.output is None:
        args.refuse("--engine ray without --output: name a directory for Parquet files, such as rows.parquet")
    for name in ("json", "resume", "force", "batch_size"):
        if getattr(args, name):
            args.refuse(f"--{name.replace('_', '-')} with --engine ray: Ray writes Parquet files into a new directory, "
                        "and chooses the batch size itself")
    how = reading(args)
    photos, unlisted = _photos(args)
    where = {"workers": args.workers, "processors": 1 if args.threads is None else args.threads,
             "address": args.address}
    _, address = check_job(photos, args.output, **where)
    if address == HERE and not any(map(is_remote, photos)):
        check_found(photos)
    weights = load_stored(weights_path(args))
    with contextlib.redirect_stderr(sys.stderr.unfiltered):  # Ray draws its progress with escape sequences
        count, bad = classify(photos, weights, args.output, topk=topk(args), embeddings=args.embeddings,
                              precision=args.precision, fast_decode=args.fast_decode, **where, **how)
    print(f"wrote {plain(args.output)}: {counted(count, 'row')}")
    for error in first_errors(args.output, NAMED) if bad else ():
        say(f"error: {error}")
    return exit_code(bad, count, unlisted, ": their rows give the reason")


def _photos(args) -> tuple[list[str], list[str]]:
    """The photos and the folders that can't be listed; addresses are passed on for Ray to list."""
    if any(map(is_remote, args.photos)):
        return args.photos, []
    if not args.photos:
        return [str(photo) for _, photo in photos_of(args)], []
    photos, unlisted = list_photos(args.photos)
    return list(photos), unlisted
