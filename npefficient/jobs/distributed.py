"""Photos on a cluster: a bridge to Ray Data, which distributes the work, restarts lost workers and repeats their tasks.

    ray.data.from_items([{"path": ".."}, ..])                                    or read_binary_files, read_images
        .map_batches(Classifier, fn_constructor_kwargs={"weights": weights}, batch_size=None, num_cpus=1)
        .write_parquet("..")

A Ray worker is a process that holds the weights and runs a thread on each processor that Ray has assigned to it. Its
rows (`rows.py`) are the same as those of `classify` without Ray.
"""
import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.checks import whole
from ..common.extras import install
from ..common.paths import StrPath
from ..common.text import counted
from ..errors import ArgumentError, NpefficientError
from ..model.loading import AnyWeights, load_stored

if TYPE_CHECKING:
    import pyarrow
    from PIL.Image import Image

TASK = 256  # photos at most in a task; its rows are one file, and are computed again when a worker is lost
SHARE = 4  # tasks at least for each processor, so that none is idle for long at the end
HERE = "local"  # Ray's name for a cluster on this machine alone, which ends with the process


class Classifier:
    """A callable class for `map_batches`: photos in, a pyarrow table of rows out.

    A batch, as Ray gives it by default (column -> array), has "path" and may have one of
        "bytes"  the file, as `ray.data.read_binary_files(.., include_paths=True)` reads it
        "image"  uint8 (h, w, 3), as `ray.data.read_images(.., mode="RGB", include_paths=True)` decodes it
    The rows are the same with all three. But Ray itself fails at the first photo that `read_images` can't read, where
    the other two give a row with the error; and `exif`, `fast_decode` and `max_pixels` apply only to photos that are
    decoded here.
    """

    def __init__(self, weights: AnyWeights | StrPath, *, topk: int = 5, embeddings: bool = False, exif: bool = False,
                 fast_decode: bool = False, max_pixels: int | None = None, precision: str | None = None):
        """weights: `load_weights(..)`, which Ray sends to every worker, or a path that each of them can read; a file of
            int8 weights has to be a path

        topk, embeddings: what is in a row (`rows.Schema`); exif, fast_decode, max_pixels: as for `stream`
        precision: as for `create_model`
        """
        from ..images.photo_file import check_in_chans, check_max_pixels
        from ..images.photo_limits import allow_pixels
        from ..model.model import Model
        from .output.parquet import layout
        from .output.settings import settings_of
        from .rows import Schema

        weights = weights if isinstance(weights, AnyWeights) else load_stored(weights)
        check_in_chans(weights.architecture.in_chans)
        check_max_pixels(max_pixels)
        allow_pixels(max_pixels)  # a worker is a process of its own
        self.model, self.workers = Model(weights, num_threads=1, precision=precision), _assigned_processors()
        self.schema = Schema.of(self.model, topk, embeddings)
        self.how: dict[str, Any] = {"exif": exif, "fast_decode": fast_decode, "max_pixels": max_pixels}
        self.columns = layout(self.schema, settings_of(weights, self.schema, precision=self.model.precision,
                                                        **self.how))

    def __call__(self, batch: dict[str, np.ndarray]) -> "pyarrow.Table":
        """A batch of photos (column -> array) -> a pyarrow table with a row for each, in the same order."""
        from dataclasses import replace

        from .output.parquet import table
        from .stream import stream

        if "image" in batch and any(self.how.values()):
            raise ArgumentError(f"images with {self.how}: they are decoded already; give the paths, or the bytes of "
                                "the files")
        paths, photos = _photos(batch)
        outcomes = stream(self.model, photos, outputs=self.schema.outputs, workers=self.workers, **self.how)
        rows = (self.schema.row(replace(outcome, photo=path)) for path, outcome in zip(paths, outcomes))
        return table(rows, self.schema, self.columns)


