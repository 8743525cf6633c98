"""Files of int8 weights that lie: each gives one WeightsError that names the file and the offending value.

As in `test_hostile_weights.py`, whose edits of attributes and labels are tried here as well. Where an array is changed,
its checksum and the file's are put right, so that only the rule itself is left to catch it.
"""
import shutil

import h5py
import numpy as np
import pytest
from hostile_edits import STRUCTURE, TEN, attribute, instead, labels, linked, renamed, stored, unallocated, without
from quantized_files import array_names, checksum_row, small_quantized
from weight_files import LAYOUT, difference, edited, patch_message, refused, set_attribute, sign

from npefficient.engine.engine import Engine
from npefficient.errors import WeightsError
from npefficient.network.quantized_reference import QuantizedNetwork
from npefficient.weights.quantized_file import read_stored, write_quantized

DIGEST = "its attributes or labels do not match their checksum"


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """A file of `small_quantized`; never changed."""
    path = tmp_path_factory.mktemp("quantized") / "small-int8.h5"
    write_quantized(path, small_quantized())
    return path


@pytest.fixture
def victim(quantized, tmp_path):
    path = shutil.copy(quantized, tmp_path / "victim.h5")
    yield path
    path.unlink(missing_ok=True)


def refuse(path, message, allocated=2**21):
    refused(path, message, allocated, read=read_stored)


def test_hostile_helper_leaves_a_valid_file_valid(victim):
    def edit(file):
        set_attribute(file, "checksums", np.zeros((148, 32), np.uint8))
        for name in array_names(small_quantized().architecture):
            checksum_row(file, name)

    edited(victim, edit, signed=True)
    assert difference(read_stored(victim), small_quantized()) == ""


# --- attributes and labels -------------------------------------------------------------------------------------------

VALUES = {
    "variant_unknown": (attribute("variant", np.bytes_(b"lite9")), "unknown model 'lite9'"),
    "variant_other": (attribute("variant", np.bytes_(b"tf_efficientnet_lite1")), "'checksums' has 148 .*lite1 needs"),
    "num_classes_0": (attribute("num_classes", 0), "'checksums' has 148 entries.*lite0 needs 145"),
    "num_classes_11": (lambda f: (attribute("num_classes", 11)(f), without("labels")(f)),
                       r"'classifier.weight' is int8 \(10, 1280, 1, 1\): it must be int8 \(11, 1280, 1, 1\)"),
    "num_classes_2_to_63": (attribute("num_classes", 2**63 - 1), "num_classes 9223372036854775807: .* at most 262,144"),
    "in_chans_4": (attribute("in_chans", 4), r"'conv_stem.weight' is float32 \(32, 3, 3, 3\).*\(32, 4, 3, 3\)"),
    "in_chans_2_to_62": (attribute("in_chans", 2**62), "in_chans 4611686018427387904: .* at most 4,096"),
    "pool_twice_as_wide": (attribute("global_pool", np.bytes_(b"catavgmax")), r"'classifier.weight' is .*\(10, 2560"),
    "padding": (attribute("padding", np.bytes_(b"symmetric")), "'padding' is 'symmetric'"),
    "std_0": (attribute("std", [0.5, 0.0, 0.5]), r"std=\(0\.5, 0\.0, 0\.5\)"),
    "source_sha256_short": (attribute("source_sha256", np.bytes_(b"ab12")), "source sha256 'ab12'"),
    "checksums_missing": (attribute("checksums", np.zeros((3, 32), np.uint8)), "'checksums' has 3 entries.* needs 148"),
    "labels_9": (labels(TEN[:-2]), "9 labels for 10 classes"),
}


@pytest.mark.parametrize("name", VALUES)
def test_hostile_value(victim, quantized, name):
    refuse(edited(victim, VALUES[name][0]), DIGEST)
    shutil.copy(quantized, victim)
    refuse(edited(victim, VALUES[name][0], signed=True), VALUES[name][1])


SHARED = [name for name in STRUCTURE if name.startswith((
    "no_format", "format_", "attribute_", "labels_", "datasets_", "links_", "external_link_extra", "nested"))]
# Edits of arrays and attributes that only a float file has.
OF_FLOATS = ("attribute_on_dataset", "attribute_huge_array", "attribute_reference")


@pytest.mark.parametrize("name", [name for name in SHARED if name not in OF_FLOATS])
def test_hostile_structure_as_of_floats(victim, name):
    refuse(edited(victim, STRUCTURE[name][0]), STRUCTURE[name][1])


