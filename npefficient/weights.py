"""The HDF5 file that keeps the weights of one network.

Layout, version 1 (HDF5 with `libver="latest"`, so that HDF5's own structures carry checksums):

    /<name>                one dataset per parameter under timm's flat name ("blocks.1.0.conv_pw.weight"), unfolded,
                           little-endian float32 or float16, contiguous, no filters
    /labels                optional: uint8, the class names as UTF-8 text, one a line
    attributes of the root, strings as fixed-length UTF-8:
    format                 "npefficient weights"
    format_version         1
    variant                "tf_efficientnet_lite0"
    num_classes, in_chans  whole numbers
    bn_eps, padding        0.001, "same"
    input_size             (rows, columns)
    crop_pct, interpolation, mean, std, crop_mode
    source_name, source_sha256, source_kind   the file that was converted
    num_batches_tracked    int64, one per batch norm in the order of execution
    checksums              uint8 (parameters, 32): sha256 of each dataset's bytes, in the order of the architecture
    sha256                 sha256 of all the other attributes and the labels, so that no bit of meaning is unguarded

Nothing is folded: the file is lossless and can be exported back. The same weights give the same bytes. The reader
compares the whole table of names, shapes and storage sizes with the architecture before it reads a single weight, and
refuses links, external storage, virtual datasets and filters: the file can neither lead elsewhere nor unpack to more
than its own size.
"""
import contextlib
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from . import architecture
from .architecture import Architecture, Preprocessing
from .errors import ArgumentError, WeightsError
from .parameters import TRACKED, Source, Weights, check_labels, check_parameters
from .paths import replacing

FORMAT, FORMAT_VERSION = "npefficient weights", 1
MAGIC = b"\x89HDF\r\n\x1a\n"
LABELS_LIMIT = 1 << 22  # bytes


def write_weights(path, weights: Weights, *, force: bool = False) -> None:
    """Write a weight file, read it back, compare every array, and only then put it in its place.

    Raises ArgumentError where the target exists and `force` is not set, WeightsError for weights that do not fit
    their architecture, OSError when the disk is full or not writable; the old file stays in all these cases.
    """
    import h5py

    check_parameters(weights.parameters, weights.architecture)
    labels = check_labels(weights.labels, weights.architecture.num_classes)
    with replacing(Path(path), force=force) as part:
        with h5py.File(part, "w", libver="latest") as file:
            for name in _stored_names(weights.architecture):
                array = weights.parameters[name]
                file.create_dataset(name, data=array.astype(array.dtype.newbyteorder("<"), order="C"))
            if labels is not None:
                file.create_dataset("labels", data=np.frombuffer("\n".join(labels).encode(), np.uint8))
            attributes = _attributes(weights)
            for name, value in attributes.items():
                file.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value
            file.attrs["sha256"] = np.bytes_(_digest(attributes, labels).encode())
        back = read_weights(part)
        for name, array in weights.parameters.items():
            if back.parameters[name].tobytes() != np.ascontiguousarray(array).tobytes():
                raise WeightsError(f"{name!r} read back from {str(part)!r} differs from what was written: check the disk")


def _stored_names(network: Architecture) -> list[str]:
    return [name for name in network.parameters() if not name.endswith(TRACKED)]


def _attributes(weights: Weights) -> dict:
    """Every root attribute but `sha256`: str, int, float, or an array."""
    network, parameters = weights.architecture, weights.parameters
    checksums = [hashlib.sha256(np.ascontiguousarray(parameters[n])).digest() for n in _stored_names(network)]
    preprocessing = asdict(weights.preprocessing)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "variant": network.name,
        "num_classes": network.num_classes,
        "in_chans": network.in_chans,
        "bn_eps": architecture.BN_EPS,
        "padding": architecture.PADDING,
        **{k: np.array(v) if isinstance(v, tuple) else v for k, v in preprocessing.items()},
        "source_name": weights.source.name,
        "source_sha256": weights.source.sha256,
        "source_kind": weights.source.kind,
        TRACKED: np.array([parameters[n] for n in network.parameters() if n.endswith(TRACKED)], np.int64),
        "checksums": np.frombuffer(b"".join(checksums), np.uint8).reshape(-1, 32),
    }


