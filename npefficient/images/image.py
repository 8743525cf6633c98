"""A photo becomes the network's input, bit for bit as timm's evaluation transform makes it.

    file ── open_image ──► RGB (h, w) uint8 ── resize ── crop ──► (H, W, 3) uint8 ── /255, -mean, /std ──► float32

Source: timm 1.0 `data/transforms_factory.py` (transforms_imagenet_eval), `data/transforms.py` (ResizeKeepRatio,
center_crop_or_pad); torchvision 0.28 `transforms/functional.py` (resize, center_crop, to_tensor, normalize).
Pillow does the decoding and the resampling, as it does there; the rest is integers and three float32 operations.

A network with one input channel (`in_chans=1`) gets grey photos, `convert("L")`, as from timm's loader, and where mean
and std have three values, their mean (timm `data/loader.py`, adapt_to_chs).

Letters: h w rows and columns of the photo, H W those of the network's input, C its channels, 3 or 1.
"""
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..common.checks import is_list, plain_array
from ..common.text import shown
from ..errors import ArgumentError, ImageError
from ..network.preprocessing import Preprocessing, check_preprocessing
from .photo_file import MODES, as_mode, check_in_chans, open_image, photo_of

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Preview", "normalise", "open_image", "preview", "transform", "transform_batch"]

MAX_WHOLE = 2**26  # pixels of a resized picture made in one piece, 4 bytes each in Pillow: 256 MiB
MAX_HELD = 2**28  # pixels of a picture between the passes over rows and columns: 1 GiB
MAX_COMPUTED = 2**30  # pixels that the resampling may compute, some seconds
MAX_PREVIEW = 2**22  # pixels of a resized picture that is shown: a photo 64 times as wide as high at 256 rows


def transform(image: "Image | np.ndarray", preprocessing: Preprocessing = Preprocessing(),
              in_chans: int = 3) -> np.ndarray:
    """Resize, crop and normalise one photo as timm's `create_transform(**resolve_data_config(...))` does.

    `image` is a PIL image of any mode (converted to RGB or, with `in_chans=1`, to grey first), a uint8 array (h, w, 3),
    or a float array (h, w, 3) in 0..1; with `in_chans=1` also (h, w, 1). Resampling works on 8 bits, so floats are
    rounded to the nearest k/255: `transform(a / 255.0)` equals `transform(a)`. Returns float32 (H, W, C), contiguous,
    with (H, W) = preprocessing.input_size. Raises ArgumentError for an invalid array or setting, ImageError for a photo
    that can't be decoded or is absurdly thin.
    """
    image, size = _prepare(image, preprocessing, in_chans)
    return normalise(_crop(image, size, preprocessing), preprocessing)


def normalise(pixels: np.ndarray, preprocessing: Preprocessing = Preprocessing()) -> np.ndarray:
    """Take the last step of `transform`: uint8 (.., C) -> float32 (.., C), (pixels / 255 - mean) / std."""
    x = pixels.astype(np.float32)
    x /= np.float32(255)
    x -= np.asarray(per_channel(preprocessing.mean, pixels.shape[-1]), np.float32)
    x /= np.asarray(per_channel(preprocessing.std, pixels.shape[-1]), np.float32)
    return x


def per_channel(values: Sequence[float], channels: int) -> Sequence[float]:
    """Mean or std for each channel: the three as they are, their mean where there is one channel."""
    return values if channels == 3 else [np.mean(values).item()]


def mean_colour(preprocessing: Preprocessing, channels: int) -> tuple[int, ...]:
    """The colour around a photo, as timm fills it: the mean in 8 bits, a value for each channel."""
    return tuple(min(max(round(255 * mean), 0), 255) for mean in per_channel(preprocessing.mean, channels))


