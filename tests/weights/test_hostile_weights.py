"""Weight files that lie: each gives one WeightsError that names the file and the offending value, before a large read.

Every file starts from a valid one (lite0, 10 classes, float16, 7 MB) and is changed with h5py. Where the change is
covered by the root `sha256`, it is tried twice: as it is, for the digest to catch, and signed afresh, for the rule
itself to catch.
"""
import re

import h5py
import numpy as np
import pytest
from hostile_edits import STRUCTURE, TEN, attribute, classes_without_labels, labels, photos, without
from weight_files import checksum_row, difference, digest, edited, refused, set_attribute, small_weights

from npefficient.weights.network_file import ATTRIBUTES
from npefficient.weights.weight_file import read_weights

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


def test_digest_equals_that_of_the_specification(stored):
    with h5py.File(stored) as file:
        assert file.attrs["sha256"].decode() == digest(file)


# --- what the digest guards -------------------------------------------------------------------------------------------

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
    "classifier_photos_9": (photos(b"123456789", "classifier_photos"), "source classifier_photos of 9 bytes"),
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
    "classifier_photos": photos(b"12345678", "classifier_photos"),
    "sha256": attribute("sha256", np.bytes_(b"0" * 64)),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_hostile_edit_unsigned(victim, name):
    refused(edited(victim, HARMLESS[name]), DIGEST)


# --- structure: refused whether it is signed or not -------------------------------------------------------------------


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


def test_every_attribute_of_the_format_is_attacked():
    """Every attribute of the format is attacked, and there are at least a hundred cases."""
    attacked = " ".join(message for _, message in [*VALUES.values(), *STRUCTURE.values()])
    for name in set(ATTRIBUTES) - {"sha256"}:
        assert re.search(rf"\b{name.removeprefix('source_')}\b", attacked), name
    assert len(VALUES) + len(STRUCTURE) + len(WEIGHTS) >= 100
