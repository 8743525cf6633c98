"""Read the file to convert, hash it, and recognise its format by its first bytes.

It is read whole into memory, so that the parsed bytes are the hashed ones even if the file changes meanwhile.
"""
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from npefficient.common.checks import can_be_a_name
from npefficient.common.paths import open_regular
from npefficient.common.text import quoted
from npefficient.errors import WeightsError
from npefficient.network.variants import VARIANTS

MAX_SIZE = 2 << 30  # bytes; two state_dicts of lite4 and an optimizer have 157 MB
_PROTOCOL_1 = b"L119547037146038801333356L\n."  # the legacy format's magic number in pickle protocols 0 and 1
_SAVE = "save the weights in torch with torch.save(model.state_dict(), 'model.pth')"
_FETCH = "download it again, and open the address in a browser to see what it serves"

# Files that are mistaken for checkpoints: offset and bytes of their magic number, what they are, the remedy.
_NOT_CHECKPOINTS = (
    (0, b"version https://git-lfs", "a git-LFS pointer, not the file it points to", "run 'git lfs pull'"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, not a checkpoint", "a weight file (.h5) needs no conversion, use it "
                                                                "directly"),
    (0, b"\x1f\x8b", "compressed with gzip", "unpack it first: gunzip"),
    (0, b"BZh", "compressed with bzip2", "unpack it first: bunzip2"),
    (0, b"\xfd7zXZ\x00", "compressed with xz", "unpack it first: unxz"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it first: unzstd"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it first"),
    (0, b"Rar!\x1a\x07", "a RAR archive", "unpack it first"),
    (257, b"ustar", "a tar archive", "unpack it first; a checkpoint from before torch 0.4 is a tar archive itself: "
                                     "load it in torch and save it again"),
    (0, b"PK\x05\x06", "an empty zip archive", _SAVE),
    (0, b"\x93NUMPY", "a NumPy array (.npy)", _SAVE),
    (4, b"TFL3", "a TensorFlow Lite model", "convert the .pth from which it was made"),
    (0, b"GGUF", "a GGUF file", _SAVE),
    (0, b"\x08\x07\x12\x07pytorch", "an ONNX model", "convert the .pth from which it was exported"),
    (0, b"\xff\xd8\xff", "a JPEG photo", "classify photos with 'npefficient classify'"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture", "classify photos with 'npefficient classify'"),
    (0, b"%PDF", "a PDF document", _FETCH),
)
_OTHER_KINDS = ((stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
                (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))
_OFFICIAL = re.compile(r"tf_efficientnet_lite\d-([0-9a-f]{8})(?: ?\(\d+\))?\.\w+")
_PACKAGED = {variant.package.file: variant.package.sha256 for variant in VARIANTS.values() if variant.package}


@dataclass(frozen=True)
class SourceFile:
    path: Path
    data: bytes
    sha256: str  # 64 hex digits
    kind: str  # "torch-zip", "torch-legacy" or "safetensors"


def read_source(path) -> SourceFile:
    """Read and recognise a checkpoint file.

    Raises WeightsError unless it is a regular file of reasonable size, for known formats other than checkpoints, and
    for an official file whose sha256 does not match its name: timm's names contain eight digits of it, and for files
    of the packages all 64 are known.
    """
    path = Path(path)
    data = _read_regular(path)
    kind, digest = _kind(data), hashlib.sha256(data).hexdigest()
    official = _OFFICIAL.fullmatch(path.name)
    expected = official[1] if official else _PACKAGED.get(path.name, "")
    if not digest.startswith(expected):
        raise WeightsError(f"its sha256 begins with {digest[:len(expected)]!r}, but its name says {expected!r}: the "
                           "file is damaged or was altered; download it again, or rename it if it is your own")
    return SourceFile(path, data, digest, kind)


def _read_regular(path: Path) -> bytes:
    if not can_be_a_name(path):
        raise WeightsError("it is not a valid file name: it contains a NUL or half a character")
    try:
        _check_regular(path.stat())  # before opening it, which has side effects on some devices
        with open_regular(path) as file:
            size = _check_regular(os.fstat(file.fileno()))  # again: it may have been replaced
            return file.read(size)  # not MAX_SIZE: read() allocates that many bytes
    except FileNotFoundError:
        raise WeightsError("there is no such file: check the name") from None
    except OSError as error:
        raise WeightsError(f"it can't be read ({error.strerror}): check its permissions and the disk") from None


def _check_regular(status: os.stat_result) -> int:
    """The file's size; raises WeightsError unless it is a regular file that is not too large."""
    what = next((what for holds, what in _OTHER_KINDS if holds(status.st_mode)), None)
    if what:
        raise WeightsError(f"it is {what}: name a checkpoint file")
    if status.st_size > MAX_SIZE:
        raise WeightsError(f"it has {status.st_size} bytes: the limit for checkpoints is {MAX_SIZE}; {_SAVE}")
    return status.st_size


def _kind(data: bytes) -> str:
    if not data:
        raise WeightsError("the file is empty: downloading or saving it failed; make it again")
    if data[8:9] == b"{" and data[4:8] == bytes(4):  # first: the header's length may look like a different magic number
        return "safetensors"
    for offset, magic, what, remedy in _NOT_CHECKPOINTS:
        if data.startswith(magic, offset):
            raise WeightsError(f"it is {what}: {remedy}")
    if data.startswith(b"PK\x03\x04"):
        return "torch-zip"
    if data[:1] == b"\x80" or data.startswith(_PROTOCOL_1):
        return "torch-legacy"
    if data[8:9] == b"{":
        return "safetensors"
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--")):
        raise WeightsError(f"it is an HTML page, not a checkpoint (it begins with {quoted(data[:24])}): the server "
                           f"sent a page instead of the file; {_FETCH}")
    if _is_text(data[:512]):
        raise WeightsError(f"it is a text file (it begins with {quoted(data[:24])}), not a checkpoint: {_FETCH}")
    raise WeightsError(f"it is not a checkpoint of a known format (it begins with {quoted(data[:8])}): torch's .pth "
                       f"and .safetensors are supported; {_SAVE}")


def _is_text(start: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n\f" for byte in start) and b"\x7f" not in start