def classify(photos: Sequence[str], weights: AnyWeights, output: str, *, workers: int | None = None,
             processors: int = 1, address: str | None = None, **how: Any) -> tuple[int, int]:
    """Classify photos on Ray and write a directory of Parquet files; return (rows, rows with an error).

    photos: paths that every worker can read, or addresses of files and folders such as "s3://bucket/photos", which Ray
        lists and reads; a missing one fails the job
    output: a new or empty directory, or an address such as "s3://bucket/rows", that all workers can write to
    workers: processes; None leaves the number to Ray, up to what the cluster has room for
    processors: for each worker
    address: of a cluster (`ray.init`); None for $RAY_ADDRESS, else for this machine alone. If this process is already
        connected to a cluster, that one is used.
    how: topk, embeddings, exif, fast_decode, max_pixels and precision of `Classifier`

    The files, sorted by name, hold the rows in the order of the photos. Raises ArgumentError for arguments that can't
    be used, NpefficientError where the job fails; what it has written by then stays.
    """
    ray, address = check_job(photos, output, workers=workers, processors=processors, address=address)
    Classifier(weights, **how)  # raises here, rather than in a worker, what is wrong with these
    started = _connect(ray, address, processors)
    try:
        pool = ray.data.ActorPoolStrategy(size=workers) if workers else ray.data.ActorPoolStrategy(min_size=1)
        # Reading and writing reserve no processors: workers that hold all of them would make these wait for ever.
        job = _dataset(ray, photos).map_batches(Classifier, fn_constructor_kwargs={"weights": weights, **how},
                                                batch_size=None, compute=pool, num_cpus=processors)
        job.context.execution_options.preserve_order = True
        # `check_job` has seen that it is free, or empty, as a job that failed before its first row leaves it.
        job.write_parquet(_location(output), mode="append", ray_remote_args={"num_cpus": 0})
    except ray.exceptions.RayError as problem:
        raise NpefficientError(f"the job on Ray failed, and {output!r} is incomplete. Ray says: {problem}") from problem
    finally:
        if started:
            ray.shutdown()
    return _counted(output, None if is_remote(photos[0]) else len(photos))


def check_job(photos: Sequence[str], output: str, *, workers: int | None = None, processors: int = 1,
              address: str | None = None) -> tuple:
    """Check arguments of `classify` before weights are loaded; returns (module ray, address of the cluster).

    Raises ArgumentError.
    """
    ray, address = _ray(), address or os.environ.get("RAY_ADDRESS") or HERE
    _check(photos, workers, processors, address)
    _check_free(output)
    return ray, address


def first_errors(output: str, count: int) -> list[str]:
    """The first `count` errors in the output of `classify`: why these photos could not be read."""
    from pyarrow.dataset import dataset, field

    rows = dataset(_location(output), format="parquet")
    errors: list[str] = rows.head(count, columns=["error"], filter=field("error").is_valid())["error"].to_pylist()
    return errors


def _photos(batch: dict[str, np.ndarray]) -> tuple[list[str], list]:
    """(names, what `stream` takes) of the photos of a batch."""
    if "path" not in batch:
        raise ArgumentError(f"batch with {', '.join(batch) or 'nothing'}: it must have \"path\"; read it with "
                            "include_paths=True")
    paths = [os.fsdecode(path) for path in batch["path"]]
    if "bytes" in batch:
        return paths, [_File(data, path) for data, path in zip(batch["bytes"], paths)]
    if "image" in batch:
        return paths, [_picture(image, path) for image, path in zip(batch["image"], paths)]
    return paths, paths


class _File(io.BytesIO):
    """A file in memory that knows its name, for messages."""

    def __init__(self, data: bytes, name: str):
        super().__init__(data)
        self.name = name


def _picture(image: Any, path: str) -> "Image":
    """uint8 (h, w, 3) -> PIL image."""
    from PIL import Image

    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ArgumentError(f"image of {path!r}: {image.dtype} {image.shape}; it must be uint8 (rows, columns, 3): "
                            "read it with mode=\"RGB\"")
    return Image.fromarray(image)


def _assigned_processors() -> int | None:
    """How many processors Ray has assigned to this worker; None, which stands for all, outside of a Ray worker."""
    import ray

    if not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return None
    worker: Any = ray.get_runtime_context()
    return max(1, int(worker.get_assigned_resources().get("CPU", 1)))


