"""Many photos through one model: read, decoded, prepared and computed by several threads, handed out in order.

Each worker takes a photo all the way: Pillow and the engine both let go of the interpreter, so that one worker on each
processor keeps it busy, whichever of decoding and computing is the slower. For the same reason the model had better
have num_threads=1: further threads would only stand in the way of the other workers.
"""
import contextlib
import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..common.paths import StrPath
from ..common.text import quoted, short
from ..errors import ArgumentError, ImageError
from ..images.photo_file import check_in_chans, check_max_pixels

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..model.features import FeatureModel
    from ..model.model import Model

AHEAD = 2  # batches on their way for each worker: one that is computed, one that waits to be taken


@dataclass(frozen=True)
class Outcome:
    """What became of one photo."""

    photo: object  # as given
    outputs: dict[str, np.ndarray] | None  # layer -> this photo's row, such as "classifier" (num_classes,); None: bad
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
    photos: what `open_image` takes, or what it gives; any iterable, even an endless one. Never more than
        2 * workers * batch_size of them are taken before the outcomes have been.
    outputs: timm's names of the layers, as in `Model.activations`: "classifier" for logits, "global_pool"; None for
        what a call of the model puts out, whether logits, features or feature maps
    batch_size: photos that a worker reads before it hands them to the network in one call
    workers: threads; None for as many as this process has processors. More help where reading waits for a network.
    exif: turn photos as their EXIF data say
    fast_decode: let the JPEG decoder shrink what is much larger than needed (`open_image(draft=)`): quicker, and the
        outputs move a little
    max_pixels: the most that are decoded of a photo, as for `open_image`
    preprocess: maps the PIL image, RGB, to float32 (H, W, C); None for the model's own

    A photo that can't be read has an outcome with an error. Everything else that goes wrong is raised at the photo
    whose turn it is. Closing the iterator, or an error, begins no further photo and waits for those begun. The outputs
    of a photo are the same to the last bit whatever the workers and batches.
    """
    if workers is None:
        from ..engine.cpus import available_threads

        workers = available_threads()
    for name, value in (("batch_size", batch_size), ("workers", workers)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(f"{name} {value!r}: it must be a whole number of at least 1")
    if not isinstance(photos, Iterable) or isinstance(photos, (str, bytes)) or hasattr(photos, "read"):
        raise ArgumentError(f"photos {photos!r}: give several, such as a list of paths; npefficient.find_photos lists "
                            "those of a folder")
    check_max_pixels(max_pixels)
    in_chans = model.architecture.in_chans if preprocess is None else 3
    check_in_chans(in_chans)
    from PIL import Image

    Image.init()  # all formats, here: a thread that looks while another one loads them finds some missing
    draft = needed(model.preprocessing) if fast_decode else None
    outputs = model.outputs if outputs is None else tuple(outputs)
    task = _Task(model, outputs, preprocess or model.transform,
                 {"exif": exif, "draft": draft, "max_pixels": max_pixels, "in_chans": in_chans})
    return _outcomes(task, iter(photos), batch_size, workers)


def needed(preprocessing) -> int:
    """Rows and columns that a photo is resized to before the crop: what `open_image(draft=)` has to know."""
    return math.floor(max(preprocessing.input_size) / preprocessing.crop_pct)


def _outcomes(task: "_Task", photos: Iterator, batch_size: int, workers: int) -> Generator[Outcome, None, None]:
    """Keep a bounded number of batches on their way; hand out the oldest as soon as it is there."""
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

    def __init__(self, model, outputs: tuple[str, ...], preprocess, how: dict):
        self.model, self.outputs, self.preprocess, self.how = model, outputs, preprocess, how
        self.stopped = threading.Event()

    def __call__(self, photos: list) -> list[Outcome]:
        prepared = [self._prepare(photo) for photo in photos if not self.stopped.is_set()]
        pictures = [picture for picture, _ in prepared if picture is not None]
        computed = {}
        if pictures and not self.stopped.is_set():
            computed = self.model.activations(np.stack(pictures), self.outputs)
        rows = iter(range(len(pictures)))
        return [Outcome(photo, self._row(computed, next(rows)) if error is None else None, error)
                for photo, (_, error) in zip(photos, prepared)]

    def _prepare(self, photo):
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


def shift_by_fast_decode(model, photos: Iterable, **how) -> tuple[int, float, float, int]:
    """What `fast_decode` does to the logits of some photos, or to what else the model puts out; `how` they are read, as
    for `stream`.

    Returns how many of them could be read, the largest change of a logit, the largest logit, and for how many photos
    the most probable class stays.
    """
    photos = list(photos)
    both = (stream(model, photos, fast_decode=fast, **how) for fast in (False, True))
    layer = model.outputs[0]
    pairs = [(full.outputs[layer], quick.outputs[layer]) for full, quick in zip(*both)
             if full.error is None and quick.error is None]
    change = max((float(np.abs(full - quick).max()) for full, quick in pairs), default=0.0)
    largest = max((float(np.abs(full).max()) for full, _ in pairs), default=0.0)
    return len(pairs), change, largest, sum(int(full.argmax() == quick.argmax()) for full, quick in pairs)
