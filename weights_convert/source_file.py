"""The file that is to be converted: read once, hashed, and recognised by its first bytes.

It is read whole into memory, so that what is parsed is what was hashed, even if the file changes meanwhile.
"""
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from npefficient.common.checks import can_be_a_name
from npefficient.common.text import quoted
from npefficient.errors import WeightsError
from npefficient.network.variants import VARIANTS

MAX_SIZE = 2 << 30  # bytes; lite4's state_dict twice and its optimizer have 157 MB
_PROTOCOL_1 = b"L119547037146038801333356L\n."  # the legacy form's magic number where pickle protocol 0 or 1 wrote it
_SAVE = "save the weights in torch with torch.save(model.state_dict(), 'model.pth')"
_FETCH = "fetch it again, and look at what the address gives in a browser"

# Files that are taken for checkpoints: first bytes (offset, bytes), what it is, the remedy.
_NOT_CHECKPOINTS = (
    (0, b"version https://git-lfs", "a git-LFS pointer, not the file it points to", "run 'git lfs pull'"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, not a checkpoint", "a weight file (.h5) needs no conversion, use it as it "
                                                                "is"),
    (0, b"\x1f\x8b", "compressed with gzip", "unpack it first: gunzip"),
    (0, b"BZh", "compressed with bzip2", "unpack it first: bunzip2"),
    (0, b"\xfd7zXZ\x00", "compressed with xz", "unpack it first: unxz"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it first: unzstd"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it first"),
    (0, b"Rar!\x1a\x07", "a RAR archive", "unpack it first"),
    (257, b"ustar", "a tar archive", "unpack it first; a checkpoint older than torch 0.4 is a tar archive itself: load "
                                     "it in torch and save it again"),
    (0, b"PK\x05\x06", "an empty zip archive", _SAVE),
    (0, b"\x93NUMPY", "a NumPy array (.npy)", _SAVE),
    (4, b"TFL3", "a TensorFlow Lite model", "convert the .pth that it was made from"),
    (0, b"GGUF", "a GGUF file", _SAVE),
    (0, b"\x08\x07\x12\x07pytorch", "an ONNX model", "convert the .pth that it was exported from"),
    (0, b"\xff\xd8\xff", "a JPEG photo", "photos are given to 'npefficient classify'"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture", "photos are given to 'npefficient classify'"),
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

    Raises WeightsError for what is not a regular file of reasonable size, for what is no checkpoint (and says what it
    is), and for an official file whose sha256 is not the one that its name stands for: timm's names have eight digits
    of it, and those of the packages are known by all 64.
    """
    path = Path(path)
    data = _read_regular(path)
    kind, digest = _kind(data), hashlib.sha256(data).hexdigest()
    official = _OFFICIAL.fullmatch(path.name)
    expected = official[1] if official else _PACKAGED.get(path.name, "")
    if not digest.startswith(expected):
        raise WeightsError(f"its sha256 begins with {digest[:len(expected)]!r}, but its name says {expected!r}: the "
                           "file is damaged or was altered; fetch it again, or rename it if it is your own")
    return SourceFile(path, data, digest, kind)


def _read_regular(path: Path) -> bytes:
    if not can_be_a_name(path):
        raise WeightsError("it is no file name: there is a NUL or half a character in it")
    try:
        _check_regular(path.stat())  # before it is opened: opening alone makes some devices act
        with open(path, "rb", opener=_open_at_once) as file:
            size = _check_regular(os.fstat(file.fileno()))  # again: it may be another file by now
            return file.read(size)  # a size, since read() allocates what it is asked for
    except FileNotFoundError:
        raise WeightsError("there is no such file: check the name") from None
    except OSError as error:
        raise WeightsError(f"it can't be read ({error.strerror}): check its permissions and the disk") from None


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for its writer


def _check_regular(status: os.stat_result) -> int:
    """The file's size; raises WeightsError for what is no regular file, and for too large a one."""
    what = next((what for holds, what in _OTHER_KINDS if holds(status.st_mode)), None)
    if what:
        raise WeightsError(f"it is {what}: name a checkpoint file")
    if status.st_size > MAX_SIZE:
        raise WeightsError(f"it has {status.st_size} bytes: checkpoints of up to {MAX_SIZE} are read; {_SAVE}")
    return status.st_size


def _kind(data: bytes) -> str:
    if not data:
        raise WeightsError("the file is empty: the download or the save that made it failed; make it again")
    if data[8:9] == b"{" and data[4:8] == bytes(4):  # first, since the header's length may look like any other magic
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
        raise WeightsError(f"it is an HTML page, not a checkpoint (it begins with {quoted(data[:24])}): the address "
                           f"gave a page in place of the file; {_FETCH}")
    if _is_text(data[:512]):
        raise WeightsError(f"it is a text file (it begins with {quoted(data[:24])}), not a checkpoint: {_FETCH}")
    raise WeightsError(f"it is no checkpoint that is known here (it begins with {quoted(data[:8])}): .pth files of "
                       f"torch and .safetensors are read; {_SAVE}")


def _is_text(start: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n\f" for byte in start) and b"\x7f" not in start
