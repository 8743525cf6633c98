"""Read a photo's file as a PIL image; whatever is not a photo, or costs far more than its size, is an ImageError.

Pillow decodes. This module opens only regular files, and only formats that photographs have; it counts pixels, scans
and pieces before they cost anything (`photo_limits.py`), and explains each failure.
"""
import contextlib
import io
import os
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO

from ..common.checks import is_whole, whole
from ..common.paths import StrPath, open_regular
from ..common.text import shown
from ..errors import ArgumentError, ImageError
from .other_kinds import HEAD, what_it_is
from .photo_limits import (
    BYTES_PER_PIXEL,
    SLOW,
    Metered,
    TooManyPieces,
    allowed_bytes,
    allowed_pixels,
    check_strips,
    count_scans,
    quiet_pillow,
)

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

# In the order in which they are tried: TGA, which has no signature, is the last. HEIF needs a plugin that registers it.
# Left out are formats that Pillow decodes in Python (QOI, SGI ..), that hold several pictures (ICO, ICNS), or that are
# programs (EPS).
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000", "HEIF", "DIB", "TGA")
MODES = {1: "L", 3: "RGB"}  # input channels of a network -> what timm's loader converts photos to for it
DEEP = ("I", "I;16", "F")  # Pillow's modes of grey photos with more than 8 bits that it converts
MAX_SCANS = 100  # of a JPEG; encoders make about ten, and each costs as much as a pass over all pixels
ORIENTATION = 0x0112  # EXIF's tag
BLOCK = 2**20  # bytes of a pipe that are read at a time


def open_image(path: StrPath | BinaryIO, *, exif: bool = False, draft: int | None = None, max_pixels: int | None = None,
               in_chans: int = 3) -> "Image":
    """Read a photo as timm's users do, `Image.open(path).convert("RGB")`, and return it as a PIL image.

    `path` is the path of a regular file, or a binary file object. Alpha is dropped, the first frame is taken, and the
    EXIF orientation is ignored unless `exif=True` (timm ignores it), and where the EXIF data are damaged. With `draft`,
    the rows and columns that are needed in the end, a JPEG is decoded at 1/2, 1/4 or 1/8 of its size as long as twice
    as many remain: much faster, but the pixels differ from timm's. `in_chans=1` makes it grey, `convert("L")`, as
    timm's loader does for networks with one input channel.

    max_pixels: the most pixels that are decoded, at 4 to 8 bytes each. None allows 2**27 (12000 x 11000); for a file
        under 512 KiB it allows 256 for each byte or 2**25, whichever is more. Above twice PIL.Image.MAX_IMAGE_PIXELS
        (179 million), raise that as well: it applies to the whole process. A file may have 8 bytes for each pixel of
        the larger of max_pixels and 2**27.

    Raises ImageError for a file that can't be read as a photo, and ArgumentError for anything that is neither a path
    nor a file.
    """
    if isinstance(path, (bytes, bytearray)) or not (isinstance(path, (str, os.PathLike)) or hasattr(path, "read")):
        raise ArgumentError(f"photo {shown(path)}: it must be a path or a binary file object; "
                            "wrap the bytes of a file in io.BytesIO")
    if draft is not None:
        draft = whole("draft, the rows and columns that are needed,", draft, 1)
    check_max_pixels(max_pixels)
    check_in_chans(in_chans)
    name = _name(path)
    try:
        with contextlib.ExitStack() as stack:
            file = path if hasattr(path, "read") else stack.enter_context(open_regular(path))
            stack.enter_context(quiet_pillow())
            return _read(_seekable(file, max_pixels), name, exif, draft, max_pixels, MODES[in_chans])
    except (ImageError, UserWarning):  # our own warning, where someone has made warnings errors
        raise
    except Exception as problem:  # Pillow's readers raise a dozen different classes on broken files
        raise ImageError(f"photo {name!r}: {_explain(problem)}") from problem


