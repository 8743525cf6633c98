"""Weight files that lie: each gives one WeightsError that names the file and the offending value, before a large read.

Every file starts from a valid one (lite0, 10 classes, float16, 7 MB) and is changed with h5py. Where the change is
covered by the root `sha256`, it is tried twice: as it is, for the digest to catch, and signed afresh, for the rule
itself to catch.
"""
import re

import h5py
import numpy as np
import pytest
from weight_files import checksum_row, difference, digest, edited, refused, set_attribute, sign, small_weights

from npefficient.weights.weight_file import _ATTRIBUTES, read_weights

DIGEST = "its attributes or labels do not match their checksum"


def test_hostile_helper_leaves_a_valid_file_valid(victim):
    edited(victim, lambda file: set_attribute(file, "sha256", np.bytes_(b"0" * 64)))
    edited(victim, lambda file: None, signed=True)
    assert difference(read_weights(victim), small_weights()) == ""


def test_hostile_helper_can_fail(victim):
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        refused(victim, "anything")
    edited(victim, attribute("variant", np.bytes_(b"lite9")), signed=True)
    with pytest.raises(AssertionError, match="Regex"):
        refused(victim, "lite8")


def test_digest_equals_that_of_the_specification(valid):
    with h5py.File(valid) as file:
        assert file.attrs["sha256"].decode() == digest(file)


# --- what the digest guards ------------------------------------------------------------------------------------------


def attribute(name, value, **how):
    return lambda file: set_attribute(file, name, value, **how)


def labels(text: bytes):
    def edit(file):
        del file["labels"]
        file["labels"] = np.frombuffer(text, np.uint8)
    return edit


def photos(marks: bytes):
    return lambda file: file.__setitem__("photos", np.frombuffer(marks, np.uint8))


def without(name):
    return lambda file: file.__delitem__(name)


def classes_without_labels(count):
    def edit(file):
        set_attribute(file, "num_classes", count)
        del file["labels"]
    return edit


