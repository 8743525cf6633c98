"""What weight files of float32 and of int8 weights have in common: all but the arrays of the layers.

An HDF5 file with the arrays of one network, a checksum for each, class names, and attributes that describe the network.
`weight_file.py` specifies the layout. `weights` below is a `Weights` or a `QuantizedWeights`.
"""
import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from ..common.checks import path_of
from ..common.paths import replacing
from ..common.text import plain
from ..common.text_files import CLASS_NAMES
from ..errors import ArgumentError, WeightsError
from ..network import architecture
from ..network.architecture import Architecture
from ..network.parameters import MARKS, TRACKED, Source, check_labels, check_source, same_bits
from ..network.preprocessing import Preprocessing, check_preprocessing
from .hdf5 import (
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

PHOTOS_LIMIT = 1 << 26  # bytes

ATTRIBUTES = {  # name -> kind and shape, as `hdf5.read_attribute` takes them; in the order in which they are written
    "format": ("text", ()), "format_version": ("int", ()), "variant": ("text", ()), "num_classes": ("int", ()),
    "in_chans": ("int", ()), "bn_eps": ("float", ()), "padding": ("text", ()), "input_size": ("int", (2,)),
    "crop_pct": ("float", ()), "interpolation": ("text", ()), "mean": ("float", (3,)), "std": ("float", (3,)),
    "crop_mode": ("text", ()), "source_name": ("text", ()), "source_sha256": ("text", ()), "source_kind": ("text", ()),
    TRACKED: ("int", (None,)), "checksums": ("bytes", (None, 32)), "global_pool": ("text", ()), "sha256": ("text", ()),
}
_OPTIONAL = {"global_pool": "avg"}  # with the value that a missing one means
_CONSTANT = {"bn_eps": architecture.BN_EPS, "padding": architecture.PADDING}
_PYTHON = {"int": np.int64, "float": np.float64, "bytes": np.uint8}


@dataclass(frozen=True)
class Format:
    """A kind of weight file."""

    name: str
    version: int
    lacks: frozenset[str] = frozenset()  # attributes that it does not have


FLOATS = Format("npefficient weights", 1)
INT8 = Format("npefficient int8 weights", 1, lacks=frozenset({"bn_eps", TRACKED}))


# --- writing ---------------------------------------------------------------------------------------------------------


def write_file(path: Path, form: Format, weights, arrays: dict[str, np.ndarray], own: dict, *, read, force: bool):
    """Write a weight file, `read` it back, compare everything, and only then move it to its final name.

    arrays: to store, in the order of the checksums; the caller has checked them. own: attributes that not every format
    has. Raises as `write_weights` does.
    """
    labels = check_labels(weights.labels, weights.architecture.num_classes)
    check_preprocessing(weights.preprocessing)
    source = replace(weights.source, name=plain(weights.source.name))
    check_source(source)
    weights = replace(weights, labels=labels, source=source)
    with replacing(path, force=force) as part:
        part.write_bytes(file_image(lambda file: _fill(file, form, weights, arrays, own)))
        _compare(read(part), weights, part)


def _fill(file, form: Format, weights, arrays: dict[str, np.ndarray], own: dict) -> None:
    for name, array in arrays.items():
        file.create_dataset(name, data=array.astype(array.dtype.newbyteorder("<"), order="C", copy=False))
    if weights.labels is not None:
        file.create_dataset("labels", data=np.frombuffer("\n".join(weights.labels).encode(), np.uint8))
    marks = {name: getattr(weights.source, name) for name in MARKS}
    for name in filter(marks.get, marks):
        file.create_dataset(name, data=np.frombuffer(marks[name], np.uint8))
    attributes = _attributes(form, weights, arrays, own)
    attributes["sha256"] = _digest(attributes, weights.labels, marks)
    for name, value in attributes.items():
        if ATTRIBUTES[name][0] == "text":
            text = value.encode()
            file.attrs.create(name, np.bytes_(text), dtype=h5py.string_dtype("utf-8", max(1, len(text))))
        else:
            file.attrs.create(name, value)


def _attributes(form: Format, weights, arrays: dict[str, np.ndarray], own: dict) -> dict:
    """Every root attribute but `sha256`, as str or as an array of the dtype that is stored."""
    network, source = weights.architecture, weights.source
    checksums = [hashlib.sha256(np.ascontiguousarray(array)).digest() for array in arrays.values()]
    values = {
        "format": form.name,
        "format_version": form.version,
        "variant": network.name,
        "num_classes": network.num_classes,
        "in_chans": network.in_chans,
        **_CONSTANT,
        **asdict(weights.preprocessing),
        "source_name": source.name,
        "source_sha256": source.sha256,
        "source_kind": source.kind,
        "checksums": np.frombuffer(b"".join(checksums), np.uint8).reshape(-1, 32),
        "global_pool": network.global_pool,
        **own,
    }
    names = [name for name in ATTRIBUTES if name in values and name not in form.lacks
             and not (name in _OPTIONAL and values[name] == _OPTIONAL[name])]
    kinds = {name: ATTRIBUTES[name][0] for name in names}
    return {name: values[name] if kind == "text" else np.array(values[name], _PYTHON[kind])
            for name, kind in kinds.items()}


def _digest(attributes: dict, labels, marks: dict[str, bytes]) -> str:
    """The attribute `sha256`, over the other attributes (str, int, float or array), the labels and the photos' marks.
    """
    values = {k: v.tolist() if isinstance(v, (np.ndarray, np.generic)) else v for k, v in attributes.items()}
    guarded = {"attributes": values, "labels": None if labels is None else list(labels)}
    guarded |= {name: content.hex() for name, content in marks.items() if content}
    return hashlib.sha256(json.dumps(guarded, sort_keys=True).encode()).hexdigest()


def _compare(got, expected, part: Path) -> None:
    """Raise WeightsError unless a file read back equals what was written."""
    found = got.parameters
    for name, array in expected.parameters.items():
        if not same_bits(found[name], array):
            raise WeightsError(f"{name!r} read back from {str(part)!r} differs from what was written: check the disk")
    for what in ("architecture", "preprocessing", "labels", "source"):
        back, written = getattr(got, what), getattr(expected, what)
        if what == "preprocessing":
            written = Preprocessing(**{k: tuple(v) if isinstance(v, list) else v for k, v in asdict(written).items()})
        if back != written:
            raise WeightsError(f"{what} read back from {str(part)!r} differs: {back!r} instead of {written!r}")


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Header:
    """What a file has beside the arrays of its network; every value is checked."""

    architecture: Architecture
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None
    source: Source
    attributes: dict  # as str, int, float or array
    stored: dict[str, StoredArray]  # the labels and marks, as far as there are any


def read_file(path, readers: dict):
    """Read and verify a weight file; `readers` has a function (file id, size in bytes) for each Format wanted.

    Raises WeightsError naming the file unless it is complete, unaltered and of one of these formats.
    """
    path = path_of("weight file", path)
    size = check_superblock(path)
    with _naming(path):
        # Read everything and close the file at once: an HDF5 handle kept across a fork corrupts data.
        with h5py.File(path, "r", locking="best-effort") as file:
            return readers[_format(file.id, readers)](file.id, size)


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


def _format(file_id, wanted) -> Format:
    if not has_attribute(file_id, "format"):
        raise WeightsError("it has no attribute 'format': it is an HDF5 file, but not a weight file of npefficient")
    name = read_attribute(file_id, "format", *ATTRIBUTES["format"])
    form = next((form for form in wanted if form.name == name), None)
    if form is None and name == INT8.name:
        raise WeightsError("it holds int8 weights, from which those in float32 can't be recovered: name the float32 "
                           "file that it was made from")
    given, known = f"format {name!r}", " or ".join(repr(form.name) for form in wanted)
    if form is not None and has_attribute(file_id, "format_version"):
        version = read_attribute(file_id, "format_version", *ATTRIBUTES["format_version"])
        given, known = f"format_version {version!r}", repr(form.version)
        form = form if version == form.version else None
    if form is None:
        raise WeightsError(f"{given}: this release reads {known}; update npefficient or convert the checkpoint again")
    return form


def read_header(file_id, size: int, form: Format, lengths) -> Header:
    """Read and check everything but the arrays: types and extents first, then the digest, then the values.

    lengths: function of the network -> the length of each attribute whose length depends on it
    """
    attributes = _read_attributes(file_id, form)
    limits = {"labels": CLASS_NAMES} | dict.fromkeys(MARKS, PHOTOS_LIMIT)
    stored = {name: StoredArray(file_id, name, ("bytes",), (None,), file_size=size, limit=limit)
              for name, limit in limits.items() if has_dataset(file_id, name)}
    beside = {name: next(read_arrays([array])).tobytes() for name, array in stored.items()}
    labels = beside["labels"].decode().split("\n") if "labels" in beside else None
    marks = {name: beside.get(name, b"") for name in MARKS}
    if _digest({k: v for k, v in attributes.items() if k != "sha256"}, labels, marks) != attributes["sha256"]:
        raise WeightsError("its attributes or labels do not match their checksum: the file was altered or damaged")
    return _header(attributes, labels, marks, stored, lengths)


def _read_attributes(file_id, form: Format) -> dict:
    names = [name for name in ATTRIBUTES
             if name not in form.lacks and (name not in _OPTIONAL or has_attribute(file_id, name))]
    check_attributes(file_id, names)
    return {name: read_attribute(file_id, name, *ATTRIBUTES[name]) for name in names}


def _header(attributes: dict, labels, marks: dict[str, bytes], stored: dict, lengths) -> Header:
    for name, value in _CONSTANT.items():
        if attributes.get(name, value) != value:
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
    source = Source(*(attributes[f"source_{part}"] for part in ("name", "sha256", "kind")), **marks)
    check_source(source)
    for name, expected in lengths(network).items():
        if len(attributes[name]) != expected:
            raise WeightsError(f"attribute {name!r} has {len(attributes[name])} entries: {network.name} needs "
                               f"{expected}")
    return Header(network, preprocessing, check_labels(labels, network.num_classes), source, attributes, stored)


def read_checked(file_id, size: int, header: Header, expected: dict) -> dict[str, np.ndarray]:
    """Read the arrays of the network and compare their checksums, which are in the order of `expected`.

    expected: name -> kinds and shape, as `hdf5.StoredArray` takes them; the file has no other datasets but those in
    `header`. All names, types, shapes and positions are checked before the first array is read.
    """
    check_datasets(file_id, [*expected, *header.stored])
    stored = [StoredArray(file_id, name, kinds, shape, file_size=size) for name, (kinds, shape) in expected.items()]
    check_apart([*header.stored.values(), *stored])
    arrays = {}
    for name, array, checksum in zip(expected, read_arrays(stored), header.attributes["checksums"]):
        if hashlib.sha256(array).digest() != checksum.tobytes():
            raise WeightsError(f"{name!r} does not match its checksum: the file was altered or damaged")
        arrays[name] = array
    return arrays
