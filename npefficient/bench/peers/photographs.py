"""What peers in 8 bits are made from and judged by: the official weights, and the photographs that come with us.

Activations of random weights have other ranges than those of trained ones, and a random network's classes are decided
by less than the rounding. So the official weights are used where they are at hand; nothing is fetched.
"""
import itertools
from dataclasses import replace

import numpy as np

from ...demo import photographs
from ...hub import origin, pretrained
from ...images.image import open_image, transform
from ...model.loading import load_weights
from ...network.architecture import build
from ...network.parameters import Weights, random_weights
from ...network.preprocessing import Preprocessing
from ..subject import Subject, write_subject

PICTURES = len(photographs())
# A photograph and its four corners, as shares of its width and height: left, upper, right, lower.
CROPS = ((0, 0, 1, 1), (0, 0, 0.75, 0.75), (0.25, 0, 1, 0.75), (0, 0.25, 0.75, 1), (0.25, 0.25, 1, 1))


def make_photo_subject(name: str, directory, size: tuple[int, int] | None = None) -> Subject:
    """Write weights, the photographs as input, their logits, and the pictures for calibration."""
    weights = at_hand(name)
    preprocessing = replace(weights.preprocessing, input_size=size or weights.preprocessing.input_size)
    photos = np.stack([transform(open_image(photo), preprocessing) for photo in photographs()])
    subject = write_subject(directory, weights, photos, ("float32", "int8"))
    np.save(subject.calibration, calibration_pictures(preprocessing))
    return subject


def at_hand(name: str) -> Weights:
    """The official weights from the cache or a package, or else random ones."""
    return random_weights(build(name)) if origin(name).kind == "download" else load_weights(pretrained(name))


def calibration_pictures(preprocessing: Preprocessing) -> np.ndarray:
    """float32 (N, H, W, 3): every crop of every photograph, and its mirror image."""
    pictures = []
    for photo, crop in itertools.product(map(open_image, photographs()), CROPS):
        box = tuple(round(share * side) for share, side in zip(crop, photo.size * 2))
        picture = transform(photo.crop(box), preprocessing)
        pictures += [picture, picture[:, ::-1]]
    return np.stack(pictures)


def batches(calibration, batch: int):
    """Yield the pictures of the file `calibration` as float32 (batch, H, W, 3); the last batch repeats the first ones.
    """
    pictures = np.load(calibration)
    for start in range(0, len(pictures), batch):
        yield pictures[np.arange(start, start + batch) % len(pictures)]
