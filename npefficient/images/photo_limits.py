"""What a photo may cost: bounds that Pillow does not set, counted before the cost arises.

Measured with Pillow 13: 11 kB of PNG decoded to 89 million pixels, 0.6 MB of JPEG in 400 scans took 20 s, 30 MB of
comments in front of a PPM 8 s, and 25 kB of TIFF printed 4,000 warnings.
"""
import contextlib
import re
import threading
import warnings

from ..common.text import counted

MAX_PIXELS = 2**27  # 12000 x 11000; phones make photos of 12000 x 9000
FEW_PIXELS = 2**25  # 8K x 4K, for a file of any size
PIXELS_PER_BYTE = 256  # above FEW_PIXELS; a JPEG of one colour has 64, a photo 10
PIECES = 10_000  # in which a file may be read; a few hundred are usual
BYTES_PER_PIECE = 512  # on average while a file is decoded; libpng writes chunks of 8 KiB, read in three pieces each
SLOW = 2**22  # bytes of formats that Pillow decodes in Python, about a second per MiB
READINGS = 4  # how many times over a file may be read
BYTES_PER_PIXEL = 8  # of the largest file that is read: four channels of 16 bits each, not compressed
HEADER = 2**28  # bytes read before the pixels; of WebP and AVIF Pillow reads the whole file
BLOCKS = 2**9, 2**20  # bytes of a JPEG that are searched at a time, at first and at most


def allowed_pixels(size: int, max_pixels: int | None) -> int:
    """How many pixels a photo in a file of `size` bytes may have; `max_pixels` is the user's own limit."""
    return min(MAX_PIXELS, max(FEW_PIXELS, PIXELS_PER_BYTE * size)) if max_pixels is None else max_pixels


def allowed_bytes(max_pixels: int | None) -> int:
    """How many bytes a photo's file may have: far more than `allowed_pixels` need, but few enough for memory."""
    return BYTES_PER_PIXEL * max(MAX_PIXELS, max_pixels or 0)


def allow_pixels(max_pixels: int | None) -> None:
    """Raise Pillow's own limit, one for the whole process, where it is below `max_pixels`."""
    from PIL import Image

    if max_pixels is not None and Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)


class TooManyPieces(Exception):
    """A file would be read in far more pieces than a photo has; none of Pillow's readers catches this class."""


class Metered:
    """A binary file that can be read in a bounded number of pieces, and a bounded number of times over.

    Pillow's readers of headers and chunks are written in Python: millions of tiny chunks, comments read byte by byte,
    or thousands of tags that all claim the same megabytes would take them minutes.
    """

    def __init__(self, file, size: int):
        """size: of the file in bytes."""
        self._file, self._size = file, size
        self._pieces, self._bytes = PIECES, min(READINGS * size + 2**20, HEADER)

    def expect(self, format: str | None) -> None:
        """The header is read; allow what decoding takes. Pillow reads a compressed BMP byte by byte."""
        self._pieces, self._bytes = PIECES + self._size // BYTES_PER_PIECE, READINGS * self._size + 2**20
        if format in ("BMP", "DIB"):
            self._pieces = max(self._pieces, min(self._size, SLOW))

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._pieces -= 1
        self._bytes -= len(data)
        if self._pieces < 0:
            raise TooManyPieces("its header, or its data, come in tens of thousands of tiny pieces")
        if self._bytes < 0:
            raise TooManyPieces("it has too many bytes before its pixels, or would be read more than "
                                f"{READINGS} times over")
        return data

    def __getattr__(self, name: str):
        return getattr(self._file, name)


_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # not a stuffed FF, a fill byte, or a restart marker in a scan
_EOI, _SOS, _ALONE = 0xD9, 0xDA, (0x01, 0xD8)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES = 273, 279, 324, 325  # tags of TIFF 6.0: where they are, how long they are


def count_scans(file) -> int:
    """Count the scans of a JPEG, each a pass over the pixels: 1 where the first one holds all components.

    The file is searched block by block, and never held as a whole. Raises TooManyPieces for tens of thousands of
    segments. Source: ITU-T T.81, B.1 and B.2; libjpeg reads further scans only of a frame that is progressive or whose
    first scan leaves components out (jdinput.c, `has_multiple_scans`).
    """
    scans, place, components, progressive = 0, 2, 0, False
    for _ in range(PIECES):
        marker, place = _next_marker(file, place)
        if marker in (None, _EOI):
            return scans
        if marker in _ALONE:
            continue
        file.seek(place)
        head = file.read(8)  # length, precision, rows, columns and components of a frame; length, components of a scan
        if marker in _FRAMES:
            components, progressive = head[7] if len(head) == 8 else 0, marker in _PROGRESSIVE
        if marker == _SOS:
            scans += 1
            if scans == 1 and not progressive and head[2:3] >= bytes([components]):
                return scans
        place += int.from_bytes(head[:2], "big")
    raise TooManyPieces("it has tens of thousands of segments")


def _next_marker(file, place: int) -> tuple[int | None, int]:
    """The first marker from byte `place` on, and where it ends; None where there is no more."""
    file.seek(place)
    block, most, data = *BLOCKS, b""
    while more := file.read(block):
        data += more
        if found := _MARKER.search(data):
            return found[1][0], place + found.end()
        place += len(data) - 1
        data, block = data[-1:], min(2 * block, most)  # an FF at the end may begin a marker
    return None, place


def check_strips(tags, size: int) -> None:
    """Raise TooManyPieces where the strips or tiles of a TIFF, a file of `size` bytes, claim far more bytes in all.

    `tags`: Pillow's directory of it. libtiff itself reads each strip or tile as often as it is listed, and to the end
    of the file if no size is given.
    """
    for places, sizes in ((_STRIPS, _STRIP_BYTES), (_TILES, _TILE_BYTES)):
        count, given = len(tags.get(places, ())), tags.get(sizes, ())
        if sum(given) + max(0, count - len(given)) * size > READINGS * size + 2**20:
            raise TooManyPieces(f"its {counted(count, 'piece')} overlap, and it would be read more than {READINGS} "
                                "times over")


_lock, _reading, _ENTRY = threading.Lock(), 0, []


@contextlib.contextmanager
def quiet_pillow():
    """Ignore Pillow's own warnings while any photo is being read: they name no photo, and one file can bring thousands.

    `warnings.catch_warnings` would restore the filters it found, and undo what another thread has set meanwhile. So
    the first thread that reads adds the filter, and the last one removes it.
    """
    global _reading
    with _lock:
        if not _reading:
            warnings.filterwarnings("ignore", module=r"PIL[.]")
            _ENTRY[:] = warnings.filters[:1]
        _reading += 1
    try:
        yield
    finally:
        with _lock:
            _reading -= 1
            if not _reading:
                with contextlib.suppress(ValueError):  # the caller has set other filters since
                    warnings.filters.remove(_ENTRY[0])