FORMATS = {
    "version_0": (attribute("format_version", 0), "format_version 0: this release reads 1"),
    "version_2": (attribute("format_version", 2), "format_version 2: this release reads 1; update npefficient"),
    "of_floats": (attribute("format", np.bytes_(b"npefficient weights")), "missing: 'bn_eps', 'num_batches_tracked'"),
    "bn_eps": (attribute("bn_eps", 0.001), "attributes missing: none; unexpected: 1$"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_hostile_format(victim, name):
    refuse(edited(victim, FORMATS[name][0], signed=True), FORMATS[name][1])


def test_hostile_float_file_that_says_int8(stored, tmp_path):
    path = shutil.copy(stored, tmp_path / "victim.h5")
    refuse(edited(path, attribute("format", np.bytes_(b"npefficient int8 weights")), signed=True),
           "attributes missing: none; unexpected: 2$")


# --- the arrays ------------------------------------------------------------------------------------------------------

NAME = "blocks.2.0.conv_dw"


def made(name, change):
    """Replace a dataset by what `change` returns for its array, with the right checksum."""
    def edit(file):
        instead(name, lambda file, data: file.create_dataset(name, data=change(data)))(file)
        checksum_row(file, name)
    return edit


def four_tebibytes(file):
    """Four tebibytes of classifier, declared but never stored."""
    set_attribute(file, "num_classes", 262_144)
    del file["labels"]
    unallocated("classifier.weight", (262_144, 2**24, 1, 1), "i1")(file)


DATASETS = {
    "missing_weight": (without(f"{NAME}.weight"), f"datasets missing: '{NAME}.weight'; unexpected: none"),
    "missing_scale": (without("classifier.scale"), "datasets missing: 'classifier.scale'; unexpected: none"),
    "renamed": (renamed("conv_head.scale", "conv_head.step"), "missing: 'conv_head.scale'; unexpected: 1$"),
    "extra": (lambda f: f.create_dataset("conv_stem.scale", data=np.ones(32, "f4")), "missing: none; unexpected: 1$"),
    "float32_weight": (made(f"{NAME}.weight", lambda a: a.astype("f4")), f"'{NAME}.weight' is float32 .*must be int8"),
    "float16_weight": (made("classifier.weight", lambda a: a.astype("f2")), "'classifier.weight' is float16 .* int8"),
    "uint8_weight": (made(f"{NAME}.weight", lambda a: a.view("u1")), f"'{NAME}.weight' is uint8 .*must be int8"),
    "bool_weight": (made(f"{NAME}.weight", lambda a: a > 0), f"'{NAME}.weight' is bool .*must be int8"),
    "int8_stem": (made("conv_stem.weight", lambda a: a.astype("i1")), "'conv_stem.weight' is int8 .*must be float32"),
    "float64_scale": (made(f"{NAME}.scale", lambda a: a.astype("f8")), f"'{NAME}.scale' is float64 .*must be float32"),
    "big_endian_bias": (made(f"{NAME}.bias", lambda a: a.astype(">f4")), f"'{NAME}.bias' is >f4"),
    "one_scale": (made(f"{NAME}.scale", lambda a: a[:1]), rf"'{NAME}.scale' is float32 \(1,\).*\(144,\)"),
    "scalar_scale": (made(f"{NAME}.scale", lambda a: a[0]), rf"'{NAME}.scale' is float32 \(\).*\(144,\)"),
    "transposed": (made("classifier.weight", lambda a: a.T), r"'classifier.weight' is int8 \(1, 1, 1280, 10\)"),
    "flat": (made("classifier.weight", lambda a: a[:, :, 0, 0]), r"'classifier.weight' is int8 \(10, 1280\)"),
    "rows": (made("classifier.bias", lambda a: a[:9]), r"'classifier.bias' is float32 \(9,\)"),
    "gzip": (stored("classifier.scale", compression="gzip"), "'classifier.scale' is chunked"),
    "soft_link": (linked("classifier.scale", h5py.SoftLink("/classifier.bias")), "'classifier.scale' is a soft link"),
    "hard_link": (instead("classifier.scale", lambda f, data: f.__setitem__("classifier.scale", f["classifier.bias"])),
                  "datasets must not overlap"),
    "never_allocated": (unallocated("classifier.bias", (10,), "f4"), "'classifier.bias' is stored nowhere"),
    "never_allocated_4_TiB": (four_tebibytes, "'classifier.weight' is stored nowhere"),
    "attributes": (lambda f: f["classifier.scale"].attrs.__setitem__("zero_point", 3), "'classifier.scale' has attr"),
}


@pytest.mark.parametrize("name", DATASETS)
def test_hostile_dataset(victim, name):
    refuse(edited(victim, DATASETS[name][0], signed=True), DATASETS[name][1])


def test_hostile_declared_size(victim):
    """The header of a dataset says that four tebibytes are stored."""
    patch_message(victim, "classifier.weight", LAYOUT, 10, (2**42).to_bytes(8, "little"))
    refuse(victim, "'classifier.weight'|damaged")


# --- numbers ---------------------------------------------------------------------------------------------------------


def number(name, value):
    def change(array):
        array.flat[3] = value
        return array
    return made(name, change)


NUMBERS = {
    "weight_-128": (number("conv_head.weight", -128), "'conv_head': a weight is -128; .* -127 to 127"),
    "scale_0": (number(f"{NAME}.scale", 0.0), f"'{NAME}': a scale is 0.0; it must be positive"),
    "scale_-0": (number(f"{NAME}.scale", -0.0), f"'{NAME}': a scale is -0.0; it must be positive"),
    "scale_negative": (number("classifier.scale", -1e-3), "'classifier': a scale is -0.001"),
    "scale_nan": (number("conv_head.scale", np.nan), "'conv_head': its scale holds nan"),
    "scale_inf": (number("conv_head.scale", np.inf), "'conv_head': its scale holds inf"),
    "scale_subnormal": (number("classifier.scale", 1e-39), r"'classifier': its scale holds 1\.0.*e-39; .* to zero"),
    "scale_1e38": (number(f"{NAME}.scale", 1e38), f"'{NAME}': its quantised weights can give values up to"),
    "classifier_scale_1e38": (number("classifier.scale", 1e38), "'classifier': its quantised weights can give"),
    "bias_nan": (number("classifier.bias", np.nan), "'classifier': its bias holds nan"),
    "bias_minus_inf": (number("blocks.2.1.conv_pwl.bias", -np.inf), "'blocks.2.1.conv_pwl': its bias holds -inf"),
    "bias_1e38": (number("blocks.2.1.conv_pwl.bias", 1e38), "'blocks.3.0.conv_pw': its quantised weights can give"),
    "bias_beyond_int32": (number(f"{NAME}.bias", 2e9), f"'{NAME}': .* half of what an int32 in steps of 6/255 can"),
    "bias_3e38": (number("classifier.bias", 3e38), "'classifier': its quantised weights can give"),
    "bias_subnormal": (number("classifier.bias", -1e-45), "'classifier': its bias holds -1.*e-45; .* to zero"),
    "float_weight_subnormal": (number("conv_stem.weight", 1e-40), "'conv_stem': its weight holds .*e-4.; .* to zero"),
    "float_weight_nan": (number("conv_stem.weight", np.nan), "'conv_stem': its weight holds nan"),
    "float_weight_1e38": (number("conv_stem.weight", 1e38), "'conv_stem': its quantised weights can give"),
    "float_bias_inf": (number("blocks.0.0.conv_dw.bias", np.inf), "'blocks.0.0.conv_dw': its bias holds inf"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_hostile_number(victim, name):
    refuse(edited(victim, NUMBERS[name][0], signed=True), NUMBERS[name][1], allocated=None)


@pytest.mark.parametrize("name, value", [("conv_head.bias", 1e7), (f"{NAME}.bias", -1e8), ("classifier.bias", 1e38),
                                         ("blocks.0.0.conv_dw.bias", 1e8)])
def test_a_large_number_gives_the_defined_bits(victim, name, value):
    """A bias that leads neither beyond float32 nor, before a ReLU6, beyond 2**30 is computed as it is defined."""
    edited(victim, number(name, value), signed=True)
    weights, x = read_stored(victim), np.random.default_rng(0).uniform(-1, 1, (1, 33, 40, 3)).astype(np.float32)
    expected = QuantizedNetwork(weights)(x)
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(Engine(weights, 1)(x).view(np.int32), expected.view(np.int32))


def test_hostile_checksums(victim, quantized):
    def edit(file):
        file["conv_head.weight"][7] ^= 1
        sign(file)

    refuse(edited(victim, edit), "'conv_head.weight' does not match its checksum", allocated=None)
    shutil.copy(quantized, victim)
    turned = attribute("checksums", h5py.File(quantized).attrs["checksums"][::-1].copy())
    refuse(edited(victim, turned, signed=True), "'conv_stem.weight' does not match its checksum", allocated=None)


def test_hostile_refusal_can_fail(victim):
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        refuse(victim, "anything")
    with pytest.raises(WeightsError, match="unexpected: 1"):
        read_stored(edited(victim, DATASETS["extra"][0], signed=True))
