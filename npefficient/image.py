"""A photo becomes the network's input, bit for bit as timm's evaluation transform makes it.

    file ── open_image ──► RGB (h, w) uint8 ── resize ── crop ──► (H, W, 3) uint8 ── /255, -mean, /std ──► float32

Source: timm 1.0 `data/transforms_factory.py` (transforms_imagenet_eval), `data/transforms.py` (ResizeKeepRatio,
center_crop_or_pad); torchvision 0.28 `transforms/functional.py` (resize, center_crop, to_tensor, normalize).
Pillow does the decoding and the resampling, as it does there; the rest is integers and three float32 operations.

Letters: h w rows and columns of the photo, H W those of the network's input.
"""
import math
import os
from dataclasses import dataclass

import numpy as np

from .errors import ArgumentError, ImageError
from .preprocessing import Preprocessing, check_preprocessing

MAX_WHOLE = 2**26  # pixels of a resized picture made in one piece, 4 bytes each in Pillow: 256 MiB
MAX_HELD = 2**28  # pixels of a picture between the passes over rows and columns: 1 GiB
MAX_COMPUTED = 2**30  # pixels that the resampling may compute, some seconds
MAX_PREVIEW = 2**22  # pixels of a resized picture that is shown: a photo 64 times as wide as high at 256 rows


def open_image(path, *, exif: bool = False, draft: int | None = None):
    """Read a photo as timm's users do, `Image.open(path).convert("RGB")`, and return it as a PIL image.

    `path` is a path or a binary file object. Alpha is dropped, the first frame is taken, and the EXIF rotation is
    ignored unless `exif=True` (timm ignores it). With `draft`, the rows and columns that are needed in the end, a JPEG
    is decoded at 1/2, 1/4 or 1/8 of its size as long as twice as many remain: much quicker, and other pixels than
    timm's. More pixels than `PIL.Image.MAX_IMAGE_PIXELS` are refused (Pillow itself warns there, and refuses twice as
    many). Raises ImageError for a file that can't be read as a photo, and ArgumentError for anything that is neither a
    path nor a file.
    """
    if isinstance(path, (bytes, bytearray)) or not (isinstance(path, (str, os.PathLike)) or hasattr(path, "read")):
        raise ArgumentError(f"photo {_shorten(path)}: it must be a path or a binary file object; "
                            "wrap the bytes of a file in io.BytesIO")
    if draft is not None and draft < 1:
        raise ArgumentError(f"draft {draft!r}: it must be at least 1, the rows and columns that are needed")
    from PIL import Image

    name = path if isinstance(path, (str, os.PathLike)) else getattr(path, "name", f"<{type(path).__name__}>")
    try:
        with Image.open(path) as image:
            _check_trust(image, name)
            if draft is not None:
                image.draft(None, (2 * draft, 2 * draft))
            if exif:
                from PIL import ImageOps
                return _as_rgb(ImageOps.exif_transpose(image), name)
            return _as_rgb(image, name)
    except ImageError:
        raise
    except Exception as problem:  # Pillow's readers raise a dozen different classes on broken files
        raise ImageError(f"photo {str(name)!r}: {_explain(path, problem)}") from problem


def transform(image, preprocessing: Preprocessing = Preprocessing()) -> np.ndarray:
    """Resize, crop and normalise one photo as timm's `create_transform(**resolve_data_config(...))` does.

    `image` is a PIL image of any mode (converted to RGB first), a uint8 array (h, w, 3), or a float array (h, w, 3)
    in 0..1. Resampling works on 8 bits, so floats are rounded to the nearest k/255: `transform(a / 255.0)` equals
    `transform(a)`. Returns float32 (H, W, 3), contiguous, with (H, W) = preprocessing.input_size. Raises
    ArgumentError for another array or setting, ImageError for a photo that can't be decoded or is absurdly thin.
    """
    image, size = _prepare(image, preprocessing)
    return normalise(_crop(image, size, preprocessing), preprocessing)


def normalise(pixels: np.ndarray, preprocessing: Preprocessing = Preprocessing()) -> np.ndarray:
    """Take the last step of `transform`: uint8 (.., 3) -> float32 (.., 3), (pixels / 255 - mean) / std."""
    x = pixels.astype(np.float32)
    x /= np.float32(255)
    x -= np.asarray(preprocessing.mean, np.float32)
    x /= np.asarray(preprocessing.std, np.float32)
    return x


