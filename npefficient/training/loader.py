"""Batches of photos for training and validation, read ahead by a pool of threads.

    photos ── order of the epoch ── batches ──► open, transform (threads) ──► Batch, in order

A batch depends only on the list of photos, the settings, the seed, the epoch and its own number, never on the threads
or on the batches before it. So a run can be resumed at any batch of an epoch, with the same bits.

Pillow and NumPy release the GIL for most of the work, so threads are enough, and they share memory with the network.
"""
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..common.checks import whole
from ..common.text import counted
from ..errors import ArgumentError, ImageError
from ..images.image import transform
from ..images.photo_file import check_in_chans, check_max_pixels, open_image
from ..network.preprocessing import Preprocessing, check_preprocessing
from .augmentation import TrainingTransform
from .dataset import Photos
from .seeds import epoch_order, photo_generator

AHEAD = 2  # batches that are read while another one is in use
RETRIES = 20  # photos in a row that may be broken, as with timm


class Batch(NamedTuple):
    """Photos and their classes."""

    x: np.ndarray  # float32 (N, H, W, C), normalised
    labels: np.ndarray  # int64 (N,)
    photos: list[Path]  # N files


class _Slot(NamedTuple):
    """What became of one place in a batch."""

    photo: tuple[Path, int] | None  # None where none could be read
    bad: list[tuple[Path, str]]  # photos that can't be read, and why


class _Loader:
    """What both loaders share: settings, the report of bad photos, and the pool."""

    def __init__(self, photos: Photos, shape: tuple[int, int, int], batch_size: int, workers: int | None, exif: bool,
                 max_pixels: int | None, report: Callable[[Path, str], None]):
        from PIL import Image

        if workers is None:
            from ..engine.cpus import available_threads

            workers = available_threads()
        self.batch_size, self.workers = whole("batch_size", batch_size, 1), whole("workers", workers, 1)
        check_max_pixels(max_pixels)
        self.photos, self.shape, self.report = list(photos), shape, report
        self.how: dict[str, Any] = {"exif": exif, "max_pixels": max_pixels, "in_chans": shape[2]}
        self.bad: dict[Path, str] = {}  # photos that could not be read so far, and why
        Image.init()  # load all formats now: a thread that looks them up while another one loads them misses some

    def _load(self, batches: Iterator[Sequence[int] | np.ndarray], read: Callable[[int, np.ndarray], _Slot]
              ) -> Generator[Batch, None, None]:
        """Read AHEAD batches ahead; `read` writes the photo for an index of the list into a row of the batch."""
        pending: deque[tuple[np.ndarray, list[Future[_Slot]]]] = deque()
        stopped = threading.Event()

        def start(index: int, row: np.ndarray) -> _Slot:
            return _Slot(None, []) if stopped.is_set() else read(index, row)

        with contextlib.ExitStack() as stack:
            pool = ThreadPoolExecutor(self.workers, thread_name_prefix="npefficient-batches")
            stack.callback(pool.shutdown, cancel_futures=True)
            stack.callback(stopped.set)
            for indices in batches:
                x = np.empty((len(indices), *self.shape), np.float32)
                pending.append((x, [pool.submit(start, int(index), row) for index, row in zip(indices, x)]))
                if len(pending) > AHEAD:
                    yield self._finish(*pending.popleft())
            while pending:
                yield self._finish(*pending.popleft())

    def _finish(self, x: np.ndarray, futures: list[Future[_Slot]]) -> Batch:
        slots = [future.result() for future in futures]
        for path, why in (bad for slot in slots for bad in slot.bad):
            if path not in self.bad:
                self.bad[path] = why
                self.report(path, why)
        rows = [row for row, slot in enumerate(slots) if slot.photo is not None]
        photos = [slot.photo for slot in slots if slot.photo is not None]
        return Batch(x if len(rows) == len(x) else x[rows], np.array([index for _, index in photos], np.int64),
                     [path for path, _ in photos])


