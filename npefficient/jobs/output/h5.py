"""Rows as an HDF5 file.

    /photo, /error      (N,) text, UTF-8; the error is "" where all is well
    /classes            (N, k) int64, the most probable first; -1 where the photo could not be read
    /probabilities      (N, k) float32; NaN there
    /embeddings         (N, 1280) float32, where they are asked for; NaN there
    /labels             (classes,) text: the name of every class
    Without a classifier there are no /classes and no /probabilities.
    attribute "npefficient" of the root: the settings as JSON
"""
import contextlib
import io
import itertools
import json
import math
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ...errors import ArgumentError
from ..rows import Schema

READ = 256  # rows to take back at once
CHUNK = 1 << 16  # bytes of a dataset's chunk
KEY = "npefficient"


def check() -> None:
    """All that it needs is always there."""


def write(path: Path, rows: Iterable[dict], schema: Schema, settings: dict) -> None:
    """Write all rows into a file at `path`, some thousand at a time."""
    import h5py

    with _holding_back_interrupts() as interrupted, _Target(path, "w+") as target, h5py.File(target, "w") as file:
        file.attrs[KEY] = json.dumps(settings)
        file.create_dataset("labels", data=list(schema.labels), dtype=h5py.string_dtype())
        for name, column in _columns([], schema).items():
            extent, dtype = column.shape[1:], h5py.string_dtype() if column.dtype == object else column.dtype
            chunk = max(1, CHUNK // (column.itemsize * math.prod(extent)))
            file.create_dataset(name, (0, *extent), dtype, maxshape=(None, *extent), chunks=(chunk, *extent))
        for group in schema.groups(rows):
            if target.problem or interrupted:
                return
            for name, column in _columns(group, schema).items():
                dataset = file[name]
                dataset.resize(len(dataset) + len(group), axis=0)
                dataset[-len(group):] = column


def read(path: Path) -> tuple[dict, Iterator[dict]]:
    """(settings, rows) of a file that `write` has made."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            settings = json.loads(file.attrs[KEY])
    except (OSError, KeyError) as problem:
        raise ArgumentError(f"{str(path)!r}: not a file of rows that npefficient wrote ({problem})") from problem
    return settings, _rows(path)


def _columns(rows: list[dict], schema: Schema) -> dict[str, np.ndarray]:
    """The datasets' parts for some rows."""
    def column(values, dtype, *extent):
        return np.array(values, dtype).reshape(len(rows), *extent)

    k, n = schema.topk, schema.embedding
    columns = {"photo": column([row["photo"] for row in rows], object),
               "error": column([row["error"] or "" for row in rows], object)}
    if k:
        classes = [[found["class"] for found in row["classes"]] or [-1] * k for row in rows]
        probabilities = [[found["probability"] for found in row["classes"]] or [np.nan] * k for row in rows]
        columns |= {"classes": column(classes, np.int64, k), "probabilities": column(probabilities, np.float32, k)}
    if n:
        columns["embeddings"] = column([row["embedding"] or [np.nan] * n for row in rows], np.float32, n)
    return columns


def _rows(path: Path) -> Iterator[dict]:
    import h5py

    with h5py.File(path, "r") as file:
        labels, embedded = file["labels"].asstr()[:], "embeddings" in file
        for start in range(0, len(file["photo"]), READ):
            part = slice(start, start + READ)
            columns = [file["photo"].asstr()[part], file["error"].asstr()[part]]
            columns += [file[name][part].tolist() if name in file else itertools.repeat(())
                        for name in ("classes", "probabilities")]
            embeddings = file["embeddings"][part] if embedded else itertools.repeat(None)
            for photo, error, classes, probabilities, embedding in zip(*columns, embeddings):
                found = [{"class": c, "label": labels[c], "probability": p} for c, p in zip(classes, probabilities)]
                row = {"photo": photo, "error": error or None, "classes": [] if error else found}
                yield row | ({"embedding": None if error else embedding.tolist()} if embedded else {})


@contextlib.contextmanager
def _holding_back_interrupts():
    """Yield a list that a Ctrl-C or a SIGTERM is put into; it is raised when the block ends.

    HDF5 calls `_Target.write`, and an exception from there leaves it in a state that it does not survive.
    """
    held = []
    if threading.current_thread() is not threading.main_thread():  # no interrupt comes here
        yield held
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda *arguments: held.append(arguments))
    try:
        yield held
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if held:
            handlers[held[0][0]](*held[0])


class _Target(io.FileIO):
    """A file whose writer never hears of a failure, which is raised when the block ends.

    HDF5 can't cope with a disk that is full: it may take the whole process with it.
    """

    problem = None

    def write(self, data) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left and not self.problem:
                left = left[super().write(left):]
        except OSError as problem:
            self.problem = problem
        return size

    def truncate(self, size=None) -> int:
        try:
            return super().truncate(size)
        except OSError as problem:
            self.problem = problem
            return size

    def __exit__(self, *error):
        super().__exit__(*error)
        if self.problem:
            raise self.problem
