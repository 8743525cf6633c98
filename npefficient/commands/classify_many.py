"""`classify` for many photos: several are processed at the same time, and the results can be written to a file."""
import contextlib
import functools
import itertools
import sys
from collections import deque
from collections.abc import Iterator

from ..common.paths import is_same
from ..common.progress import Progress
from ..common.text import counted, plain
from ..jobs.output import begun, check_form, check_output, open_output
from ..jobs.output.settings import settings_of
from ..jobs.photo_paths import check_found
from ..jobs.rows import Schema
from ..jobs.stream import shift_by_fast_decode, stream
from ..model.model import warn_of_random
from .classified import exit_code, name_width, photos_of, show, topk
from .options import chosen_workers, compile_kernels, list_photos, make_model, reading, refusing
from .terminal import say

SAMPLE = 4  # photos that --fast-decode is measured on
NAMED = 5  # unreadable photos that are named on stderr; the rows of all of them give the reason


def run(args) -> int:
    _check(args)
    how = reading(args)
    named, unlisted = _named(args)
    photos, total = _Photos(named), len(named) if isinstance(named, list) else None
    photos.peek(1)  # report errors in the first arguments before any file is made
    if total and args.output is not None and not (args.resume and begun(args.output)):
        check_found(named)
    model = make_model(args, num_threads=1)
    warn_of_random(model)
    schema = Schema.of(model, topk(args), args.embeddings)
    compile_kernels(precision=model.precision)
    compute = functools.partial(
        stream, model, outputs=schema.outputs, workers=chosen_workers(args),
        batch_size=1 if args.batch_size is None else args.batch_size, fast_decode=args.fast_decode, **how)
    outcomes = compute(photos)  # checks the arguments; takes no photo yet
    if not args.json:
        print(model, flush=True)
    if args.output is None:
        _measure(args, model, photos, how)
        with contextlib.closing(outcomes):
            return _print(args, schema, outcomes, name_width(named) if total else 0, unlisted)
    settings = settings_of(model.stored_weights(), schema, precision=model.precision, exif=args.exif,
                           fast_decode=args.fast_decode, max_pixels=args.max_pixels)
    with open_output(args.output, schema, settings, resume=args.resume, force=args.force) as output:
        bad = output.skip(photos)
        _measure(args, model, photos, how)
        return _write(output, compute(bad) if bad else (), len(bad), outcomes, total, unlisted)


def _check(args) -> None:
    if args.output is None:
        for name in ("embeddings", "resume", "force"):
            if getattr(args, name):
                args.refuse(f"--{name} without --output: name the output file")
        return
    if args.json:
        args.refuse(f"--json with --output {args.output!r}: the suffix of the file sets its format; .jsonl is JSON")
    with refusing(args):
        check_form(args.output, embeddings=args.embeddings)
    if args.weights is not None and is_same(args.output, args.weights):
        args.refuse(f"--output {args.output!r}: this file is read, and would be lost; name a different one")
    check_output(args.output, resume=args.resume, force=args.force)


def _named(args) -> tuple:
    """The photos, as a list or, for standard input of any length, an iterator; and the folders that can't be listed."""
    named, unlisted = list_photos(args.photos) if args.photos else ((str(photo) for _, photo in photos_of(args)), [])
    return named if "-" in args.photos else list(named), unlisted


class _Photos:
    """An iterator with a look-ahead."""

    def __init__(self, photos):
        self._photos, self._ahead = iter(photos), deque()

    def __iter__(self):
        return self

    def __next__(self):
        return self._ahead.popleft() if self._ahead else next(self._photos)

    def peek(self, count: int) -> list:
        """The next `count` items, without consuming them."""
        self._ahead.extend(itertools.islice(self._photos, max(0, count - len(self._ahead))))
        return list(itertools.islice(self._ahead, count))


def _measure(args, model, photos: _Photos, how: dict) -> None:
    """Report how much --fast-decode changes the logits of the next photos."""
    if args.fast_decode and photos.peek(1):
        count, change, largest, same = shift_by_fast_decode(model, photos.peek(SAMPLE), **how)
        what, stays = ("logits", f"; {same} of them keep their most probable class") if model.num_classes else (
            "features", "")
        say(f"--fast-decode: on the first {counted(count, 'photo')} the {what} change by at most {change:.3g} (the "
            f"largest is {largest:.3g}){stays}")


def _print(args, schema: Schema, outcomes, width: int, unlisted) -> int:
    bad = count = 0
    for outcome in outcomes:
        count += 1
        bad += show(outcome.photo, schema.row(outcome), args.json, width)
        sys.stdout.flush()  # the next photo may take a while
    return exit_code(bad, count, unlisted)


def _write(output, again, bad: int, outcomes, total: int | None, unlisted) -> int:
    """Write the rows of `outcomes`; first replace the error rows of `bad` photos by the rows of `again`."""
    named = itertools.count()
    try:
        if bad:
            say(f"retrying {counted(bad, 'photo')} that could not be read before")
            with Progress(bad) as progress:
                mended = output.renew(_rows(output, again, progress, named))
            say(f"{mended:,} of {counted(bad, 'photo')} can be read now")
        nothing_left = output.count == total
        if not nothing_left:
            with Progress(total, done=output.count) as progress:
                for row in _rows(output, outcomes, progress, named):
                    output.add(row)
        output.publish()
    except KeyboardInterrupt as stop:
        output.publish()
        output.recount()
        raise type(stop)(f"{str(output.path)!r} has the first {counted(output.count, 'photo')}; the same command with "
                         "--resume continues") from stop
    output.finish()
    if nothing_left and not bad:
        print(f"nothing to do: {plain(output.path)} already has {counted(total, 'row')}, one for each photo")
    else:
        print(f"wrote {plain(output.path)}: {counted(output.count, 'row')}")
    return exit_code(output.bad, output.count, unlisted, ": their rows give the reason")


def _rows(output, outcomes, progress: Progress, named: Iterator[int]) -> Iterator[dict]:
    """Yield the rows of outcomes; the first NAMED unreadable photos, counted by `named`, are named on stderr."""
    with contextlib.closing(outcomes):
        for outcome in outcomes:
            if outcome.error is not None and (number := next(named)) <= NAMED:
                progress.say("npefficient: " + (f"error: {outcome.error}" if number < NAMED else
                                                "more photos can't be read; they are not named here"))
            yield output.schema.row(outcome)
            progress.advance()