class TrainingLoader(_Loader):
    """Augmented batches of the training photos, in a new order in each epoch.

    photos: photos and the indices of their classes
    transform: how they are augmented
    batch_size: photos of each batch; those that are left at the end of an epoch are dropped, as timm's loader does
    seed: of the order and of the augmentation. The parameters of a photo depend only on the seed, the epoch and the
        photo's index in the list (and its size), the order only on the seed, the epoch and the number of photos.
    workers: threads; None for one on each available processor
    exif, max_pixels: as for `open_image`
    report: called once for each photo that can't be read, with the photo and why

    In the place of a photo that can't be read comes the next one of the list that can, with the parameters of that
    place, as with timm's loader (`data/dataset.py`): batches keep their size, and none depends on another one.

    Raises ArgumentError for fewer photos than a batch has, and for other settings that can't be used.
    """

    def __init__(self, photos: Photos, transform: TrainingTransform, batch_size: int, *, seed: int = 0,
                 workers: int | None = None, exif: bool = False, max_pixels: int | None = None,
                 report: Callable[[Path, str], None] = lambda path, why: None):
        super().__init__(photos, transform.shape, batch_size, workers, exif, max_pixels, report)
        self.transform, self.seed = transform, whole("seed", seed, 0)
        if len(self) < 1:
            raise ArgumentError(f"batch-size {self.batch_size}: there are {len(self.photos):,} photos to train on, and "
                                "an incomplete batch is dropped; use a smaller batch, or add photos")

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.photos) // self.batch_size

    def batches(self, epoch: int, skip: int = 0) -> Generator[Batch, None, None]:
        """Return an iterator of the batches of `epoch` (0, 1 ..) without the first `skip`, which are not read.

        Close it, as with `contextlib.closing`, where it may not be used up: then, and after any exception, no further
        photo is started, and the threads are waited for. Raises ImageError where RETRIES photos in a row can't be read.
        """
        epoch, skip = whole("epoch", epoch, 0), whole("skip", skip, 0, len(self))
        order = epoch_order(self.seed, epoch, len(self.photos))
        starts = range(skip * self.batch_size, len(self) * self.batch_size, self.batch_size)

        def read(index: int, row: np.ndarray) -> _Slot:
            return self._read(epoch, index, row)

        return self._load((order[start:start + self.batch_size] for start in starts), read)

    def _read(self, epoch: int, index: int, row: np.ndarray) -> _Slot:
        rng, bad = photo_generator(self.seed, epoch, index), []
        for place in range(index, index + min(RETRIES, len(self.photos))):
            path, label = self.photos[place % len(self.photos)]
            try:
                image = open_image(path, **self.how)
            except ImageError as error:
                bad.append((path, str(error)))
                continue
            row[:] = self.transform.apply(image, self.transform.draw(rng, (image.height, image.width)))
            return _Slot((path, label), bad)
        raise ImageError(f"{len(bad)} photos in a row can't be read; the last one: {bad[-1][1]}")


class ValidationLoader(_Loader):
    """Batches of the validation photos as the network is used, in the order of the list.

    preprocessing, in_chans: as for `images.image.transform`
    photos, batch_size, workers, exif, max_pixels, report: as for `TrainingLoader`

    The last batch may be smaller. A photo that can't be read is left out, so that none counts twice; a batch without
    any is left out as well.
    """

    def __init__(self, photos: Photos, preprocessing: Preprocessing, batch_size: int, *, in_chans: int = 3,
                 workers: int | None = None, exif: bool = False, max_pixels: int | None = None,
                 report: Callable[[Path, str], None] = lambda path, why: None):
        check_preprocessing(preprocessing)
        check_in_chans(in_chans)
        super().__init__(photos, (*preprocessing.input_size, in_chans), batch_size, workers, exif, max_pixels, report)
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        """Batches, where all photos can be read."""
        return -(-len(self.photos) // self.batch_size)

    def check(self) -> None:
        """Raise ArgumentError where none of the first RETRIES photos can be read: before an epoch, not after it."""
        first, why = self.photos[:RETRIES], ""
        for path, _ in first:
            try:
                open_image(path, **self.how)
                return
            except ImageError as error:
                why = str(error)
        raise ArgumentError(f"none of the first {counted(len(first), 'photo')} to validate on can be read: repair "
                            f"them, or name others with --val-dir; the last one: {why}")

    def batches(self) -> Generator[Batch, None, None]:
        """Return an iterator of the batches; close it as that of `TrainingLoader.batches`."""
        starts = range(0, len(self.photos), self.batch_size)
        chosen = (range(start, min(start + self.batch_size, len(self.photos))) for start in starts)
        with contextlib.closing(self._load(chosen, self._read)) as batches:
            yield from (batch for batch in batches if len(batch.labels))

    def _read(self, index: int, row: np.ndarray) -> _Slot:
        path, label = self.photos[index]
        try:
            row[:] = transform(open_image(path, **self.how), self.preprocessing, row.shape[-1])
        except ImageError as error:
            return _Slot(None, [(path, str(error))])
        return _Slot((path, label), [])