TEN = "\n".join("abcdefghij").encode()
VALUES = {
    "variant_unknown": (attribute("variant", np.bytes_(b"lite9")), "unknown model 'lite9'"),
    "variant_lookalike": (attribute("variant", np.bytes_(b"efficientnet_lite0")), "'efficientnet_lite0' is timm's own"),
    "variant_short": (attribute("variant", np.bytes_(b"lite0")), "'lite0': it must be the full name"),
    "variant_empty": (attribute("variant", np.bytes_(b"")), "unknown model ''"),
    "variant_other": (attribute("variant", np.bytes_(b"tf_efficientnet_lite1")),
                      "'checksums' has 247 entries.*lite1 needs"),
    "num_classes_0": (attribute("num_classes", 0), "'checksums' has 247 entries.*lite0 needs 245"),
    "pool_unknown": (attribute("global_pool", np.bytes_(b"min")), "global_pool 'min': it must be one of"),
    "pool_none": (attribute("global_pool", np.bytes_(b"")), "global_pool '' with 10 classes"),
    "pool_twice_as_wide": (attribute("global_pool", np.bytes_(b"catavgmax")),
                           r"'classifier.weight' is float16 \(10, 1280\).*\(10, 2560\)"),
    "num_classes_negative": (attribute("num_classes", -(2**63)), "num_classes -9223372036854775808: it must be"),
    "num_classes_11": (attribute("num_classes", 11), "10 labels for 11 classes"),
    "num_classes_10_to_12": (attribute("num_classes", 10**12), "num_classes 1000000000000: .* at most 262,144"),
    "num_classes_10_to_12_no_labels": (classes_without_labels(10**12),
                                       "num_classes 1000000000000: .* at most 262,144"),
    "num_classes_2_to_18_no_labels": (classes_without_labels(2**18),
                                      r"'classifier.weight' is float16 \(10, 1280\).*\(262144, 1280\)"),
    "num_classes_2_to_63": (classes_without_labels(2**63 - 1),
                            "num_classes 9223372036854775807: .* at most 262,144"),
    "in_chans_0": (attribute("in_chans", 0), "in_chans 0: it must be"),
    "in_chans_4": (attribute("in_chans", 4), r"'conv_stem.weight' is float16 \(32, 3, 3, 3\).*\(32, 4, 3, 3\)"),
    "in_chans_2_to_62": (attribute("in_chans", 2**62), "in_chans 4611686018427387904: .* at most 4,096"),
    "bn_eps": (attribute("bn_eps", 1e-5), "'bn_eps' is 1e-05"),
    "bn_eps_nan": (attribute("bn_eps", float("nan")), "'bn_eps' is nan"),
    "padding": (attribute("padding", np.bytes_(b"symmetric")), "'padding' is 'symmetric'"),
    "input_size_huge": (attribute("input_size", [10**12, 224]), r"input_size=\(1000000000000, 224\)"),
    "input_size_negative": (attribute("input_size", [224, -224]), r"input_size=\(224, -224\)"),
    "crop_pct_0": (attribute("crop_pct", 0.0), r"crop_pct=0\.0"),
    "crop_pct_nan": (attribute("crop_pct", float("nan")), "crop_pct=nan"),
    "interpolation": (attribute("interpolation", np.bytes_(b"magic")), "interpolation='magic'"),
    "crop_mode": (attribute("crop_mode", np.bytes_(b"middle")), "crop_mode='middle'"),
    "mean_inf": (attribute("mean", [0.5, float("inf"), 0.5]), r"mean=\(0\.5, inf, 0\.5\)"),
    "std_0": (attribute("std", [0.5, 0.0, 0.5]), r"std=\(0\.5, 0\.0, 0\.5\)"),
    "source_name_escape": (attribute("source_name", np.bytes_(b"\x1b[2Ja.pth")), r"source name '\\x1b\[2Ja.pth'"),
    "source_sha256_short": (attribute("source_sha256", np.bytes_(b"ab12")), "source sha256 'ab12'"),
    "source_kind_lines": (attribute("source_kind", np.bytes_(b"a\nb")), r"source kind 'a\\nb'"),
    "counts_missing": (attribute("num_batches_tracked", np.arange(48)),
                       "'num_batches_tracked' has 48 entries.* needs 49"),
    "checksums_missing": (attribute("checksums", np.zeros((3, 32), np.uint8)), "'checksums' has 3 entries.* needs 247"),
    "labels_9": (labels(TEN[:-2]), "9 labels for 10 classes"),
    "labels_11": (labels(TEN + b"\n"), "11 labels for 10 classes"),
    "label_empty": (labels(TEN.replace(b"c", b"")), "label 2 is ''"),
    "label_blank": (labels(TEN.replace(b"c", b"   ")), "label 2 is '   '"),
    "label_carriage_return": (labels(TEN.replace(b"j", b"j\r")), r"label 9 is 'j\\r'"),
    "label_line_separator": (labels(TEN.replace(b"a", "a\u2028b".encode())), r"label 0 is 'a\\u2028b'"),
    "photos_9": (photos(b"123456789"), "source photos of 9 bytes: it must be 8 for each"),
    "label_escape": (labels(TEN.replace(b"a", b"\x1b[31m")), r"label 0 is '\\x1b\[31m'"),
}


@pytest.mark.parametrize("name", VALUES)
def test_hostile_value_unsigned(victim, name):
    refused(edited(victim, VALUES[name][0]), DIGEST)


@pytest.mark.parametrize("name", VALUES)
def test_hostile_value_signed(victim, name):
    refused(edited(victim, VALUES[name][0], signed=True), VALUES[name][1])