def _digest(attributes: dict, labels) -> str:
    """sha256 over the attributes and the labels, written as canonical JSON."""
    plain = {k: v.tolist() if isinstance(v, (np.ndarray, np.generic)) else v for k, v in attributes.items()}
    text = json.dumps({"attributes": plain, "labels": labels}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_weights(path) -> Weights:
    """Read and verify a weight file.

    Raises WeightsError naming the file for anything but a whole, unaltered file of this format.
    """
    import h5py

    path = Path(path)
    _check_is_hdf5(path)
    with _naming(path):
        # Everything is read and the file closed at once: an HDF5 handle kept over a fork corrupts.
        with h5py.File(path, "r", locking="best-effort") as file:
            attributes = _read_attributes(file)
            network = architecture.build(attributes["variant"], attributes["num_classes"], attributes["in_chans"])
            _check_tree(file, network, path.stat().st_size)
            parameters = {name: file[name][()] for name in _stored_names(network)}
            labels = bytes(file["labels"][()]).decode().split("\n") if "labels" in file else None
        return _verified(network, parameters, labels, attributes)


def _check_is_hdf5(path: Path) -> None:
    if path.is_dir():
        raise WeightsError(f"{str(path)!r} is a directory: name a weight file (.h5)")
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise WeightsError(f"can't read {str(path)!r}: {error.strerror}") from error
    if not start:
        raise WeightsError(f"{str(path)!r} is empty: it should be a weight file (.h5)")
    if not start.startswith(MAGIC):
        raise WeightsError(f"{str(path)!r} is no HDF5 file (it starts with {start[:8]!r}): a checkpoint (.pth, "
                           f".safetensors) is made into one with 'npefficient convert {path}'")
    if start[8:9] not in (b"\x02", b"\x03"):
        raise WeightsError(f"{str(path)!r} is an HDF5 file of an old layout without checksums (superblock version "
                           f"{start[8:9].hex()}): weight files are written by 'npefficient convert'")


@contextlib.contextmanager
def _naming(path: Path):
    """Put the file's name in front of every error; HDF5 reports a broken file by almost any exception."""
    try:
        yield
    except (ArgumentError, WeightsError) as error:
        raise WeightsError(f"weight file {str(path)!r}: {error}") from error
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, MemoryError) as error:
        raise WeightsError(f"weight file {str(path)!r} is damaged or not one of ours ({error}): "
                           "fetch it again, or convert the checkpoint again") from error


_ATTRIBUTES = {  # name -> kind of dtype, shape (None: any length)
    "format": ("S", ()), "format_version": ("i", ()), "variant": ("S", ()), "num_classes": ("i", ()),
    "in_chans": ("i", ()), "bn_eps": ("f", ()), "padding": ("S", ()), "input_size": ("i", (2,)),
    "crop_pct": ("f", ()), "interpolation": ("S", ()), "mean": ("f", (None,)), "std": ("f", (None,)),
    "crop_mode": ("S", ()), "source_name": ("S", ()), "source_sha256": ("S", ()), "source_kind": ("S", ()),
    TRACKED: ("i", (None,)), "checksums": ("u", (None, 32)), "sha256": ("S", ()),
}


def _read_attributes(file) -> dict:
    names = set(file.attrs)
    if "format" not in names:
        raise WeightsError("it has no attribute 'format': it is an HDF5 file, but no weight file of npefficient")
    if "format_version" in names:
        version = _attribute(file, "format_version")
        if version != FORMAT_VERSION:
            raise WeightsError(f"format version {version}: this release reads version {FORMAT_VERSION}; "
                               "update npefficient or convert the checkpoint again")
    if names != set(_ATTRIBUTES):
        raise WeightsError(f"attributes missing: {sorted(set(_ATTRIBUTES) - names)}, "
                           f"unexpected: {sorted(names - set(_ATTRIBUTES))}")
    attributes = {name: _attribute(file, name) for name in _ATTRIBUTES}
    fixed = {"format": FORMAT, "bn_eps": architecture.BN_EPS, "padding": architecture.PADDING}
    for name, value in fixed.items():
        if attributes[name] != value:
            raise WeightsError(f"attribute {name!r} is {attributes[name]!r}: it must be {value!r}")
    return attributes