# --- the job of `classify --engine ray` ------------------------------------------------------------------------------


def _check(photos: Sequence[str], workers: int | None, processors: int, address: str) -> None:
    if workers is not None:
        whole("workers", workers, 1)
    whole("processors", processors, 1)
    if not photos:
        raise ArgumentError("no photos: name at least one")
    if len({is_remote(photo) for photo in photos}) > 1:
        raise ArgumentError(f"photos {photos[0]!r} .. {photos[-1]!r}: give paths or addresses (s3://..), not both")
    for photo in photos:
        if address != HERE and not is_remote(photo) and not os.path.isabs(photo):
            raise ArgumentError(f"photo {photo!r}: workers on other machines have a different current directory; "
                                "give the full path, in a place that all machines share, or an address such as "
                                "s3://bucket/photos")


def _ray() -> Any:
    try:
        import ray.data
    except ImportError as problem:
        raise ArgumentError(f"Ray Data is missing ({problem}): {install('ray')}") from problem
    return ray


def _connect(ray: Any, address: str, processors: int) -> bool:
    """Connect to a cluster, or start Ray here; False where this process is already connected."""
    if ray.is_initialized():
        return False
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False)
    except (ConnectionError, ValueError) as problem:
        raise ArgumentError(f"address {address!r}: {problem}") from problem
    except Exception as problem:  # a plain Exception, too, where one of Ray's processes does not start in time
        ray.shutdown()
        raise NpefficientError(f"Ray does not start (address {address!r}): {problem}") from problem
    available = int(ray.cluster_resources().get("CPU", 0))
    if address == HERE and processors > available:
        ray.shutdown()
        raise ArgumentError(f"{counted(processors, 'processor')} for a worker: this machine has {available}")
    return True


def _dataset(ray: Any, photos: Sequence[str]) -> Any:
    """Ray's dataset of the photos: rows with a path, and for addresses, which Ray reads, the bytes as well."""
    if not is_remote(photos[0]):
        processors = max(1, int(ray.cluster_resources().get("CPU", 1)))
        tasks = max(-(-len(photos) // TASK), min(len(photos), SHARE * processors))
        # As bytes: Arrow's text can't hold a name that is not UTF-8.
        return ray.data.from_items([{"path": os.fsencode(photo)} for photo in photos], override_num_blocks=tasks)
    from ..images.photo_file import photo_suffixes

    suffixes = sorted(suffix.removeprefix(".") for suffix in photo_suffixes())
    try:
        return ray.data.read_binary_files(list(photos), include_paths=True, file_extensions=suffixes, num_cpus=0)
    except (OSError, ValueError) as problem:
        raise ArgumentError(f"photos {photos[0]!r}: {problem}") from problem


def is_remote(name: str) -> bool:
    """True for an address, such as "s3://bucket/photos", rather than a path on this machine."""
    return "://" in name


def _location(output: str) -> str:
    return output if is_remote(output) else os.path.abspath(output)


def _check_free(output: str) -> None:
    """Raise ArgumentError unless it is missing or an empty directory: Ray would mix its files with those there."""
    from pyarrow.fs import FileSelector, FileSystem, FileType

    try:
        system, path = FileSystem.from_uri(_location(output))
    except (OSError, ValueError) as problem:
        raise ArgumentError(f"output {output!r}: {problem}") from problem
    found = system.get_file_info(path).type
    empty = found == FileType.NotFound or found == FileType.Directory and not system.get_file_info(FileSelector(path))
    if not empty:
        raise ArgumentError(f"output {output!r} exists already: name another directory, or remove it")


def _counted(output: str, expected: int | None) -> tuple[int, int]:
    """(rows, those with an error) of the files; raises NpefficientError where some can't be seen from here."""
    from pyarrow.dataset import dataset, field

    rows = dataset(_location(output), format="parquet")
    count = rows.count_rows()
    if expected not in (None, count):
        raise NpefficientError(f"output {output!r} has only {count} of {expected} rows here: other workers wrote "
                               "theirs elsewhere; name a place that all machines share, such as s3://bucket/rows")
    return count, rows.count_rows(filter=field("error").is_valid())