def _read(file: BinaryIO, name: str, exif: bool, draft: int | None, max_pixels: int | None, mode: str) -> "Image":
    from PIL import UnidentifiedImageError

    file.seek(0, os.SEEK_END)
    size, allowed = file.tell(), allowed_bytes(max_pixels)
    if size > allowed:
        raise ImageError(f"photo {name!r}: more than {allowed:,} bytes; shrink it, or allow more if you trust it: "
                         f"--max-pixels N (max_pixels=) allows {BYTES_PER_PIXEL} bytes for each of N pixels")
    metered = Metered(file, size)
    try:
        image = _identify(metered)
    except UnidentifiedImageError:
        file.seek(0)
        raise ImageError(f"photo {name!r}: {what_it_is(file.read(HEAD))}") from None
    with image:
        _check_pixels(image, name, size, max_pixels)
        _check_time(image, name, file, size)
        metered.expect(image.format)
        if draft is not None:
            image.draft(None, (2 * draft, 2 * draft))
        image.load()
        _check_pixels(image, name, size, max_pixels)
        photo = _turned(image, as_mode(image, name, mode)) if exif else as_mode(image, name, mode)
        photo.filename = name  # type: ignore[attr-defined]  # for `photo_of`; Pillow sets it where it opens the file
        return photo


def _identify(file: Any) -> "ImageFile":
    """A PIL image that is not decoded yet; Pillow's rarer formats are loaded where the usual ones don't fit."""
    from PIL import Image, UnidentifiedImageError

    Image.preinit()
    try:
        return Image.open(file, formats=_formats())
    except UnidentifiedImageError:
        Image.init()
        return Image.open(file, formats=_formats())


def _formats() -> list[str]:
    from PIL import Image

    return [name for name in FORMATS if name in Image.OPEN]


def photo_suffixes() -> frozenset[str]:
    """The suffixes of the files that `open_image` reads here, in lower case with the dot, such as ".jpg"."""
    from PIL import Image

    Image.init()
    formats = {*_formats(), "MPO"}  # MPO: several JPEGs in a row, which Pillow opens as a JPEG
    return frozenset(suffix for suffix, name in Image.EXTENSION.items() if name in formats)


def photo_of(image: "Image", name: str = "") -> str:
    """How a message begins about the size of a photo that has been decoded, with its name if that is known."""
    name = name or str(getattr(image, "filename", ""))
    return f"photo {f'{name!r} ' if name else ''}of {image.width} x {image.height} pixels"


def as_mode(image: "Image", name: str, mode: str) -> "Image":
    """Decode and convert. A palette's transparency is dropped first: Pillow drops it as well, but with a warning."""
    if 0 in image.size:
        raise ImageError(f"photo {name!r}: {image.width} x {image.height} pixels; it must have at least one")
    try:
        image.load()
        if image.mode == mode:
            return image  # `convert` would copy it
        if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
            image = image.copy()  # the caller's own image keeps its information
            del image.info["transparency"]
        converted = image.convert(mode)
    except Exception as problem:
        raise ImageError(f"photo {name!r}: {_explain(problem)}") from problem
    _warn_of_range(image, name)
    return converted


def _warn_of_range(image: Any, name: str) -> None:
    """Warn where Pillow, as with timm, clips values of a grey photo with more than 8 bits, or takes 0..1 for black."""
    if image.mode not in DEEP:
        return
    low, high = image.getextrema()
    if low < 0 or high > 255:
        what = "are clipped to 0..255"
    elif image.mode == "F" and 0 < high <= 1:
        what = "are black, on a scale from 0 to 255"
    else:
        return
    warnings.warn(f"photo {name!r}: grey values from {low:g} to {high:g} {what}, as with timm; to scale them instead, "
                  "save it with 8 bits", stacklevel=2)


def check_in_chans(in_chans: int) -> None:
    """Raise ArgumentError unless a photo can become the input of a network with `in_chans` channels."""
    if not is_whole(in_chans) or in_chans not in MODES:
        raise ArgumentError(f"a network with {shown(in_chans)} input channels can't take photos, which have 3, or 1 if "
                            "grey; call it with your own array (N, H, W, channels)")


