"""Photo files put together byte by byte, as no ordinary program writes them."""
import io
import struct
import zlib

from pictures import encoded
from PIL import PngImagePlugin


def tiny_chunks(side):
    """A PNG of noise whose data is cut into chunks of three bytes."""
    whole, file = encoded("PNG", h=side, w=side), io.BytesIO()
    place, size = whole.index(b"IDAT") + 4, int.from_bytes(whole[whole.index(b"IDAT") - 4:][:4], "big")
    for i in range(place, place + size, 3):
        PngImagePlugin.putchunk(file, b"IDAT", whole[i:min(i + 3, place + size)])
    return whole[:place - 8] + file.getvalue() + whole[-12:]


def many_scans(count):
    """A progressive JPEG of `count` scans, at least ten; those after the tenth are headers without data."""
    whole = encoded("JPEG", progressive=True)
    header = whole[whole.rindex(b"\xff\xda"):][:10]
    return whole[:-2] + header * (count - 10) + whole[-2:]


def tiff(tags, endian="<"):
    """A TIFF header and directory of the (tag, type, count, value) given."""
    entries = b"".join(struct.pack(f"{endian}HHII", *tag) for tag in sorted(tags))
    return struct.pack(f"{endian}2sHIH", b"II" if endian == "<" else b"MM", 42, 8, len(tags)) + entries + bytes(4)


def same_strips(count, given=True):
    """A compressed TIFF whose strips all lie at the same mebibyte; `given=False` leaves out their sizes."""
    strip = zlib.compress(bytes(16)) + bytes(2**20)
    tags = [(256, 3, 1, 16), (257, 3, 1, count), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1),
            (278, 3, 1, 1)]
    first = 8 + 2 + 12 * (len(tags) + 1 + given) + 4
    tags += [(273, 4, count, first)] + [(279, 4, count, first + 4 * count)] * given
    places = struct.pack(f"<{count}I", *[first + 8 * count] * count)
    return tiff(tags) + places + struct.pack(f"<{count}I", *[len(strip)] * count) + strip
