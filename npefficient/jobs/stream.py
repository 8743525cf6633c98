"""Run many photos through one model: several threads read, decode, preprocess and compute; outcomes come in order.

Each worker does all of this for its photos. Pillow and the engine both release the GIL, so one worker per processor
keeps all processors busy, whether decoding or computing is slower. For the same reason the model should have
num_threads=1: further threads would only compete with the other workers.
"""
import contextlib
import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..common.checks import whole
from ..common.paths import StrPath
from ..common.text import quoted, short
from ..errors import ArgumentError, ImageError
from ..images.photo_file import check_in_chans, check_max_pixels
from ..network.layers import find_layers

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..model.features import FeatureModel
    from ..model.model import Model
    from ..network.preprocessing import Preprocessing

AHEAD = 2  # batches in flight for each worker: one that it computes, one that waits


@dataclass(frozen=True)
class Outcome:
    """The outputs for one photo, or why there are none."""

    photo: object  # as given
    outputs: dict[str, np.ndarray] | None  # layer -> this photo's row, such as "classifier" (num_classes,); None: error
    error: str | None  # why the photo could not be read

    def __repr__(self) -> str:
        what = (f"error={quoted(self.error)}" if self.outputs is None else
                ", ".join(f"{name} {array.shape}" for name, array in self.outputs.items()))
        return f"Outcome({short(repr(self.photo))}, {what})"


def stream(model: "Model | FeatureModel", photos: "Iterable[StrPath | BinaryIO | Image]", *,
           outputs: Iterable[str] | None = None, batch_size: int = 1, workers: int | None = None, exif: bool = False,
           fast_decode: bool = False, max_pixels: int | None = None,
           preprocess: "Callable[[Image], np.ndarray] | None" = None) -> Generator[Outcome, None, None]:
    """Compute layers of `model` for each of `photos`; return an iterator of Outcomes in the same order.

    model: a Model or a FeatureModel, safe to call from several threads; make it with num_threads=1
    photos: what `open_image` takes or returns; any iterable, even an endless one. At most
        2 * workers * batch_size of them are taken ahead of the outcomes.
    outputs: timm's names of the layers, as in `Model.activations`: "classifier" for logits, "global_pool"; None for
        what a call of the model returns, whether logits, features or feature maps
    batch_size: photos that a worker reads and then computes in one call of the network
    workers: threads; None for one on each available processor. More of them help where reading is slow.
    exif: rotate photos by their EXIF orientation
    fast_decode: let the JPEG decoder shrink photos that are much larger than needed (`open_image(draft=)`): faster, but
        the outputs change slightly
    max_pixels: the most pixels that are decoded of a photo, as for `open_image`
    preprocess: maps the PIL image, RGB, to float32 (H, W, C); None for the model's own

    A photo that can't be read has an outcome with an error. Any other exception is raised when its photo's turn comes.
    After an exception, or when the iterator is closed, no further photo is started, and those in progress are waited
    for. The outputs of a photo are the same to the last bit for any `workers` and `batch_size`.
    """
    if not hasattr(model, "activations"):
        raise ArgumentError(f"model of type {type(model).__name__}: it must be what npefficient.create_model returns")
    if workers is None:
        from ..engine.cpus import available_threads

        workers = available_threads()
    batch_size, workers = whole("batch_size", batch_size, 1), whole("workers", workers, 1)
    if not isinstance(photos, Iterable) or isinstance(photos, (str, bytes)) or hasattr(photos, "read"):
        raise ArgumentError(f"photos {photos!r}: give several, such as a list of paths; npefficient.find_photos lists "
                            "those of a folder")
    check_max_pixels(max_pixels)
    in_chans = model.architecture.in_chans if preprocess is None else 3
    check_in_chans(in_chans)
    from PIL import Image

    Image.init()  # load all formats now: a thread that looks them up while another one loads them misses some
    draft = needed(model.preprocessing) if fast_decode else None
    outputs = model.outputs if outputs is None else tuple(find_layers(model.architecture, outputs))
    task = _Task(model, outputs, preprocess or model.transform,
                 {"exif": exif, "draft": draft, "max_pixels": max_pixels, "in_chans": in_chans})
    return _outcomes(task, iter(photos), batch_size, workers)


def needed(preprocessing: "Preprocessing") -> int:
    """Rows and columns that a photo is resized to before the crop, for `open_image(draft=)`."""
    return math.floor(max(preprocessing.input_size) / preprocessing.crop_pct)


def _outcomes(task: "_Task", photos: Iterator, batch_size: int, workers: int) -> Generator[Outcome, None, None]:
    """Keep a bounded number of batches in flight; yield the oldest as soon as it is done."""
    pending: deque[Future[list[Outcome]]] = deque()
    with contextlib.ExitStack() as stack:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="npefficient-photos")
        stack.callback(pool.shutdown, cancel_futures=True)
        stack.callback(task.stopped.set)
        while batch := list(itertools.islice(photos, batch_size)):
            pending.append(pool.submit(task, batch))
            del batch
            while pending and (len(pending) >= AHEAD * workers or pending[0].done()):
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


class _Task:
    """What a worker does with a batch of photos."""

    def __init__(self, model: "Model | FeatureModel", outputs: tuple[str, ...],
                 preprocess: "Callable[[Image], np.ndarray]", how: dict):
        self.model, self.outputs, self.preprocess, self.how = model, outputs, preprocess, how
        self.stopped = threading.Event()

    def __call__(self, photos: list) -> list[Outcome]:
        prepared = [self._prepare(photo) for photo in photos if not self.stopped.is_set()]
        pictures = [picture for picture, _ in prepared if picture is not None]
        computed: dict[str, np.ndarray] = {}
        if pictures and not self.stopped.is_set():
            computed = self.model.activations(np.stack(pictures), self.outputs)
        rows = iter(range(len(pictures)))
        return [Outcome(photo, self._row(computed, next(rows)) if error is None else None, error)
                for photo, (_, error) in zip(photos, prepared)]

    def _prepare(self, photo: Any) -> tuple[np.ndarray | None, str | None]:
        """(float32 (H, W, C), None), or (None, why not)."""
        from PIL.Image import Image

        from ..images.image import open_image

        try:
            image = photo if isinstance(photo, Image) else open_image(photo, **self.how)
            return self.preprocess(image), None
        except ImageError as error:
            return None, str(error)

    @staticmethod
    def _row(computed: dict[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
        return {name: array[row] for name, array in computed.items()}


def shift_by_fast_decode(model: "Model", photos: Iterable, **how: Any) -> tuple[int, float, float, int]:
    """Measure how `fast_decode` changes the logits of some photos, or whatever else the model returns.

    how: options of `stream`

    Returns how many photos could be read, the largest change of a logit, the largest absolute logit, and for how many
    photos the most probable class stays the same.
    """
    photos = list(photos)
    both = (stream(model, photos, fast_decode=fast, **how) for fast in (False, True))
    layer = model.outputs[0]
    pairs = [(full.outputs[layer], quick.outputs[layer]) for full, quick in zip(*both)
             if full.error is None and quick.error is None]
    change = max((float(np.abs(full - quick).max()) for full, quick in pairs), default=0.0)
    largest = max((float(np.abs(full).max()) for full, _ in pairs), default=0.0)
    return len(pairs), change, largest, sum(int(full.argmax() == quick.argmax()) for full, quick in pairs)