@dataclass(frozen=True, eq=False)
class Preview:
    """What `transform` makes of a photo before it normalises it."""

    photo: object  # as a PIL image, RGB
    size: tuple[int, int]  # rows and columns of the resized photo
    resized: np.ndarray  # uint8 (h, w, 3), all of it; of more than MAX_PREVIEW pixels the part around the crop
    box: tuple[int, int, int, int]  # the crop in `resized`: first row, first column, rows, columns; it may stand out
    cropped: np.ndarray  # uint8 (H, W, 3): `normalise` makes the network's input of it


def preview(image, preprocessing: Preprocessing = Preprocessing()) -> Preview:
    """Resize and crop one photo as `transform` does, and show both pictures; takes and raises the same."""
    image, size = _prepare(image, preprocessing)
    cropped = _crop(image, size, preprocessing)
    corner = [first - place for first, place, _ in map(_middle, size, preprocessing.input_size)]
    shown = [min(own, max(crop, MAX_PREVIEW // other))
             for own, crop, other in zip(size, preprocessing.input_size, reversed(size))]
    firsts = [(own - part) // 2 for own, part in zip(size, shown)]
    resized = _resample(image, size, (*firsts, *shown), preprocessing)
    box = corner[0] - firsts[0], corner[1] - firsts[1], *preprocessing.input_size
    return Preview(image, size, resized, box, cropped)


def transform_batch(images, preprocessing: Preprocessing = Preprocessing()) -> np.ndarray:
    """Transform each of `images` (a list, or an array (N, h, w, 3)); return float32 (N, H, W, 3)."""
    batch = [transform(image, preprocessing) for image in images]
    return np.stack(batch) if batch else np.empty((0, *preprocessing.input_size, 3), np.float32)


def _prepare(image, preprocessing):
    """Check both arguments of `transform`; returns the photo as an RGB PIL image, and its size (h, w) when resized."""
    check_preprocessing(preprocessing)
    image = _to_pil(image)
    image = _as_rgb(image, getattr(image, "filename", "") or type(image).__name__)
    return image, _resized_size(image.height, image.width, preprocessing)


def _resized_size(h, w, preprocessing):
    """Rows and columns of the resized photo, before the crop; timm rounds differently in each of its three ways."""
    rows, columns = (math.floor(s / preprocessing.crop_pct) for s in preprocessing.input_size)
    if preprocessing.crop_mode == "squash":
        return rows, columns
    if preprocessing.crop_mode == "center" and rows == columns:  # torchvision's Resize by the shorter side
        return (int(rows * h / w), rows) if w <= h else (rows, int(rows * w / h))
    pick = max if preprocessing.crop_mode == "border" else min  # timm's ResizeKeepRatio
    ratio = pick(h / rows, w / columns)
    return round(h / ratio), round(w / ratio)


def _crop(image, size, preprocessing):
    """Resize to `size` and take the middle; uint8 (H, W, 3), black (or the mean, for "border") outside the photo."""
    (H, W), (rows, columns) = preprocessing.input_size, size
    (top, out_top, h), (left, out_left, w) = _middle(rows, H), _middle(columns, W)
    if min(rows, columns) < 1 or columns * image.height > MAX_HELD or rows > MAX_HELD or rows * w > MAX_COMPUTED:
        raise ImageError(f"photo of {image.width} x {image.height} pixels: too thin, resized for {H} rows and {W} "
                         f"columns it would have {columns} x {rows} pixels; cut out the part that matters")
    border = preprocessing.crop_mode == "border"
    fill = [min(max(round(255 * mean), 0), 255) for mean in preprocessing.mean] if border else 0
    out = np.empty((H, W, 3), np.uint8)
    out[:] = fill
    out[out_top:out_top + h, out_left:out_left + w] = _resample(image, size, (top, left, h, w), preprocessing)
    return out


def _middle(size, crop):
    """(first pixel taken, its place in the crop, pixels taken) along one axis; Python's round, halves to even."""
    if size < crop:
        return 0, (crop - size) // 2, size
    return round((size - crop) / 2.0), 0, crop


def _resample(image, size, window, preprocessing):
    """The `window` (top, left, h, w) of the photo resized to `size`, as uint8 (h, w, 3).

    Pillow resamples along one axis, rounds to 8 bits, then along the other; which comes first is its own affair (since
    Pillow 13 the taller reduction), so it gets the whole job in one call. Only when it enlarges a thin photo to a huge
    picture (4000 x 1 would take gigabytes), rows first in every version, the passes are taken apart: columns are
    independent in the second one, and most lie outside the window. The bits are the same.
    """
    from PIL import Image

    (rows, columns), (top, left, h, w) = size, window
    resample = Image.Resampling[preprocessing.interpolation.upper()]
    if rows * columns <= MAX_WHOLE or rows <= image.height or columns <= image.width:
        return np.asarray(image.resize((columns, rows), resample).crop((left, top, left + w, top + h)))
    image = image.resize((columns, image.height), resample)
    step, strips = max(1, MAX_WHOLE // rows), []
    for first in range(left, left + w, step):
        width = min(step, left + w - first)
        strip = image.crop((first, 0, first + width, image.height)).resize((width, rows), resample)
        strips.append(np.asarray(strip.crop((0, top, width, top + h))))
    return np.concatenate(strips, axis=1)


def _to_pil(image):
    """A PIL image as it is, or an array (h, w, 3), uint8 or float in 0..1, as an RGB one."""
    from PIL import Image

    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, np.ndarray):
        raise ArgumentError(f"image {_shorten(image)}: it must be a PIL image or an array (rows, columns, 3); "
                            "open a file with npefficient.open_image")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ArgumentError(f"image array of shape {image.shape}: it must be (rows, columns, 3), one photo with its "
                            "colours last; see np.moveaxis, np.repeat for grey, transform_batch for several")
    if 0 in image.shape:
        raise ArgumentError(f"image array of shape {image.shape}: it must have at least one pixel")
    if image.dtype != np.uint8:
        image = _to_uint8(image)
    return Image.fromarray(np.ascontiguousarray(image))


def _to_uint8(array):
    if array.dtype.kind != "f":
        raise ArgumentError(f"image array of dtype {array.dtype}: it must be uint8, or float in 0..1; "
                            "use .astype(np.uint8) if its values are 0..255")
    low, high = float(array.min()), float(array.max())  # a NaN comes through both
    if not (low >= 0 and high <= 1):
        raise ArgumentError(f"image array with values from {low:g} to {high:g}: floats must lie in 0..1; "
                            "divide by 255, or give uint8 (raw pixels, not normalised ones)")
    return np.rint(array.astype(np.float64) * 255).astype(np.uint8)


def _as_rgb(image, name):
    """Decode and convert. A palette's transparency is dropped first: Pillow drops it as well, but with a warning."""
    if 0 in image.size:
        raise ImageError(f"photo {str(name)!r}: {image.width} x {image.height} pixels; it must have at least one")
    try:
        image.load()
        if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
            image = image.copy()  # the caller's own image keeps its information
            del image.info["transparency"]
        return image.convert("RGB")
    except Exception as problem:
        raise ImageError(f"photo {str(name)!r}: {_explain(name, problem)}") from problem


def _check_trust(image, name):
    """Refuse, before anything is decoded, a photo too large for Pillow's limit or one that is a program."""
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise ImageError(f"photo {str(name)!r}: {image.width} x {image.height} pixels is more than the limit of "
                         f"{limit} (PIL.Image.MAX_IMAGE_PIXELS); shrink it, or raise the limit if you trust the file")
    if image.format == "EPS":
        raise ImageError(f"photo {str(name)!r}: EPS is a program that Ghostscript would run; save it as PNG")


def _explain(path, problem):
    """Say what is wrong with the file and what to do, from what Pillow raised."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(problem, FileNotFoundError):
        return "no such file; check the path"
    if isinstance(path, (str, os.PathLike)) and os.path.isdir(path):
        return "it is a directory; name the photos in it"
    if isinstance(problem, PermissionError):
        return "no permission to read it; change the file's permissions"
    if isinstance(problem, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"{problem} Shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file"
    if isinstance(problem, UnidentifiedImageError):
        if _is_empty(path):
            return "the file is empty; fetch or export it again"
        return "not an image, or of a kind that Pillow can't read; save it as JPEG or PNG"
    if isinstance(problem, MemoryError):
        return "not enough memory to decode it; shrink it"
    return f"broken or cut short ({type(problem).__name__}: {problem}); fetch or export it again"


def _is_empty(path) -> bool:
    """True for a file, given by its path or open, without a single byte."""
    if isinstance(path, (str, os.PathLike)):
        return os.path.getsize(path) == 0
    return path.seekable() and path.seek(0, os.SEEK_END) == 0


def _shorten(value):
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
