"""Two networks side by side: tensors, settings and activations."""
from dataclasses import replace

import numpy as np
import pytest
from changed_weights import CHANGED, changed, five_classes, one_ulp

from npefficient.errors import ArgumentError
from npefficient.jobs.comparison import compare, layer_names, pair
from npefficient.network.architecture import build
from npefficient.network.parameters import random_weights
from npefficient.weights.adapt import adapt


@pytest.fixture(scope="module")
def weights():
    return five_classes()


def test_pair_by_hand():
    got = pair("w", np.array([[1.0, -2.0], [4.0, 0.5]], np.float32), np.array([[1.0, -2.5], [8.0, 0.0]], np.float32))
    assert (got.largest, got.relative, got.index, got.values) == (4.0, 0.5, (1, 0), (4.0, 8.0))
    assert got.differs() and got.differs(0.49) and not got.differs(0.5)


@pytest.mark.parametrize("a, b", [
    (np.float32([0.0]), np.float32([-0.0])),
    (np.float32([0.5, 0]), np.float16([0.5, 0])),
    (np.float32(3), np.float32(3)),
    (np.float32([np.inf, 1]), np.float32([np.inf, 1])),
], ids=["signed_zero", "float16", "no_axes", "equal_infinities"])
def test_pair_of_equal_values_is_no_difference(a, b):
    got = pair("w", a, b)
    assert (got.largest, got.relative, got.differs()) == (0.0, 0.0, False)


@pytest.mark.parametrize("a, b", [
    (np.float32([1, 2]), None),
    (None, np.float32([1, 2])),
    (np.float32([1, 2]), np.float32([[1, 2]])),
    (np.float32([1, np.nan]), np.float32([1, np.nan])),
    (np.float32([1, np.inf]), np.float32([1, -np.inf])),
    (np.float32([1, np.inf]), np.float32([1, 3e38])),
], ids=["only_a", "only_b", "shape", "nan", "opposite_infinities", "one_infinity"])
def test_pair_that_can_not_be_measured_differs_at_any_tolerance(a, b):
    got = pair("w", a, b)
    assert got.largest is None and got.relative is None and got.differs(1e30)


def test_same_weights_are_the_same(weights):
    origin = replace(weights, source=replace(weights.source, name="elsewhere"))
    counts = changed(origin, "bn1.num_batches_tracked", lambda array: array + 7)
    found = compare(weights, counts)
    assert found.same and found.differing == () and len(found.tensors) == len(weights.parameters) - 49
    shown = {fact.name: (fact.a, fact.b) for fact in found.facts if fact.a != fact.b}
    assert shown == {"source": ("seed 0 (random)", "elsewhere (random)"), "batches seen": ("0", "0 to 7")}


def test_one_ulp_is_seen(weights):
    found = compare(weights, changed(weights, CHANGED, one_ulp))
    (got,) = found.differing
    ulp = float(np.spacing(weights.parameters[CHANGED][3, 0, 1, 1]))
    assert not found.same and (got.name, got.index, got.largest) == (CHANGED, (3, 0, 1, 1), abs(ulp))
    assert compare(weights, changed(weights, CHANGED, one_ulp), tolerance=1e-6).same


def test_smallest_number_is_seen(weights):
    """The float32 next to zero is 1.4e-45."""
    zero = changed(weights, "classifier.bias", np.zeros_like)
    smallest = np.nextafter(np.float32(0), np.float32(1))
    tiny = changed(weights, "classifier.bias", lambda array: np.full_like(array, smallest))
    assert [got.relative for got in compare(zero, tiny).differing] == [1.0]


def test_half_precision_differs_only_by_rounding(weights):
    halves = {k: v if v.dtype == np.int64 else v.astype(np.float16) for k, v in weights.parameters.items()}
    found = compare(weights, replace(weights, parameters=halves))
    assert len(found.differing) > 200 and max(got.relative for got in found.tensors) < 2**-11
    assert [(f.a, f.b) for f in found.facts if f.name == "precision"] == [("float32", "float16")]
    assert compare(weights, replace(weights, parameters=halves), tolerance=1e-3).same


def test_other_class_count_is_another_shape(weights):
    found = compare(weights, random_weights(build("lite0", 7)))
    names = {got.name: got.shapes for got in found.differing}
    assert names["classifier.weight"] == ((5, 1280), (7, 1280)) and names["classifier.bias"] == ((5,), (7,))
    assert {f.name for f in found.facts if f.differs} == {"classes", "input_size", "labels"}