def check_max_pixels(max_pixels: Any) -> None:
    """Raise ArgumentError unless `max_pixels` is None or a whole number of at least 1."""
    if max_pixels is not None:
        whole("max_pixels", max_pixels, 1)


def _check_pixels(image: "Image", name: str, size: int, max_pixels: int | None) -> None:
    pixels, allowed = image.width * image.height, allowed_pixels(size, max_pixels)
    if pixels > allowed:
        what = "" if max_pixels is not None else f" for a file of {size:,} bytes"
        raise ImageError(f"photo {name!r}: {image.width} x {image.height} pixels, and at most {allowed:,} are allowed"
                         f"{what}; shrink it, or allow more if you trust it: --max-pixels {pixels} (max_pixels=)")


def _check_time(image: Any, name: str, file: BinaryIO, size: int) -> None:
    """Refuse a photo that would take far longer to decode than its size and its pixels suggest."""
    if image.format == "TIFF":
        check_strips(image.tag_v2, size)
    if image.format in ("JPEG", "MPO") and (scans := count_scans(file)) > MAX_SCANS:
        raise ImageError(f"photo {name!r}: a JPEG of {scans} scans, and at most {MAX_SCANS} are decoded; save it again")
    file.seek(0)
    if image.format == "PPM" and size > SLOW and file.read(2) in (b"P1", b"P2", b"P3"):
        raise ImageError(f"photo {name!r}: {size:,} bytes of plain text (PPM), and at most {SLOW:,} are decoded; save "
                         "it as PNG")


def _turned(image: "Image", converted: "Image") -> "Image":
    """The photo rotated by its EXIF orientation; unchanged where the EXIF data can't be read."""
    from PIL import Image

    try:
        orientation = image.getexif().get(ORIENTATION)
    except Exception:  # Pillow's parser raises a dozen different classes on damaged data
        return converted
    turn = Image.Transpose
    turns = {2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE,
             6: turn.ROTATE_270, 7: turn.TRANSVERSE, 8: turn.ROTATE_90}
    for number, way in turns.items():
        if orientation == number:
            return converted.transpose(way)
    return converted


def _seekable(file: Any, max_pixels: int | None) -> Any:
    """The file, or its content in memory where it can't be read twice, up to the first part that makes it too large."""
    try:
        file.seek(0)
        return file
    except (AttributeError, io.UnsupportedOperation):
        held, allowed = io.BytesIO(), allowed_bytes(max_pixels)
        while held.tell() <= allowed and (part := file.read(BLOCK)):
            held.write(part)
        return held


def _name(path: Any) -> str:
    """What a photo is called in messages; a temporary file has None or a number for a name."""
    if not isinstance(path, (str, os.PathLike)):
        path, kind = getattr(path, "name", None), type(path).__name__
        if not isinstance(path, (str, bytes, os.PathLike)) or not path:
            return f"<{kind}>"
    return os.fsdecode(path)


def _explain(problem: Exception) -> str:
    """Say what is wrong with the file and what to do, from what the system or Pillow raised."""
    from PIL import Image

    if isinstance(problem, FileNotFoundError):
        return "no such file; check the path"
    if isinstance(problem, IsADirectoryError):
        return "it is a directory; name the photos in it"
    if isinstance(problem, PermissionError):
        return "no permission to read it; change the file's permissions"
    if isinstance(problem, Image.DecompressionBombError):
        return (f"{problem} Shrink it, or allow more if you trust it: --max-pixels (max_pixels=, and Pillow's own "
                "limit for the process, PIL.Image.MAX_IMAGE_PIXELS)")
    if isinstance(problem, TooManyPieces):
        return f"{problem}; save it again"
    if isinstance(problem, MemoryError):
        return "not enough memory to decode it; shrink it"
    if isinstance(problem, OSError) and problem.filename is not None:  # from opening it
        return f"{problem.strerror}; name a file"
    return f"broken or cut short ({type(problem).__name__}: {problem}); fetch or export it again"
