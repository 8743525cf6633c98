"""The HDF5 file with the weights of one network.

Layout, version 1 (HDF5 1.8's structures, which include checksums; superblock version 2, nothing before or after it):

    /<name>                one dataset per parameter under timm's flat name ("blocks.1.0.conv_pw.weight"), unfolded,
                           little-endian float32 or float16, contiguous, no filters, no attributes
    /labels                optional: uint8, the class names as UTF-8 text, separated by one "\\n"
    /photos                optional: uint8, 8 bytes for each photo that the classifier was trained on: the start of a
                           sha256, see `jobs.photo_marks`; ascending
    attributes of the root (text: fixed-length UTF-8; whole numbers: int64; the others float64):
    format                 "npefficient weights"
    format_version         1
    variant                "tf_efficientnet_lite0"
    num_classes, in_chans  whole numbers; num_classes 0: no classifier
    global_pool            optional: "max", "avgmax", "catavgmax", "" (none); average if it is missing
    bn_eps, padding        0.001, "same"
    input_size             (rows, columns)
    crop_pct, interpolation, mean (3), std (3), crop_mode      the preprocessing: `preprocessing.Preprocessing`
    source_name, source_sha256, source_kind                    the file that was converted
    num_batches_tracked    one per batch norm, in the order of execution
    checksums              uint8 (parameters, 32): sha256 of each dataset's bytes, in the order of timm's state_dict
    sha256                 covers everything that the checksums do not: 64 hex digits, of the text
                           json.dumps({"attributes": {name: value, ..}, "labels": [..] or null}, sort_keys=True)
                           over all other attributes; arrays as (nested) lists, floats as Python writes them; with
                           "photos": hex digits if there are any

Nothing is folded: the file is lossless and can be exported back. The same weights give the same bytes. The reader
checks the file's header, then the type and extent of every attribute and label, then their digest, their values, and
the whole table of names, shapes, sizes and positions of the datasets against the architecture. Only then does it read
any weights. It refuses links, external storage, virtual datasets and filters: the file can neither refer to other files
nor expand to more than its own size.
"""
import contextlib
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np

from ..common.checks import path_of
from ..common.paths import WEIGHT_FILES, named, replacing
from ..common.text import plain
from ..common.text_files import CLASS_NAMES
from ..errors import ArgumentError, WeightsError
from ..network import architecture
from ..network.architecture import Architecture
from ..network.parameters import TRACKED, Source, Weights, check_labels, check_parameters, check_source, same_bits
from ..network.preprocessing import Preprocessing, check_preprocessing
from .hdf5 import (
    MAGIC,
    StoredArray,
    check_apart,
    check_attributes,
    check_datasets,
    check_superblock,
    file_image,
    has_attribute,
    has_dataset,
    read_arrays,
    read_attribute,
)

FORMAT, FORMAT_VERSION = "npefficient weights", 1
PHOTOS_LIMIT = 1 << 26  # bytes

_ATTRIBUTES = {  # name -> kind and shape, as `hdf5.read_attribute` takes them
    "format": ("text", ()), "format_version": ("int", ()), "variant": ("text", ()), "num_classes": ("int", ()),
    "in_chans": ("int", ()), "bn_eps": ("float", ()), "padding": ("text", ()), "input_size": ("int", (2,)),
    "crop_pct": ("float", ()), "interpolation": ("text", ()), "mean": ("float", (3,)), "std": ("float", (3,)),
    "crop_mode": ("text", ()), "source_name": ("text", ()), "source_sha256": ("text", ()), "source_kind": ("text", ()),
    TRACKED: ("int", (None,)), "checksums": ("bytes", (None, 32)), "sha256": ("text", ()), "global_pool": ("text", ()),
}
_OPTIONAL = {"global_pool": "avg"}  # with the value that a missing one means
_PYTHON = {"int": np.int64, "float": np.float64, "bytes": np.uint8}


# --- writing ---------------------------------------------------------------------------------------------------------


def write_weights(path, weights: Weights, *, force: bool = False) -> None:
    """Write a weight file, read it back, compare everything, and only then move it to its final name.

    Raises ArgumentError if the target exists and `force` is not set, for a different suffix, and for an unusable
    preprocessing; WeightsError for parameters, labels or a source that do not fit; OSError if the disk is full or not
    writable. An existing file is kept in all these cases.
    """
    path = weight_target(path)
    check_parameters(weights.parameters, weights.architecture)
    labels = check_labels(weights.labels, weights.architecture.num_classes)
    check_preprocessing(weights.preprocessing)
    source = replace(weights.source, name=plain(weights.source.name))
    check_source(source)
    weights = replace(weights, labels=labels, source=source)
    with replacing(path, force=force) as part:
        part.write_bytes(file_image(lambda file: _fill(file, weights)))
        _compare(read_weights(part), weights, part)