HARMLESS = {  # values that no rule forbids: the digest alone guards them
    "crop_pct": attribute("crop_pct", 0.876),
    "source_name": attribute("source_name", np.bytes_(b"another.pth")),
    "counts": attribute("num_batches_tracked", np.arange(49)),
    "labels": labels(TEN),
    "labels_gone": without("labels"),
    "photos": photos(b"12345678"),
    "sha256": attribute("sha256", np.bytes_(b"0" * 64)),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_hostile_edit_unsigned(victim, name):
    refused(edited(victim, HARMLESS[name]), DIGEST)


# --- structure: refused whether it is signed or not ------------------------------------------------------------------


def renamed(old, new):
    return lambda file: file.move(old, new)


def instead(name, make):
    """Put what `make(file, data)` makes in the place of a dataset."""
    def edit(file):
        data = file[name][()]
        del file[name]
        make(file, data)
    return edit


def linked(name, link):
    return instead(name, lambda file, data: file.__setitem__(name, link))


def alias(file, data):
    file["blocks.0.0.bn1.bias"] = file["bn1.bias"]


def stored(name="classifier.bias", **how):
    return instead(name, lambda file, data: file.create_dataset(name, data=data, **how))


def unallocated(name, shape, dtype):
    return instead(name, lambda file, data: file.create_dataset(name, shape, dtype))


def external(file, data):
    file.create_dataset("classifier.bias", data.shape, data.dtype, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def compact(file, data):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    file.create_dataset("classifier.bias", data=data, dcpl=plist)


def virtual(file, data):
    layout = h5py.VirtualLayout(data.shape, data.dtype)
    layout[:] = h5py.VirtualSource("/etc/passwd", "bn1.bias", data.shape)
    file.create_virtual_dataset("classifier.bias", layout)


def virtual_unlimited(file, data):
    """Its extent is that of its source files, which HDF5 opens to find it out."""
    layout = h5py.VirtualLayout((10,), data.dtype, maxshape=(None,))
    source = h5py.VirtualSource("other.h5", "x", (10,), maxshape=(None,))
    layout[0 : h5py.h5s.UNLIMITED] = source[0 : h5py.h5s.UNLIMITED]
    file.create_virtual_dataset("classifier.bias", layout)


def four_tebibytes(file):
    """What a file of 1,400 bytes can declare: classes and a classifier that nothing stands behind."""
    classes = 2**42 // 1280 // 4
    set_attribute(file, "num_classes", classes)
    del file["labels"]
    for name, shape in (("classifier.weight", (classes, 1280)), ("classifier.bias", (classes,))):
        unallocated(name, shape, "<f4")(file)
    sign(file)


def vlen_checksums(file):
    del file.attrs["checksums"]
    h5py.h5a.create(file.id, b"checksums", h5py.h5t.vlen_create(h5py.h5t.STD_U8LE), h5py.h5s.create_simple((247, 32)))


def many(count, make):
    def edit(file):
        for i in range(count):
            make(file, f"extra{i:05}")
    return edit


def long_label(file):
    labels(TEN + b"j" * (1 << 22))(file)


STRUCTURE = {
    "no_format": (lambda f: f.attrs.__delitem__("format"), "no attribute 'format'"),
    "format_other": (attribute("format", np.bytes_(b"keras weights")), "format 'keras weights'"),
    "format_vlen": (attribute("format", "npefficient weights"), "'format' is object"),
    "version_0": (attribute("format_version", 0), "format_version 0: this release reads 1"),
    "version_2": (attribute("format_version", 2), "format_version 2: this release reads 1"),
    "version_2_with_more": (lambda f: (attribute("format_version", 2)(f), attribute("new", 1)(f)), "format_version 2"),
    "version_text": (attribute("format_version", np.bytes_(b"1")), r"'format_version' is \|S1"),
    "attribute_missing": (lambda f: f.attrs.__delitem__("padding"), "missing: 'padding'; unexpected: none"),
    "attribute_extra": (attribute("activation", np.bytes_(b"swish")), "attributes missing: none; unexpected: 1$"),
    "attribute_extra_name_long": (attribute("x" * 60_000, 1), "unexpected: 1$"),
    "attributes_5000": (many(5000, lambda f, name: f.attrs.__setitem__(name, 1)),
                        "attributes missing: none; unexpected: 5000$"),
    "attribute_vlen": (attribute("variant", "tf_efficientnet_lite0"), "'variant' is object"),
    "attribute_vlen_bytes": (vlen_checksums, "'checksums' is object"),
    "attribute_huge": (attribute("source_name", np.bytes_(b"x" * 70_000)), "'source_name' is .* of 70000 bytes"),
    "attribute_huge_array": (attribute("num_batches_tracked", np.zeros(9000, np.int64)), "of 72000 bytes"),
    "attribute_int32": (attribute("num_classes", np.int32(10)), "'num_classes' is int32"),
    "attribute_uint64": (attribute("num_classes", np.uint64(10)), "'num_classes' is uint64"),
    "attribute_big_endian": (attribute("num_classes", 10, dtype=">i8"), "'num_classes' is >i8"),
    "attribute_bool": (attribute("num_classes", True), "'num_classes' is bool"),
    "attribute_float32": (attribute("crop_pct", np.float32(0.875)), "'crop_pct' is float32"),
    "attribute_array": (attribute("num_classes", [10]), r"'num_classes' is int64 \(1,\)"),
    "attribute_matrix": (attribute("mean", [[0.5, 0.5, 0.5]]), r"'mean' is float64 \(1, 3\)"),
    "attribute_short": (attribute("std", [0.5, 0.5]), r"'std' is float64 \(2,\)"),
    "attribute_null": (attribute("num_classes", h5py.Empty("i8")), "'num_classes' is int64 None"),
    "attribute_compound": (attribute("num_classes", np.zeros((), "i8,i8")), "'num_classes' is"),
    "attribute_reference": (lambda f: set_attribute(f, "num_classes", f["bn1.bias"].ref, dtype=h5py.ref_dtype),
                            "'num_classes' is object"),
    "attribute_not_utf8": (attribute("source_name", np.bytes_(b"\xff\xfe")), "0xff"),
    "dataset_missing": (without("blocks.1.0.bn1.bias"), "datasets missing: 'blocks.1.0.bn1.bias'; unexpected: none"),
    "dataset_renamed": (renamed("bn1.bias", "bn1.offset"), "missing: 'bn1.bias'; unexpected: 1$"),
    "dataset_extra": (lambda f: f.create_dataset("bn9.bias", data=1.0), "datasets missing: none; unexpected: 1$"),
    "dataset_extra_counts": (lambda f: f.create_dataset("bn1.num_batches_tracked", data=1),
                             "unexpected: 1$"),
    "dataset_extra_odd_name": (lambda f: f.create_dataset(b"\xff\x1b[2J", data=1), "unexpected: 1$"),
    "datasets_30_extra": (many(30, lambda f, name: f.create_dataset(name, data=1.0)), "unexpected: 30$"),
    "links_5000": (many(5000, lambda f, name: f.__setitem__(name, h5py.SoftLink("/"))),
                   "datasets missing: none; unexpected: 5000$"),
    "group": (instead("bn1.bias", lambda f, data: f.create_group("bn1.bias")), "'bn1.bias' is a group"),
    "group_of_labels": (instead("labels", lambda f, data: f.create_group("labels")), "'labels' is a group"),
    "committed_type": (linked("bn1.bias", np.dtype("f4")),
                       "'bn1.bias' is a type"),
    "nested": (lambda f: f.create_dataset("blocks/0/weight", data=1.0), "unexpected: 1$"),
    "soft_link": (linked("bn1.bias", h5py.SoftLink("/bn2.bias")),
                  "'bn1.bias' is a soft link"),
    "soft_link_to_itself": (linked("labels", h5py.SoftLink("/labels")),
                            "'labels' is a soft link"),
    "external_link": (linked("bn1.bias", h5py.ExternalLink("/etc/passwd", "/x")),
                      "'bn1.bias' is an external link"),
    "external_link_extra": (lambda f: f.__setitem__("x", h5py.ExternalLink("other.h5", "/x")),
                            "datasets missing: none; unexpected: 1$"),
    "hard_link_twice": (instead("blocks.0.0.bn1.bias", alias),
                        "every dataset must have its own place"),
    "external_storage": (instead("classifier.bias", external), "'classifier.bias' is external"),
    "virtual": (instead("classifier.bias", virtual), "'classifier.bias' is virtual"),
    "virtual_unlimited": (instead("classifier.bias", virtual_unlimited), "'classifier.bias' is virtual"),
    "chunked": (stored(chunks=(5,)), "'classifier.bias' is chunked"),
    "resizable": (stored(maxshape=(None,)), "'classifier.bias' is chunked"),
    "gzip": (stored(compression="gzip"), "'classifier.bias' is chunked"),
    "shuffle": (stored(shuffle=True), "'classifier.bias' is chunked"),
    "fletcher32": (stored(fletcher32=True), "'classifier.bias' is chunked"),
    "deflate_bomb": (instead("classifier.weight", lambda f, data: f.create_dataset(
        "classifier.weight", (10**6, 1280), "f2", chunks=(10**4, 1280), compression="gzip")),
        "'classifier.weight' is chunked"),
    "labels_chunked": (stored("labels", chunks=True), "'labels' is chunked"),
    "compact": (instead("classifier.bias", compact), "'classifier.bias' is compact"),
    "never_allocated": (unallocated("classifier.bias", (10,), "f4"), "'classifier.bias' is stored nowhere"),
    "never_allocated_4_TiB": (four_tebibytes, "num_classes 858993459: .* at most 262,144"),
    "never_allocated_labels": (unallocated("labels", (10**12,), "u1"), "'labels' is stored nowhere"),
    "labels_empty": (instead("labels", lambda f, data: f.create_dataset("labels", data=np.zeros(0, np.uint8))),
                     "'labels' is stored nowhere"),
    "labels_null": (instead("labels", lambda f, data: f.create_dataset("labels", data=h5py.Empty("u1"))),
                    "'labels' is stored nowhere"),
    "labels_5_MB": (long_label, r"'labels' is uint8 \(4194323,\): .* at most 4194304"),
    "labels_strings": (instead("labels", lambda f, data: f.create_dataset("labels", data=np.array([b"a"] * 10))),
                       r"'labels' is \|S1"),
    "labels_vlen": (instead("labels", lambda f, data: f.create_dataset("labels", data=["a"] * 10)),
                    "'labels' is object"),
    "labels_not_utf8": (labels(TEN[:-1] + b"\xff"), "0xff"),
    "shape_rows": (instead("classifier.bias", lambda f, data: f.create_dataset("classifier.bias", data=data[:9])),
                   r"'classifier.bias' is float16 \(9,\)"),
    "shape_transposed": (instead("classifier.weight", lambda f, data: f.create_dataset(
        "classifier.weight", data=data.T)), r"'classifier.weight' is float16 \(1280, 10\)"),
    "shape_rank": (instead("classifier.bias", lambda f, data: f.create_dataset(
        "classifier.bias", data=data[None])), r"'classifier.bias' is float16 \(1, 10\)"),
    "float64": (stored(dtype="f8"), "'classifier.bias' is float64"),
    "int16": (stored(dtype="i2"), "'classifier.bias' is int16"),
    "big_endian": (stored(dtype=">f4"), "'classifier.bias' is >f4"),
    "complex": (instead("classifier.bias", lambda f, data: f.create_dataset("classifier.bias", data=data.astype("c8"))),
                "'classifier.bias' is complex64"),
    "attribute_on_dataset": (lambda f: f["bn1.bias"].attrs.__setitem__("scale", 2.0),
                             "'bn1.bias' has attributes of its own"),
}


@pytest.mark.parametrize("name", STRUCTURE)
def test_hostile_structure(victim, name):
    refused(edited(victim, STRUCTURE[name][0]), STRUCTURE[name][1])


SIGNABLE = ["dataset_missing", "dataset_extra", "group", "soft_link", "external_storage", "virtual", "gzip",
            "never_allocated", "never_allocated_4_TiB", "shape_rows", "float64", "hard_link_twice"]


@pytest.mark.parametrize("name", SIGNABLE)
def test_hostile_structure_signed(victim, name):
    refused(edited(victim, STRUCTURE[name][0], signed=True), STRUCTURE[name][1])


# --- values of the weights: the file is signed and its checksums are right -------------------------------------------


def entry(name, value, row=True):
    def edit(file):
        file[name][...] = np.where(np.arange(file[name].size).reshape(file[name].shape) == 3, value, file[name][()])
        if row:
            checksum_row(file, name)
    return edit


WEIGHTS = {
    "nan": (entry("conv_head.weight", np.nan), "'conv_head.weight' holds nan"),
    "inf": (entry("classifier.bias", np.inf), "'classifier.bias' holds inf"),
    "minus_inf": (entry("bn2.running_mean", -np.inf), "'bn2.running_mean' holds -inf"),
    "negative_variance": (entry("blocks.2.1.bn3.running_var", -0.5), "'blocks.2.1.bn3.running_var' holds -0.5"),
    "checksum": (entry("bn2.bias", 0.25, row=False), "'bn2.bias' does not match its checksum"),
    "checksum_of_another": (lambda f: set_attribute(f, "checksums", f.attrs["checksums"][::-1].copy()),
                            "'conv_stem.weight' does not match its checksum"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_hostile_weight(victim, name):
    refused(edited(victim, WEIGHTS[name][0], signed=True), WEIGHTS[name][1], allocated=None)


def test_hostile_directory_of_names_is_complete():
    """Every attribute of the format is attacked, and so is every kind of place a dataset can have."""
    attacked = " ".join(message for _, message in [*VALUES.values(), *STRUCTURE.values()])
    for name in set(_ATTRIBUTES) - {"sha256"}:
        assert re.search(rf"\b{name.removeprefix('source_')}\b", attacked), name
    assert len(VALUES) + len(STRUCTURE) + len(WEIGHTS) >= 100
