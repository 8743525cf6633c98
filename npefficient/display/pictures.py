"""Arrays as small pictures: a heat map over a photo, a feature map in grey, and either as a data URI."""
import base64
import io

import numpy as np

# Weakest and strongest colour of the evidence for a class and against it; without evidence, the photo shows through.
FOR, AGAINST = ((204, 40, 20), (255, 214, 70)), ((30, 70, 190), (130, 215, 255))
OPAQUE = 0.9  # opacity of the strongest evidence
LUMA = 0.299, 0.587, 0.114  # ITU-R BT.601, as in JPEG
PNG_MOST = {2: 32 * 32, 3: 128 * 128}  # largest grey and coloured pictures to store as PNG, in pixels; JPEG is smaller


def heat(values: np.ndarray, scale: float, size: tuple[int, int]) -> np.ndarray:
    """float32 (h, w) -> uint8 (*size, 4): the map smoothly enlarged, in `colours`."""
    from PIL import Image

    smooth = Image.fromarray(values.astype(np.float32)).resize(size[::-1], Image.Resampling.BICUBIC)
    return colours(np.clip(np.asarray(smooth), values.min(), values.max()), scale)  # bicubic overshoots


def colours(values: np.ndarray, scale: float) -> np.ndarray:
    """float32 (h, w) -> uint8 (h, w, 4), RGBA; `scale` gets the strongest colour."""
    strength = np.minimum(np.abs(values) / (scale or 1.0), 1.0)[..., None]
    weak, strong = (np.where(values[..., None] > 0, FOR[i], AGAINST[i]) for i in (0, 1))
    colour = weak + (strong - weak) * strength**2
    return np.rint(np.concatenate([colour, 255 * OPAQUE * strength], axis=2)).astype(np.uint8)


def blend(photo: np.ndarray, over: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) and (h, w, 4) -> uint8 (h, w, 3): the second over the first in grey: all colour is heat."""
    alpha = over[..., 3:] / 255.0
    return np.rint((photo @ np.array(LUMA))[..., None] * (1 - alpha) + over[..., :3] * alpha).astype(np.uint8)


def grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """(..) within low..high -> uint8 (..): `low` is black, `high` white."""
    return np.rint((values - low) * (255 / ((high - low) or 1))).astype(np.uint8)


def shrink(pixels: np.ndarray, most: int) -> np.ndarray:
    """uint8 (h, w) or (h, w, channels) -> the same, with at most `most` rows and columns."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((most, most), Image.Resampling.BOX if max(image.size) < 2 * most else Image.Resampling.LANCZOS)
    return np.asarray(image)


def data_uri(pixels: np.ndarray) -> str:
    """uint8 (h, w), (h, w, 3) or (h, w, 4) -> "data:image/png;base64,..", or JPEG if it is large and opaque."""
    from PIL import Image

    exact = pixels.shape[2:] == (4,) or pixels.shape[0] * pixels.shape[1] <= PNG_MOST[pixels.ndim]
    kind, options = ("png", {}) if exact else ("jpeg", {"quality": 85})
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, kind, optimize=True, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