def weight_target(path) -> Path:
    """The path of a weight file to write; raises ArgumentError for a different suffix."""
    more = ", as weight files do; npefficient.export ('npefficient export') makes .safetensors"
    return named(path, WEIGHT_FILES, more)


def _fill(file, weights: Weights) -> None:
    for name in _stored_names(weights.architecture):
        array = weights.parameters[name]
        file.create_dataset(name, data=array.astype(array.dtype.newbyteorder("<"), order="C", copy=False))
    if weights.labels is not None:
        file.create_dataset("labels", data=np.frombuffer("\n".join(weights.labels).encode(), np.uint8))
    if weights.source.photos:
        file.create_dataset("photos", data=np.frombuffer(weights.source.photos, np.uint8))
    attributes = _attributes(weights)
    attributes["sha256"] = _digest(attributes, weights.labels, weights.source.photos)
    for name, value in attributes.items():
        if _ATTRIBUTES[name][0] == "text":
            text = value.encode()
            file.attrs.create(name, np.bytes_(text), dtype=h5py.string_dtype("utf-8", max(1, len(text))))
        else:
            file.attrs.create(name, value)


def _stored_names(network: Architecture) -> list[str]:
    return [name for name in network.parameters() if not name.endswith(TRACKED)]


def _attributes(weights: Weights) -> dict:
    """Every root attribute but `sha256`, as str or as an array of the dtype that is stored."""
    network, parameters, source = weights.architecture, weights.parameters, weights.source
    checksums = [hashlib.sha256(np.ascontiguousarray(parameters[n])).digest() for n in _stored_names(network)]
    values = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "variant": network.name,
        "num_classes": network.num_classes,
        "in_chans": network.in_chans,
        "bn_eps": architecture.BN_EPS,
        "padding": architecture.PADDING,
        **asdict(weights.preprocessing),
        "source_name": source.name,
        "source_sha256": source.sha256,
        "source_kind": source.kind,
        TRACKED: [int(parameters[n]) for n in network.parameters() if n.endswith(TRACKED)],
        "checksums": np.frombuffer(b"".join(checksums), np.uint8).reshape(-1, 32),
        "global_pool": network.global_pool,
    }
    values = {name: value for name, value in values.items() if name not in _OPTIONAL or value != _OPTIONAL[name]}
    return {name: value if _ATTRIBUTES[name][0] == "text" else np.array(value, _PYTHON[_ATTRIBUTES[name][0]])
            for name, value in values.items()}


def _digest(attributes: dict, labels, photos: bytes) -> str:
    """The attribute `sha256`, over the other attributes (str, int, float or array), the labels and the photos."""
    values = {k: v.tolist() if isinstance(v, (np.ndarray, np.generic)) else v for k, v in attributes.items()}
    guarded = {"attributes": values, "labels": None if labels is None else list(labels)}
    guarded |= {"photos": photos.hex()} if photos else {}
    return hashlib.sha256(json.dumps(guarded, sort_keys=True).encode()).hexdigest()


def _compare(got: Weights, expected: Weights, part: Path) -> None:
    """Raise WeightsError unless a file read back equals what was written."""
    for name, array in expected.parameters.items():
        if not same_bits(got.parameters[name], array):
            raise WeightsError(f"{name!r} read back from {str(part)!r} differs from what was written: check the disk")
    for what in ("architecture", "preprocessing", "labels", "source"):
        back, written = getattr(got, what), getattr(expected, what)
        if what == "preprocessing":
            written = Preprocessing(**{k: tuple(v) if isinstance(v, list) else v for k, v in asdict(written).items()})
        if back != written:
            raise WeightsError(f"{what} read back from {str(part)!r} differs: {back!r} instead of {written!r}")


# --- reading ---------------------------------------------------------------------------------------------------------


def read_weights(path) -> Weights:
    """Read and verify a weight file.

    Raises WeightsError naming the file unless it is a complete, unaltered file of this format.
    """
    path = path_of("weight file", path)
    size = check_superblock(path)
    with _naming(path):
        # Read everything and close the file at once: an HDF5 handle kept across a fork corrupts data.
        with h5py.File(path, "r", locking="best-effort") as file:
            return _read(file.id, size)


def is_hdf5(path) -> bool:
    """True for a file that starts with HDF5's magic bytes, and for any name that ends in .h5."""
    path = path_of("weight file", path)
    if path.suffix.lower() in WEIGHT_FILES:
        return True
    with contextlib.suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                return file.read(len(MAGIC)) == MAGIC
    return False


