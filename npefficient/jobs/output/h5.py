"""Rows as an HDF5 file.

    /photo, /error      (N,) text, UTF-8; the error is "" where all is well
    /classes            (N, k) int64, the most probable first; -1 where the photo could not be read
    /probabilities      (N, k) float32; NaN there
    /embeddings         (N, 1280) float32, only if requested; NaN there
    /labels             (classes,) text: the name of every class
    Without a classifier there are no /classes and no /probabilities.
    attribute "npefficient" of the root: the settings as JSON, fixed-length text
"""
import contextlib
import io
import json
import math
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ...errors import WeightsError
from ..rows import Schema
from .own_file import open_own
from .taken_back import parse_settings

READ = 256  # rows of numbers that are read at once
CHUNK = 1 << 16  # bytes of a dataset's chunk
KEY = "npefficient"
LAYOUT = "v108", "v108"  # headers with checksums: in damaged ones without, HDF5 2.0 loops for ever (measured)


def check() -> None:
    """Nothing to check: h5py is always installed."""


def write(path: Path, rows: Iterable[dict], schema: Schema, settings: dict) -> None:
    """Write all rows into a file at `path`, some thousand at a time."""
    import h5py

    with _holding_back_interrupts(), _Target(path, "w+") as target, h5py.File(target, "w", libver=LAYOUT) as file:
        file.attrs[KEY] = np.bytes_(json.dumps(settings))
        file.create_dataset("labels", data=list(schema.labels), dtype=h5py.string_dtype())
        for name, column in _columns([], schema).items():
            extent, dtype = column.shape[1:], h5py.string_dtype() if column.dtype == object else column.dtype
            chunk = max(1, CHUNK // (column.itemsize * math.prod(extent)))
            file.create_dataset(name, (0, *extent), dtype, maxshape=(None, *extent), chunks=(chunk, *extent))
        for group in schema.groups(rows):
            if target.problem:
                return
            for name, column in _columns(group, schema).items():
                dataset = file[name]
                dataset.resize(len(dataset) + len(group), axis=0)
                dataset[-len(group):] = column


def read_settings(path: Path) -> dict:
    """The settings in a file that `write` has made; raises any exception for a different file."""
    with _opened(path) as file:
        return parse_settings(file.attrs[KEY])


def read_rows(path: Path, schema: Schema) -> Iterator[dict]:
    """The rows in a file that `write` has made; of a different file any values, or any exception."""
    from .h5_texts import texts

    with open_own(path) as source, _opened(path) as file:
        datasets, count = _datasets(file, schema)
        columns = [texts(dataset, source, count) if dataset.dtype == object else _numbers(dataset, count)
                   for dataset in datasets.values()]
        for values in zip(*columns, strict=True):
            yield _row(dict(zip(datasets, values)), schema)


def _opened(path: Path):
    """Open the file; raises ValueError unless its superblock has checksums and says that it was closed."""
    import h5py

    from ...weights.hdf5 import check_superblock

    try:
        check_superblock(path)
    except WeightsError as problem:
        raise ValueError("its HDF5 header is cut off, damaged or of an old kind without checksums") from problem
    return h5py.File(path, "r")


def _numbers(dataset, count: int) -> Iterator:
    for start in range(0, count, READ):
        yield from dataset[start : start + READ].tolist()


def _datasets(file, schema: Schema) -> tuple[dict, int]:
    """The datasets by their names, and how many rows they have; raises ValueError unless `write` could have made them.

    An edited file may link to other files, or claim more rows than it has bytes for.
    """
    import h5py

    from ...weights.hdf5 import check_link, has_dataset

    datasets, count = {}, None
    for name, column in _columns([], schema).items():
        if not has_dataset(file.id, name):
            raise ValueError(f"{name!r} is missing")
        check_link(file.id, name)
        dataset = file[name]
        creation = dataset.id.get_create_plist()  # before the shape: that of a virtual dataset is in other files
        if creation.get_layout() != h5py.h5d.CHUNKED or creation.get_nfilters():
            raise ValueError(f"{name!r} is not stored in chunks without filters")
        text = h5py.check_string_dtype(dataset.dtype)
        if dataset.dtype != column.dtype or (column.dtype == object and text is None):
            raise ValueError(f"{name!r} is {dataset.dtype}")
        count = len(dataset) if count is None else count
        if dataset.shape != (count, *column.shape[1:]):
            raise ValueError(f"{name!r} is of shape {dataset.shape}, with {count} rows")
        if dataset.id.get_storage_size() < math.prod(dataset.shape) * dataset.id.get_type().get_size():
            raise ValueError(f"{name!r} claims {count} rows, but has too few bytes for them")
        datasets[name] = dataset
    return datasets, count


def _row(values: dict, schema: Schema) -> dict:
    """A row from its values in the datasets; an unknown class has no label."""
    row, labels = {"photo": values["photo"], "error": values["error"] or None, "classes": []}, schema.labels
    if row["error"] is None:
        row["classes"] = [{"class": number, "label": labels[number] if 0 <= number < len(labels) else None,
                           "probability": probability}
                          for number, probability in zip(values.get("classes", ()), values.get("probabilities", ()))]
    if schema.embedding:
        row["embedding"] = values["embeddings"] if row["error"] is None else None
    return row


def _columns(rows: list[dict], schema: Schema) -> dict[str, np.ndarray]:
    """The values of some rows in each dataset."""
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


@contextlib.contextmanager
def _holding_back_interrupts():
    """Call the handler of a Ctrl-C or a SIGTERM when the block ends.

    HDF5 calls `_Target.write`, and an exception from there would corrupt its state.
    """
    if threading.current_thread() is not threading.main_thread():  # no interrupt comes here
        yield
        return
    held: list[tuple] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda *arguments: held.append(arguments))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if held:
            handlers[held[0][0]](*held[0])


class _Target(io.FileIO):
    """A file that hides failures from its writer, and raises them when the block ends.

    HDF5 can't cope with a full disk: it may crash the whole process.
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