def test_other_variant_has_blocks_of_its_own(weights):
    other = random_weights(build("lite1", 5))
    found = compare(weights, other)
    only = [got.name for got in found.tensors if got.shapes[0] is None]
    assert only == [name for name in other.parameters if name not in weights.parameters and "tracked" not in name]
    assert only and all(got.differs(1e30) for got in found.tensors if got.name in only)
    mirrored = compare(other, weights)
    assert {got.name for got in mirrored.tensors} == {got.name for got in found.tensors}
    assert {got.name for got in mirrored.tensors if got.shapes[1] is None} == set(only)


@pytest.mark.parametrize("field, value", [("crop_pct", 0.9), ("interpolation", "bilinear"), ("mean", (0.5, 0.4, 0.5))])
def test_preprocessing_counts(weights, field, value):
    found = compare(weights, replace(weights, preprocessing=replace(weights.preprocessing, **{field: value})))
    assert not found.same and [f.name for f in found.facts if f.differs] == [field]


@pytest.mark.parametrize("labels, shown", [
    (None, ("5 names", "none")), (tuple("abXde"), ("5 names, 2 is 'c'", "5 names, 2 is 'X'")),
], ids=["none", "one_renamed"])
def test_labels_count(weights, labels, shown):
    found = compare(weights, replace(weights, labels=labels))
    assert not found.same and [(f.a, f.b) for f in found.facts if f.differs] == [shown]


@pytest.mark.parametrize("tolerance", [-1e-9, float("nan"), float("inf")])
def test_tolerance_must_be_a_share(weights, tolerance):
    with pytest.raises(ArgumentError, match=f"tolerance {tolerance}"):
        compare(weights, weights, tolerance=tolerance)


@pytest.mark.parametrize("variant", ["lite0", "lite4"])
def test_layer_names_are_the_networks(variant):
    network = build(variant)
    names, every = layer_names(network), layer_names(network, every=True)
    assert names == ["bn1", *(block.name for block in network.blocks), "bn2", "global_pool", "classifier"]
    assert len(set(every)) == len(every) == 2 * len(network.convs) + len(network.blocks) + 2
    assert [name for name in every if name in set(names)] == names


# --- activations -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 36, 3), np.uint8)


def test_activations_of_the_same_weights_have_the_same_bits(weights, image):
    found = compare(weights, weights, image, every_layer=True)
    assert found.same and found.parting is None and {got.largest for got in found.layers} == {0.0}
    assert [got.name for got in found.layers] == ["input", *layer_names(weights.architecture, every=True)]
    assert found.top[0] == found.top[1] and len(found.top[0]) == 5


@pytest.mark.parametrize("every, expected", [(False, "blocks.2.0"), (True, "blocks.2.0.conv_dw")],
                         ids=["blocks", "layers"])
def test_parting_is_the_layer_that_was_changed(weights, image, every, expected):
    found = compare(weights, changed(weights, CHANGED, lambda array: 1.1 * array), image, every_layer=every)
    names = [got.name for got in found.layers]
    assert found.parting.name == expected
    assert [got.differs() for got in found.layers] == [i >= names.index(expected) for i in range(len(names))]


def test_tolerance_decides_where_they_part(weights, image):
    """A small change early, a large one late: a tolerance between the two names the late one."""
    other = changed(weights, "conv_stem.weight", lambda array: array * np.float32(1 + 1e-6))
    other = changed(other, "classifier.weight", lambda array: -array)
    assert compare(weights, other, image).parting.name == "bn1"
    found = compare(weights, other, image, tolerance=1e-2)
    assert (found.parting.name, [got.name for got in found.differing]) == ("classifier", ["classifier.weight"])


def test_each_network_has_its_own_preprocessing(weights, image):
    other = replace(weights, preprocessing=replace(weights.preprocessing, mean=(0.4, 0.5, 0.5)))
    assert compare(weights, other, image).parting.name == "input"


def test_networks_without_a_classifier(weights, image):
    features = adapt(weights, num_classes=0)
    found = compare(weights, features, image)
    assert found.parting.name == "classifier" and found.parting.shapes == ((1, 5), None) and found.top[1] == []
    found = compare(features, features, image)
    assert found.same and found.layers[-1].name == "global_pool"


def test_other_classes_part_at_the_classifier(weights, image):
    other = replace(random_weights(build("lite0", 7)), preprocessing=weights.preprocessing)
    found = compare(weights, other, image)
    assert found.parting.name == "classifier" and found.parting.shapes == ((1, 5), (1, 7))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_a_difference(value):
    """NaN equals nothing, and infinity minus infinity is no difference of 0."""
    a, b = np.float32([1, value]), np.float32([1, -value])
    found = pair("x", a, b)
    assert found.relative is None and found.index == (1,)