@dataclass(frozen=True, eq=False)
class Preview:
    """What `transform` makes of a photo before it normalises it."""

    photo: "Image"  # as a PIL image, RGB or grey
    size: tuple[int, int]  # rows and columns of the resized photo
    resized: np.ndarray  # uint8 (h, w, C), all of it; above MAX_PREVIEW pixels the part around the crop
    box: tuple[int, int, int, int]  # the crop in `resized`: first row, first column, rows, columns; may extend beyond
    cropped: np.ndarray  # uint8 (H, W, C): `normalise` makes it the network's input


def preview(image: "Image | np.ndarray", preprocessing: Preprocessing = Preprocessing(),
            in_chans: int = 3) -> Preview:
    """Resize and crop one photo as `transform` does, and show both pictures; takes and raises the same."""
    image, size = _prepare(image, preprocessing, in_chans)
    cropped = _crop(image, size, preprocessing)
    corner = [first - place for first, place, _ in map(_middle, size, preprocessing.input_size)]
    shown = [min(own, max(crop, MAX_PREVIEW // other))
             for own, crop, other in zip(size, preprocessing.input_size, reversed(size))]
    firsts = [(own - part) // 2 for own, part in zip(size, shown)]
    resized = _resample(image, size, (firsts[0], firsts[1], shown[0], shown[1]), preprocessing)
    box = corner[0] - firsts[0], corner[1] - firsts[1], *preprocessing.input_size
    return Preview(image, size, resized, box, cropped)


def transform_batch(images: "Iterable[Image | np.ndarray]", preprocessing: Preprocessing = Preprocessing(),
                    in_chans: int = 3) -> np.ndarray:
    """Transform each of `images` (a list, or an array (N, h, w, 3)); return float32 (N, H, W, C)."""
    check_preprocessing(preprocessing)
    check_in_chans(in_chans)
    if not is_list(images):
        raise ArgumentError(f"images {shown(images)}: give a list of photos, or an array (N, h, w, 3)")
    batch = [transform(image, preprocessing, in_chans) for image in images]
    return np.stack(batch) if batch else np.empty((0, *preprocessing.input_size, in_chans), np.float32)


def _prepare(image: "Image | np.ndarray", preprocessing: Preprocessing,
             in_chans: int) -> "tuple[Image, tuple[int, int]]":
    """Check the arguments of `transform`; returns the photo as an RGB or grey PIL image, and its size when resized."""
    check_preprocessing(preprocessing)
    check_in_chans(in_chans)
    photo = _to_pil(image, in_chans)
    name = str(getattr(photo, "filename", ""))
    photo = as_mode(photo, name or type(photo).__name__, MODES[in_chans])
    size = _resized_size(photo.height, photo.width, preprocessing)
    _check_size(photo, name, size, preprocessing)
    return photo, size


def _check_size(photo: "Image", name: str, size: tuple[int, int], preprocessing: Preprocessing) -> None:
    """Raise ImageError for a photo so thin that, resized, it would have a side of no pixels or too many to compute."""
    (H, W), (rows, columns) = preprocessing.input_size, size
    if min(rows, columns) < 1 or columns * photo.height > MAX_HELD or rows > MAX_HELD \
            or rows * min(columns, W) > MAX_COMPUTED:
        raise ImageError(f"{photo_of(photo, name)}: too thin, resized for {H} rows and {W} columns it would have "
                         f"{columns} x {rows} pixels; cut out the part that matters")


def _resized_size(h: int, w: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Rows and columns of the resized photo, before the crop; timm rounds differently in each of its three ways."""
    rows, columns = (math.floor(s / preprocessing.crop_pct) for s in preprocessing.input_size)
    if preprocessing.crop_mode == "squash":
        return rows, columns
    if preprocessing.crop_mode == "center" and rows == columns:  # torchvision's Resize by the shorter side
        return (int(rows * h / w), rows) if w <= h else (rows, int(rows * w / h))
    pick = max if preprocessing.crop_mode == "border" else min  # timm's ResizeKeepRatio
    ratio = pick(h / rows, w / columns)
    return round(h / ratio), round(w / ratio)


def _crop(image: "Image", size: tuple[int, int], preprocessing: Preprocessing) -> np.ndarray:
    """Resize to `size` and take the middle; uint8 (H, W, C), black (or the mean, for "border") outside the photo."""
    (H, W), (rows, columns) = preprocessing.input_size, size
    (top, out_top, h), (left, out_left, w) = _middle(rows, H), _middle(columns, W)
    channels = len(image.getbands())
    out = np.empty((H, W, channels), np.uint8)
    out[:] = mean_colour(preprocessing, channels) if preprocessing.crop_mode == "border" else 0
    out[out_top:out_top + h, out_left:out_left + w] = _resample(image, size, (top, left, h, w), preprocessing)
    return out


def _middle(size: int, crop: int) -> tuple[int, int, int]:
    """(first pixel taken, its place in the crop, pixels taken) along one axis; Python's round, halves to even."""
    if size < crop:
        return 0, (crop - size) // 2, size
    return round((size - crop) / 2.0), 0, crop


def _resample(image: "Image", size: tuple[int, int], window: tuple[int, int, int, int],
              preprocessing: Preprocessing) -> np.ndarray:
    """The `window` (top, left, h, w) of the photo resized to `size`, as uint8 (h, w, C).

    Pillow resamples along one axis, rounds to 8 bits, then resamples along the other. Which comes first depends on its
    version (since Pillow 13 the larger reduction), so a single call does both. Only where a thin photo is enlarged to a
    huge picture (4000 x 1 would take gigabytes), rows first in every version, are the passes separate: columns are
    independent in the second one, and most lie outside the window. The bits are the same.
    """
    from PIL import Image

    (rows, columns), (top, left, h, w) = size, window
    resample = Image.Resampling[preprocessing.interpolation.upper()]
    if rows * columns <= MAX_WHOLE or rows <= image.height or columns <= image.width:
        return _pixels(image.resize((columns, rows), resample).crop((left, top, left + w, top + h)))
    image = image.resize((columns, image.height), resample)
    step, strips = max(1, MAX_WHOLE // rows), []
    for first in range(left, left + w, step):
        width = min(step, left + w - first)
        strip = image.crop((first, 0, first + width, image.height)).resize((width, rows), resample)
        strips.append(_pixels(strip.crop((0, top, width, top + h))))
    return np.concatenate(strips, axis=1)


def _pixels(image: "Image") -> np.ndarray:
    """uint8 (h, w, C) of an RGB or grey PIL image."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def _to_pil(image: "Image | np.ndarray", in_chans: int) -> "Image":
    """A PIL image as it is, or an array (h, w, 3), uint8 or float in 0..1, as an RGB one; (h, w, 1) as a grey one."""
    from PIL import Image

    if isinstance(image, Image.Image):
        return image
    if isinstance(image, np.ndarray):
        plain_array("image", image)
    else:
        raise ArgumentError(f"image {shown(image)}: it must be a PIL image or an array (rows, columns, 3); "
                            "open a file with npefficient.open_image")
    if image.ndim != 3 or image.shape[2] not in (3, in_chans):
        raise ArgumentError(f"image array of shape {image.shape}: it must be (rows, columns, 3), one photo with its "
                            "colours last; see np.moveaxis, np.repeat for grey, transform_batch for several")
    if 0 in image.shape:
        raise ArgumentError(f"image array of shape {image.shape}: it must have at least one pixel")
    if image.dtype != np.uint8:
        image = _to_uint8(image)
    return Image.fromarray(np.ascontiguousarray(image if image.shape[2] == 3 else image[..., 0]))


def _to_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f":
        raise ArgumentError(f"image array of dtype {array.dtype}: it must be uint8, or float in 0..1; "
                            "use .astype(np.uint8) if its values are 0..255")
    low, high = float(array.min()), float(array.max())  # both are NaN if a value is
    if not (low >= 0 and high <= 1):
        raise ArgumentError(f"image array with values from {low:g} to {high:g}: floats must lie in 0..1; "
                            "divide by 255, or give uint8 (raw pixels, not normalised ones)")
    return np.rint(array.astype(np.float64) * 255).astype(np.uint8)
