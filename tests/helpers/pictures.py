"""Photos of noise in every mode, as PIL images and as the bytes of files."""
import io

import numpy as np
from PIL import Image, PngImagePlugin


def noise(h, w, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, channels), dtype=np.uint8)


def photo(mode, h=120, w=97):
    """A PIL image of noise in `mode`; "P_colour" and "P_bytes" are palettes with a transparent colour, or alphas."""
    rgb = Image.fromarray(noise(h, w))
    if mode == "I;16":
        return Image.fromarray(np.random.default_rng(1).integers(0, 65536, (h, w), dtype=np.uint16))
    if mode == "F":
        return Image.fromarray(np.random.default_rng(1).uniform(-100, 400, (h, w)).astype(np.float32))
    if mode in ("RGBA", "LA"):
        return Image.fromarray(noise(h, w, 4)).convert(mode)
    result = rgb.convert(mode.split("_")[0])
    if mode == "P_colour":
        result.info["transparency"] = 3
    if mode == "P_bytes":
        result.info["transparency"] = bytes(range(256))
    return result


def encoded(format, mode="RGB", h=40, w=50, **options):
    buffer = io.BytesIO()
    photo(mode, h, w).save(buffer, format, **options)
    return buffer.getvalue()


def png_of(width, height):
    """The beginning of a PNG that declares this size, without its data."""
    header = io.BytesIO()
    PngImagePlugin.putchunk(header, b"IHDR", np.array([width, height], ">u4").tobytes() + b"\x08\x02\0\0\0")
    PngImagePlugin.putchunk(header, b"IDAT", b"")
    return b"\x89PNG\r\n\x1a\n" + header.getvalue()
