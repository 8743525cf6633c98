"""TensorFlow's own preprocessing of these networks, for evaluation: cut out the middle, resize without antialiasing.

    RGB (h, w) uint8 ── crop ──► (c, c) uint8 ── resize ──► (H, H) float32 ── -127, /128 ──► float32

timm resizes with an antialiasing filter first, on 8 bits, and crops afterwards; these pixels differ, and so do the
accuracies. Sources, read but not run (the tests compare with values from TensorFlow's own tests and with plain loops):

- the crop: tensorflow/tpu models/official/efficientnet/preprocessing.py (_decode_and_center_crop) with CROP_PADDING =
  32, as timm 1.0 data/tf_preprocessing.py has it. Later revisions scale the padding with the input; at 224 rows both
  are the same.
- the resizing: tf.compat.v1.image.resize_bicubic and resize_bilinear with their defaults (align_corners and
  half_pixel_centers false), that is tensorflow/core/kernels/image/resize_bicubic_op.cc (the "legacy" branch, a = -0.75,
  weights from a table of 1024 steps) and resize_bilinear_op.cc. The model's `interpolation` chooses, as in timm:
  bicubic for lite0 to lite2, bilinear for lite3 and lite4. TensorFlow's own programs take bicubic for all of them
  (eval_ckpt_main.py), or bilinear for all (main.py, which trains).
- mean and deviation: efficientnet_lite_builder.py.

Nothing is rounded or clipped between the steps. What differs from TensorFlow: Pillow decodes JPEG with the accurate
integer transform, TensorFlow by default with the fast one (decode_image_op.cc), which changes pixels slightly; and sums
may differ in their last bit where its compiler fuses a multiplication and an addition.
"""
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArgumentError, ImageError
from ..network.preprocessing import Preprocessing
from .photo_file import photo_of

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["check_tf_preprocessing", "resize_bicubic", "resize_bilinear", "tf_transform"]

CROP_PADDING = 32
MEAN, STD = 127.0, 128.0
TABLE = 1024  # steps of the bicubic weights between two pixels
A = -0.75


def check_tf_preprocessing(preprocessing: Preprocessing) -> None:
    """Raise ArgumentError unless TensorFlow's preprocessing can make this input: square, bicubic or bilinear."""
    rows, columns = preprocessing.input_size
    if rows != columns:
        raise ArgumentError(f"input of {rows} x {columns}: TensorFlow's preprocessing makes square inputs only; use "
                            "timm's")
    if preprocessing.interpolation not in _RESIZE:
        raise ArgumentError(f"interpolation {preprocessing.interpolation!r}: TensorFlow's preprocessing knows "
                            f"{' and '.join(_RESIZE)}; use timm's")


def tf_transform(image: "Image", preprocessing: Preprocessing) -> np.ndarray:
    """A photo (PIL image) -> float32 (H, H, 3), with (H, H) = preprocessing.input_size.

    Only the size and the interpolation of `preprocessing` are used; the rest is TensorFlow's. Raises ArgumentError as
    `check_tf_preprocessing` does, and ImageError for a photo that is too small to crop.
    """
    check_tf_preprocessing(preprocessing)
    size = preprocessing.input_size[0]
    cut = _central_crop(image, size)
    pixels = np.asarray(image.crop(cut).convert("RGB"))
    return (_RESIZE[preprocessing.interpolation](pixels, size) - np.float32(MEAN)) / np.float32(STD)


def _central_crop(image, size: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the central square, size / (size + CROP_PADDING) of the shorter side."""
    share = np.float32(size / (size + CROP_PADDING))
    side = int(share * np.float32(min(image.size)))
    if side < 1:
        raise ImageError(f"{photo_of(image)}: too small, the crop of TensorFlow's "
                         "preprocessing leaves no pixel")
    left, top = ((whole - side + 1) // 2 for whole in image.size)
    return left, top, left + side, top + side


def resize_bicubic(pixels: np.ndarray, size: int) -> np.ndarray:
    """(h, w, C) -> float32 (size, size, C): four pixels each way, rows first; the border pixels repeat."""
    rows, by_row = _bicubic_weights(pixels.shape[0], size)
    columns, by_column = _bicubic_weights(pixels.shape[1], size)
    mixed = _mix([pixels[row] for row in rows], by_row[:, :, None, None])
    return _mix([mixed[:, column] for column in columns], by_column[:, None, :, None])


def _bicubic_weights(before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (4, after) and their weights, float32 (4, after), along one axis."""
    place = np.arange(after, dtype=np.float32) * (np.float32(before) / np.float32(after))
    first = np.floor(place)
    step = np.rint((place - first) * np.float32(TABLE)).astype(np.int64)  # halves to even, as lrintf
    near, far = _bicubic_table()
    weights = np.stack([far[step], near[step], near[TABLE - step], far[TABLE - step]])
    return np.clip(first.astype(np.int64) + np.arange(-1, 3)[:, None], 0, before - 1), weights


def _bicubic_table() -> tuple[np.ndarray, np.ndarray]:
    """Weights of a pixel at distance x and at distance 1 + x, for x = 0, 1/1024 .. 1; float32 (1025,) each."""
    x = np.arange(TABLE + 1) / TABLE
    near = ((A + 2) * x - (A + 3)) * x * x + 1
    x = x + 1
    far = ((A * x - 5 * A) * x + 8 * A) * x - 4 * A
    return near.astype(np.float32), far.astype(np.float32)


def _mix(values: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """The weighted sum in float32, from left to right."""
    total = values[0] * weights[0]
    for value, weight in zip(values[1:], weights[1:]):
        total += value * weight
    return total


def resize_bilinear(pixels: np.ndarray, size: int) -> np.ndarray:
    """(h, w, C) -> float32 (size, size, C): two pixels each way, columns first; the border pixels repeat."""
    top, bottom, down = _bilinear_places(pixels.shape[0], size)
    left, right, across = _bilinear_places(pixels.shape[1], size)
    upper, lower = (_between(line[:, left], line[:, right], across[None, :, None])
                    for line in (pixels[top].astype(np.float32), pixels[bottom].astype(np.float32)))
    return _between(upper, lower, down[:, None, None])


def _bilinear_places(before: int, after: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixels on both sides, (after,) each, and how far it is from the first to the second, float32 (after,)."""
    place = np.arange(after, dtype=np.float32) * (np.float32(before) / np.float32(after))
    first = np.floor(place)
    upper = np.minimum(np.ceil(place).astype(np.int64), before - 1)
    return first.astype(np.int64), upper, place - first


def _between(start, end, share) -> np.ndarray:
    return start + (end - start) * share


_RESIZE = {"bicubic": resize_bicubic, "bilinear": resize_bilinear}