def _attribute(file, name: str):
    """One root attribute as str, int, float or array, its type and extent checked before it is read."""
    kind, shape = _ATTRIBUTES[name]
    handle = file.attrs.get_id(name)
    fits = len(handle.shape) == len(shape) and all(want in (None, got) for got, want in zip(handle.shape, shape))
    if handle.dtype.kind != kind or not fits or handle.get_storage_size() > 65536:
        raise WeightsError(f"attribute {name!r} is {handle.dtype} {handle.shape}: it must be of kind {kind!r} {shape}")
    value = file.attrs[name]
    if kind == "S":
        return bytes(value).decode()
    return value if shape else value.item()


def _check_tree(file, network: Architecture, file_size: int) -> None:
    """Names, links, dtypes, shapes and storage of every dataset, before any of them is read."""
    import h5py

    shapes = {name: network.parameters()[name] for name in _stored_names(network)}
    names = set(file.keys())
    for name in sorted(names):
        link = file.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise WeightsError(f"{name!r} is a {type(link).__name__}: a weight file may not lead to another place")
    missing, extra = sorted(set(shapes) - names), sorted(names - set(shapes) - {"labels"})
    if missing or extra:
        raise WeightsError(f"datasets missing: {missing[:20]}, unexpected: {extra[:20]}")
    for name in sorted(names):
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise WeightsError(f"{name!r} is a {type(dataset).__name__}: it must be a dataset")
        _check_dataset(name, dataset, shapes.get(name), file_size)


def _check_dataset(name: str, dataset, shape, file_size: int) -> None:
    import h5py

    plist = dataset.id.get_create_plist()
    if plist.get_layout() != h5py.h5d.CONTIGUOUS or plist.get_external_count():
        raise WeightsError(f"{name!r} is not stored in one piece in this file (chunked, filtered, virtual or external)")
    if shape is None:  # the labels
        fits, rule = dataset.dtype == np.uint8 and dataset.ndim == 1 and dataset.size <= LABELS_LIMIT, "uint8 text"
    else:
        fits = dataset.dtype in (np.dtype("<f4"), np.dtype("<f2")) and dataset.shape == shape
        rule = f"float32 or float16 {shape}"
    if not fits:
        raise WeightsError(f"{name!r} is {dataset.dtype} {dataset.shape}: it must be {rule}")
    expected, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    start = dataset.id.get_offset()
    if stored != expected or (expected and (start is None or start + stored > file_size)):
        raise WeightsError(f"{name!r} claims {expected} bytes, but {stored} are stored in a file of {file_size}")


def _verified(network: Architecture, parameters: dict, labels, attributes: dict) -> Weights:
    """Compare all checksums, put the counts back among the parameters, and check the values."""
    expected = attributes.pop("sha256")
    if _digest(attributes, labels) != expected:
        raise WeightsError("its attributes or labels do not match their checksum: the file was altered or damaged")
    checksums, tracked = attributes["checksums"], attributes[TRACKED]
    if len(checksums) != len(parameters) or len(tracked) != len(network.convs):
        raise WeightsError(f"{len(checksums)} checksums and {len(tracked)} batch counts for {len(parameters)} "
                           f"parameters and {len(network.convs)} batch norms")
    for (name, array), checksum in zip(parameters.items(), checksums):
        if hashlib.sha256(array).digest() != checksum.tobytes():
            raise WeightsError(f"{name!r} does not match its checksum: the file was altered or damaged")
    counts = iter(tracked)
    ordered = {n: np.array(next(counts)) if n.endswith(TRACKED) else parameters[n] for n in network.parameters()}
    check_parameters(ordered, network)
    read = {k: attributes[k] for k in Preprocessing.__dataclass_fields__}
    preprocessing = Preprocessing(**{k: tuple(v.tolist()) if isinstance(v, np.ndarray) else v for k, v in read.items()})
    source = Source(*(attributes[f"source_{part}"] for part in ("name", "sha256", "kind")))
    return Weights(network, ordered, preprocessing, check_labels(labels, network.num_classes), source)
