"""Photos from the file to the logits: decoding alone, computing alone, and both together as `stream` does them.

If all processors decode a photos per second, or compute b, then they can do both at 1 / (1/a + 1/b) at most: they have
to do one after the other for every photo. `of best` is the share of that, `of slower` the share of the slower of the
two alone.
"""
import contextlib
import itertools
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..common.text import counted
from ..errors import NpefficientError
from ..images.image import open_image
from ..jobs.stream import needed, shift_by_fast_decode, stream
from ..model.model import Model
from ..network.architecture import build
from ..network.parameters import random_weights
from .measure import WARM_UP
from .report import progress

SIZES = {"500x375": (375, 500, 16), "4000x3000": (3000, 4000, 4)}  # rows, columns, number of different photos
OCTAVES = (3, 12, 48, 192)  # rows of the noise that a photo is made of
ROUNDS = 3
COLUMNS = {"photos": "<22", "MB": ">6.2f", "decode/s": ">10.1f", "compute/s": ">10.1f", "both/s": ">10.1f",
           "best/s": ">10.1f", "of best": ">8.1%", "of slower": ">9.1%", "logits move": ">12.2%"}
LEGEND = """\
MB: size of a file. decode, compute: photos per second with all threads, each alone; both: together; best:
1 / (1/decode + 1/compute). fast: decoded at 1/2, 1/4 or 1/8 (--fast-decode). logits move: the largest change that this
causes, as a share of the largest logit; with random weights and photos of noise. of best: the three are measured one
after the other, so a figure slightly above 100 % only means that the machine's speed changed: use more --seconds."""


def run(report, name: str, workers: int, seconds: float) -> None:
    """Measure photos of each size, with full and with fast decoding."""
    model = Model(random_weights(build(name)), num_threads=1)
    found = []  # printed together at the end; stderr shows the progress until then
    for title, (rows, columns, count) in SIZES.items():
        with tempfile.TemporaryDirectory() as directory:
            photos = make_photos(Path(directory), rows, columns, count)
            verify(model, photos, workers)
            megabytes = sum(photo.stat().st_size for photo in photos) / len(photos) / 1e6
            for fast in (False, True):
                what = f"{title} JPEG{', fast' if fast else ''}"
                figures = measure(what, model, photos, workers, seconds, fast)
                if fast:
                    _, change, largest, _ = shift_by_fast_decode(model, photos)
                    figures["logits move"] = change / largest
                found.append({"photos": what, "MB": megabytes, **figures})
    table = report.table(f"photos a second, {name} on {counted(workers, 'thread')}", COLUMNS, "photos")
    for row in found:
        table.add(**row)
    print(LEGEND)


def make_photos(directory: Path, rows: int, columns: int, count: int) -> list[Path]:
    """Write JPEGs of noise that is strongest at coarse scales, as in photos, so that files are as large as a camera's.
    """
    from PIL import Image

    rng, paths = np.random.default_rng(0), []
    for i in range(count):
        pixels = np.full((rows, columns, 3), 128, np.float32)
        for octave in OCTAVES:
            noise = rng.normal(0, 180 / octave**0.5, (octave, octave * columns // rows, 3)).clip(-128, 127)
            coarse = Image.fromarray((noise + 128).astype(np.uint8))
            pixels += np.asarray(coarse.resize((columns, rows), Image.Resampling.BICUBIC), np.float32) - 128
        pixels += rng.normal(0, 6, pixels.shape).astype(np.float32)
        paths.append(directory / f"{i}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def verify(model, photos: list[Path], workers: int) -> None:
    """Raise NpefficientError unless `stream` gives the same logits as one photo at a time, to the bit."""
    for outcome in stream(model, photos, workers=workers):
        expected = model(model.transform(outcome.photo)[None])[0]
        if not np.array_equal(outcome.outputs["classifier"], expected):
            raise NpefficientError(f"{outcome.photo.name}: WRONG RESULT, other logits in the stream; nothing is timed")


def measure(what: str, model, photos: list[Path], workers: int, seconds: float, fast: bool) -> dict:
    """The medians over ROUNDS rounds of decoding, computing and both."""
    draft = needed(model.preprocessing) if fast else None
    pictures = [model.transform(photo)[None] for photo in photos]

    def together():
        with contextlib.closing(stream(model, itertools.cycle(photos), workers=workers, fast_decode=fast)) as outcomes:
            return rate(outcomes, seconds)

    rounds = []
    for i in range(ROUNDS):
        progress(f"{what}, round {i + 1} of {ROUNDS}")
        rounds.append((alone(lambda photo: model.transform(open_image(photo, draft=draft)), photos, workers, seconds),
                       alone(model, pictures, workers, seconds), together()))
    decode, compute, both = map(statistics.median, zip(*rounds))
    best = 1 / (1 / decode + 1 / compute)
    return {"decode/s": decode, "compute/s": compute, "both/s": both, "best/s": best, "of best": both / best,
            "of slower": both / min(decode, compute)}


def alone(work, things: list, workers: int, seconds: float, clock=time.perf_counter) -> float:
    """Calls per second when every worker calls `work` for one thing after the other."""
    with ThreadPoolExecutor(workers) as pool:
        each = pool.map(lambda _: rate(map(work, itertools.cycle(things)), seconds, clock), range(workers))
        return sum(each)


def rate(done, seconds: float, clock=time.perf_counter) -> float:
    """Items per second of an endless iterator, after a warm-up."""
    start = clock()
    while clock() - start < seconds * WARM_UP:
        next(done)
    count, start = 0, clock()
    while count == 0 or clock() - start < seconds:
        next(done)
        count += 1
    return count / (clock() - start)
