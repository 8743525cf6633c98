"""What a model takes, and what it must not return: photos, arrays, and numbers that are finite."""
import io
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..common.checks import plain_array
from ..common.paths import StrPath
from ..errors import ArgumentError, WeightsError
from ..network.architecture import FLAT

if TYPE_CHECKING:
    from PIL.Image import Image


def opened(image: "Image | np.ndarray | StrPath | BinaryIO | bytes", in_chans: int,
           **how: Any) -> "Image | np.ndarray":
    """A PIL image or an array as it is, anything else as `open_image` reads it with these options."""
    from PIL import Image

    from ..images.image import open_image

    if isinstance(image, (Image.Image, np.ndarray)):
        return image
    image = io.BytesIO(image) if isinstance(image, (bytes, bytearray, memoryview)) else image
    return open_image(image, in_chans=in_chans, **how)


def checked(x: Any, channels: int, what: str, origin: str) -> np.ndarray:
    """A contiguous float32 array (N, H, W, channels); `what` names it in errors, `origin` says how to get one."""
    if not isinstance(x, np.ndarray):
        raise ArgumentError(f"{what} of type {type(x).__name__}: it must be a NumPy array (N, H, W, {channels}); "
                            f"{origin}")
    plain_array(what, x)
    if x.ndim != 4 or x.shape[3] != channels or 0 in x.shape[1:]:
        hint = "add the batch axis with x[None]" if x.ndim == 3 else "channels come last (NHWC)"
        raise ArgumentError(f"{what} of shape {x.shape}: it must be (N, H, W, {channels}); {hint}")
    if x.dtype != np.float32:
        raise ArgumentError(f"{what} of dtype {x.dtype}: it must be float32, normalised; model.transform makes it "
                            "from a photo or a uint8 array, x.astype(np.float32) from other floats")
    if not np.isfinite(x).all():
        raise ArgumentError(f"{what} with {x[~np.isfinite(x)][0]}: every value must be finite")
    return np.ascontiguousarray(x)


def finite(made: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of layers; raises WeightsError if pooled features or logits are not finite."""
    for name in [name for name in FLAT if name in made]:
        wrong = made[name][~np.isfinite(made[name])]
        if wrong.size:
            raise WeightsError(f"{name!r} returned {wrong[0]}: these weights were not trained on such pictures, or the "
                               "input is far out of range")
    return made
