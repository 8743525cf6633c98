"""What `classify` does with many photos: several are on their way at the same time, and the rows can be kept."""
import contextlib
import functools
import itertools
import sys
from collections import deque

from ..engine.workers import check_threads
from ..errors import ArgumentError
from ..loading import load_weights
from ..model import Model
from ..jobs.output import open_output
from ..jobs.output.settings import settings_of
from ..jobs.photos import each_photo
from ..jobs.progress import Progress
from ..jobs.rows import Schema
from ..jobs.stream import shift_by_fast_decode, stream
from .classify import exit_code, photos_of, show
from .options import compile_kernels, weights_path

SAMPLE = 4  # photos that --fast-decode is measured on


def run(args) -> int:
    _check(args)
    photos, total = _photos(args)
    path = weights_path(args)
    weights = load_weights(path)
    model = Model(weights, num_threads=1, load=functools.partial(load_weights, path))
    schema = Schema.of(model, args.topk, args.embeddings)
    compile_kernels()
    workers = check_threads(args.threads) if args.workers is None else args.workers
    outcomes = stream(model, photos, outputs=schema.outputs, workers=workers, exif=args.exif,
                      batch_size=1 if args.batch_size is None else args.batch_size, fast_decode=args.fast_decode)
    if not args.json:
        print(model, flush=True)
    with contextlib.closing(outcomes):
        if args.output is None:
            _measure(args, model, photos)
            return _print(args, schema, outcomes)
        settings = settings_of(weights, schema, exif=args.exif, fast_decode=args.fast_decode)
        with open_output(args.output, schema, settings, resume=args.resume, force=args.force) as output:
            output.skip(photos)
            _measure(args, model, photos)
            return _write(output, outcomes, total)


def _check(args) -> None:
    if args.output is None:
        for name in ("embeddings", "resume", "force"):
            if getattr(args, name):
                raise ArgumentError(f"--{name} without --output: name the file that it is about")
    elif args.json:
        raise ArgumentError(f"--json with --output {args.output!r}: the file's suffix says its form; .jsonl is JSON")


def _photos(args) -> tuple["_Photos", int | None]:
    """The photos, and how many there are; standard input can have any number, so it is not read to its end first."""
    named = each_photo(args.photos) if args.photos else (str(photo) for _, photo in photos_of(args))
    if "-" not in args.photos:
        named = list(named)
    photos = _Photos(named)
    photos.peek(1)  # what is wrong with the first ones is said before anything is made
    return photos, len(named) if isinstance(named, list) else None


class _Photos:
    """An iterator that can be looked into."""

    def __init__(self, photos):
        self._photos, self._ahead = iter(photos), deque()

    def __iter__(self):
        return self

    def __next__(self):
        return self._ahead.popleft() if self._ahead else next(self._photos)

    def peek(self, count: int) -> list:
        """The next ones, which stay."""
        self._ahead.extend(itertools.islice(self._photos, max(0, count - len(self._ahead))))
        return list(itertools.islice(self._ahead, count))


def _measure(args, model, photos: _Photos) -> None:
    """Say what --fast-decode does to the logits of the next photos."""
    if args.fast_decode:
        count, change, largest, same = shift_by_fast_decode(model, photos.peek(SAMPLE), exif=args.exif)
        what, stays = ("logits", f", and the most probable class stays on {same}") if model.num_classes else (
            "features", "")
        print(f"--fast-decode: on the first {count} photos the {what} move by at most {change:.3g} (the largest is "
              f"{largest:.3g}){stays}", file=sys.stderr)


def _print(args, schema: Schema, outcomes) -> int:
    bad = count = 0
    for count, outcome in enumerate(outcomes, 1):
        if outcome.error is None:
            classes = schema.row(outcome)["classes"]
            show(outcome.photo, [(found["label"], found["probability"]) for found in classes], args.json)
            sys.stdout.flush()  # the next photo may be long in coming
        else:
            bad += 1
            print(f"npefficient: error: {outcome.error}", file=sys.stderr)
    return exit_code(bad, count)


def _write(output, outcomes, total: int | None) -> int:
    try:
        with contextlib.closing(outcomes), Progress(total, done=output.count) as progress:
            for outcome in outcomes:
                output.add(output.schema.row(outcome))
                progress.advance()
        output.publish()
    except KeyboardInterrupt:
        output.publish()
        output.recount()
        print(f"npefficient: interrupted: {str(output.path)!r} has the first {output.count:,} photos; the same command "
              "with --resume goes on", file=sys.stderr)
        return 130
    output.finish()
    print(f"wrote {output.path}: {output.count:,} rows")
    return exit_code(output.bad, output.count)
