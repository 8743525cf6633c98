"""The HDF5 file with the weights of one network.

Layout, version 1 (HDF5 1.8's structures, which include checksums; superblock version 2, nothing before or after it):

    /<name>                one dataset per parameter under timm's flat name ("blocks.1.0.conv_pw.weight"), unfolded,
                           little-endian float32 or float16, contiguous, no filters, no attributes
    /labels                optional: uint8, the class names as UTF-8 text, separated by one "\\n"
    /photos                optional: uint8, 8 bytes for each photo that layers below the classifier were trained on:
                           the start of a sha256, see `jobs.photo_marks`; ascending
    /classifier_photos     optional: the same for those that the classifier alone was fitted to
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
                           "photos" and "classifier_photos": hex digits if there are any

Nothing is folded: the file is lossless and can be exported back. The same weights give the same bytes. The reader
checks the file's header, then the type and extent of every attribute and label, then their digest, their values, and
the whole table of names, shapes, sizes and positions of the datasets against the architecture. Only then does it read
any weights. It refuses links, external storage, virtual datasets and filters: the file can neither refer to other files
nor expand to more than its own size.
"""
import contextlib
from pathlib import Path

import numpy as np

from ..common.checks import path_of
from ..common.paths import WEIGHT_FILES, named, open_regular
from ..network.architecture import Architecture
from ..network.parameters import TRACKED, Weights, check_parameters
from .hdf5 import MAGIC
from .network_file import FLOATS, read_checked, read_file, read_header, write_file


def write_weights(path, weights: Weights, *, force: bool = False) -> None:
    """Write a weight file, read it back, compare everything, and only then move it to its final name.

    Raises ArgumentError if the target exists and `force` is not set, for a different suffix, and for an unusable
    preprocessing; WeightsError for parameters, labels or a source that do not fit; OSError if the disk is full or not
    writable. An existing file is kept in all these cases.
    """
    path, parameters = weight_target(path), weights.parameters
    check_parameters(parameters, weights.architecture)
    arrays = {name: parameters[name] for name in _stored_names(weights.architecture)}
    counts = [int(parameters[name]) for name in weights.architecture.parameters() if name.endswith(TRACKED)]
    write_file(path, FLOATS, weights, arrays, {TRACKED: counts}, read=read_weights, force=force)


def weight_target(path) -> Path:
    """The path of a weight file to write; raises ArgumentError for a different suffix."""
    more = ", as weight files do; npefficient.export ('npefficient export') makes .safetensors"
    return named(path, WEIGHT_FILES, more)


def read_weights(path) -> Weights:
    """Read and verify a weight file.

    Raises WeightsError naming the file unless it is a complete, unaltered file of this format.
    """
    return read_file(path, {FLOATS: read_open})


def is_hdf5(path) -> bool:
    """True for a file that starts with HDF5's magic bytes, and for any name that ends in .h5."""
    path = path_of("weight file", path)
    if path.suffix.lower() in WEIGHT_FILES:
        return True
    with contextlib.suppress(OSError, ValueError), open_regular(path) as file:  # ValueError: a NUL in the name
        return file.read(len(MAGIC)) == MAGIC
    return False


def read_open(file_id, size: int) -> Weights:
    """Read an open file of this format. All checks in order: the cheap ones first, the weights last."""
    header = read_header(file_id, size, FLOATS, _lengths)
    network, shapes = header.architecture, header.architecture.parameters()
    expected = {name: (("float32", "float16"), shapes[name]) for name in _stored_names(network)}
    parameters = read_checked(file_id, size, header, expected)
    counts = iter(header.attributes[TRACKED])
    parameters = {name: np.array(next(counts)) if name.endswith(TRACKED) else parameters[name]
                  for name in shapes}  # in timm's order
    check_parameters(parameters, network)
    return Weights(network, parameters, header.preprocessing, header.labels, header.source)


def _lengths(network: Architecture) -> dict[str, int]:
    return {"checksums": len(_stored_names(network)), TRACKED: len(network.convs)}


def _stored_names(network: Architecture) -> list[str]:
    return [name for name in network.parameters() if not name.endswith(TRACKED)]