@contextlib.contextmanager
def _naming(path: Path):
    """Put the file's name in front of every error; HDF5 raises almost any exception for a broken file."""
    try:
        yield
    except (ArgumentError, WeightsError) as error:
        raise WeightsError(f"weight file {str(path)!r}: {error}") from error
    except Exception as error:
        raise WeightsError(f"weight file {str(path)!r} is damaged or not one of ours ({' '.join(str(error).split())}): "
                           "download it again, or convert the checkpoint again") from error


def _read(file_id, size: int) -> Weights:
    """All checks in order: the cheap ones first, the weights last."""
    attributes = _read_attributes(file_id)
    arrays = {name: StoredArray(file_id, name, ("bytes",), (None,), file_size=size, limit=limit)
              for name, limit in (("labels", CLASS_NAMES), ("photos", PHOTOS_LIMIT)) if has_dataset(file_id, name)}
    beside = {name: next(read_arrays([array])).tobytes() for name, array in arrays.items()}
    labels, photos = beside["labels"].decode().split("\n") if "labels" in beside else None, beside.get("photos", b"")
    if _digest({k: v for k, v in attributes.items() if k != "sha256"}, labels, photos) != attributes["sha256"]:
        raise WeightsError("its attributes or labels do not match their checksum: the file was altered or damaged")
    empty = _described(attributes, labels, photos)
    shapes, stored = empty.architecture.parameters(), _stored_names(empty.architecture)
    check_datasets(file_id, [*stored, *arrays])
    for name in stored:
        arrays[name] = StoredArray(file_id, name, ("float32", "float16"), shapes[name], file_size=size)
    check_apart(arrays.values())
    parameters = _read_parameters(arrays, stored, attributes)
    counts = iter(attributes[TRACKED])
    for name in shapes:  # in timm's order
        empty.parameters[name] = np.array(next(counts)) if name.endswith(TRACKED) else parameters[name]
    check_parameters(empty.parameters, empty.architecture)
    return empty


def _read_attributes(file_id) -> dict:
    """Every attribute as str, int, float or array; the constant ones are checked."""
    def read(name):
        return read_attribute(file_id, name, *_ATTRIBUTES[name])

    if not has_attribute(file_id, "format"):
        raise WeightsError("it has no attribute 'format': it is an HDF5 file, but not a weight file of npefficient")
    for name, value in (("format", FORMAT), ("format_version", FORMAT_VERSION)):
        if has_attribute(file_id, name) and read(name) != value:
            raise WeightsError(f"{name} {read(name)!r}: this release reads {value!r}; update npefficient or "
                               "convert the checkpoint again")
    there = [name for name in _ATTRIBUTES if name not in _OPTIONAL or has_attribute(file_id, name)]
    check_attributes(file_id, there)
    return {name: read(name) for name in there}


def _described(attributes: dict, labels, photos: bytes) -> Weights:
    """Weights without parameters, from the attributes; every value is checked."""
    for name, value in (("bn_eps", architecture.BN_EPS), ("padding", architecture.PADDING)):
        if attributes[name] != value:
            raise WeightsError(f"attribute {name!r} is {attributes[name]!r}: it must be {value!r}")
    attributes = _OPTIONAL | attributes
    network = architecture.build(*(attributes[name] for name in ("variant", "num_classes", "in_chans", "global_pool")))
    if attributes["variant"] != network.name:
        raise WeightsError(f"attribute 'variant' is {attributes['variant']!r}: it must be the full name "
                           f"{network.name!r}")
    values = {k: attributes[k] for k in Preprocessing.__dataclass_fields__}
    values = {k: tuple(v.tolist()) if isinstance(v, np.ndarray) else v for k, v in values.items()}
    preprocessing = Preprocessing(**values)
    check_preprocessing(preprocessing)
    source = Source(*(attributes[f"source_{part}"] for part in ("name", "sha256", "kind")), photos)
    check_source(source)
    for name, expected in (("checksums", len(_stored_names(network))), (TRACKED, len(network.convs))):
        if len(attributes[name]) != expected:
            raise WeightsError(f"attribute {name!r} has {len(attributes[name])} entries: {network.name} needs "
                               f"{expected}")
    return Weights(network, {}, preprocessing, check_labels(labels, network.num_classes), source)


def _read_parameters(arrays: dict, stored: list[str], attributes: dict) -> dict[str, np.ndarray]:
    parameters = {}
    contents = read_arrays([arrays[name] for name in stored])
    for name, array, checksum in zip(stored, contents, attributes["checksums"]):
        if hashlib.sha256(array).digest() != checksum.tobytes():
            raise WeightsError(f"{name!r} does not match its checksum: the file was altered or damaged")
        parameters[name] = array
    return parameters
