"""Features, heads, pools and single layers against timm, for every variant, at its native size and an odd one."""
import functools

import numpy as np
import pytest
from engines import assert_same_bits
from live import calibrated, needs_timm, timm, torch
from maps import assert_map, products
from surface import (
    CASES,
    LAYERS,
    NATIVE,
    ODD,
    VARIANTS,
    call,
    case_id,
    expected,
    hooked,
    model,
    nchw,
    ours,
    pixels,
    timm_model,
)
from tolerance import LOGITS, assert_close

import npefficient
from npefficient.errors import ArgumentError
from npefficient.network.architecture import GLOBAL_POOLS, build
from npefficient.network.layers import named_layers

pytestmark = needs_timm

everywhere = pytest.mark.parametrize("variant, size, backend", CASES, ids=case_id)
POOLED = [pool for pool in GLOBAL_POOLS if pool]


def close(got, expected):
    """Within the tolerance of the logits, relative to the largest value."""
    largest = np.abs(expected).max()
    assert_close(got / largest, expected / largest, LOGITS)


# --- the checkers ----------------------------------------------------------------------------------------------------


def test_assert_map_can_fail():
    network, rng = build("lite0"), np.random.default_rng(0)
    for name, error in (("bn1", 1e-5), ("bn2", 1e-4), ("classifier", 1e-4)):
        right = rng.uniform(-1, 1, (1, 5, 4, 8)).astype(np.float32) / np.float32(3)
        assert_map(right, right, network, name)
        wrong = right.copy()
        wrong[0, 3, 2, 1] += np.float32(error)
        with pytest.raises(AssertionError, match=f"^{name}: got .* expected .* at .0, 3, 2, 1."):
            assert_map(wrong, right, network, name)
        with pytest.raises(AssertionError, match=f"^{name}: got shape"):
            assert_map(right.transpose(0, 2, 1, 3), right, network, name)
    with pytest.raises(AssertionError, match="bn1: nothing comes out of this layer"):
        assert_map(right, right * 0, network, "bn1")


def test_products_by_hand():
    got = products(build("lite0"))
    stem, depthwise, pointwise = 3 * 9, 9, 32
    assert got["conv_stem"] == got["bn1"] == stem
    assert got["blocks.0.0.conv_dw"] == stem + depthwise
    assert got["blocks.0"] == got["blocks.0.0"] == got["blocks.0.0.bn2.act"] == stem + depthwise + pointwise


def test_hooked_sees_what_an_activation_in_place_would_hide():
    x = pixels(1, (9, 9))
    got = hooked(calibrated("lite0"), x, ["conv_stem", "bn1", "bn1.act"])
    assert got["conv_stem"].min() < 0 <= got["bn1"].min()
    np.testing.assert_array_equal(got["bn1"], got["bn1.act"])
    assert got["bn1"].shape == (1, 5, 5, 32)


# --- features and heads ----------------------------------------------------------------------------------------------


@everywhere
def test_activations(variant, size, backend):
    m = model(variant, backend)
    got, right = m.activations(pixels(1, size), LAYERS), expected(variant, size)
    assert list(got) == list(LAYERS)
    for name in LAYERS:
        assert_map(got[name], right[name], m.architecture, name)


@everywhere
def test_forward_features(variant, size, backend):
    m, x = model(variant, backend), pixels(1, size)
    got = m.forward_features(x)
    assert got.shape == (1, *(-(-extent // 32) for extent in size), 1280) and m.num_features == 1280
    assert_map(got, expected(variant, size)["bn2"], m.architecture, "bn2")


@everywhere
def test_forward_head(variant, size, backend):
    """On the same features for both; then on our own, which have to give the bits of the whole model."""
    right, m, x = expected(variant, size), model(variant, backend), pixels(1, size)
    features, head = right["bn2"], calibrated(variant).forward_head
    close(m.forward_head(features), ours(call(head, nchw(features))))
    close(m.forward_head(features, pre_logits=True), ours(call(head, nchw(features), pre_logits=True)))
    assert_same_bits(m.forward_head(m.forward_features(x)), m(x))
    assert_same_bits(m.activations(x, ["classifier"])["classifier"], m(x))
    close(m(x), right["classifier"])


@everywhere
def test_no_classifier(variant, size, backend):
    """num_classes=0 gives the pooled features, with the same bits as in the model with a classifier."""
    m, x = model(variant, backend, num_classes=0), pixels(1, size)
    pooled = m(x)
    assert m.num_classes == 0 and m.labels == () and pooled.shape == (1, m.head_hidden_size) == (1, 1280)
    close(pooled, expected(variant, size)["global_pool"])
    whole = model(variant, backend)
    assert_same_bits(pooled, whole.forward_head(whole.forward_features(x), pre_logits=True))
    assert_same_bits(pooled, m.forward_head(m.forward_features(x)))
    assert_same_bits(pooled, m.activations(x, ["global_pool"])["global_pool"])


@pytest.mark.parametrize("pool", POOLED)
@everywhere
def test_pool(variant, size, backend, pool):
    """Each pool, applied to timm's last feature map."""
    m, timms = model(variant, backend, num_classes=0, global_pool=pool), timm_pool(pool)
    assert m.head_hidden_size == 1280 * timms.feat_mult()
    features = expected(variant, size)["bn2"]
    right = ours(call(timms, nchw(features)))
    close(m.forward_head(features), right)
    if pool == "max":
        np.testing.assert_array_equal(m.forward_head(features), right)
    x = pixels(1, size)
    assert_same_bits(m(x), m.forward_head(m.forward_features(x)))
    assert_map(m(x), right, m.architecture, "bn2")  # a maximum has the errors of single pixels


@functools.cache
def timm_pool(pool):
    return timm.layers.SelectAdaptivePool2d(pool_type=pool, flatten=True)


@everywhere
def test_no_pool(variant, size, backend):
    m, x = model(variant, backend, num_classes=0, global_pool=""), pixels(1, size)
    assert_map(m(x), expected(variant, size)["bn2"], m.architecture, "bn2")
    assert_same_bits(m(x), m.forward_features(x))
    for pre_logits in (False, True):
        assert_same_bits(m.forward_head(m(x), pre_logits=pre_logits), m(x))
    with pytest.raises(ArgumentError, match="layer 'global_pool'"):
        m.activations(x, ["global_pool"])


@pytest.mark.parametrize("backend", ["engine", "reference"])
@pytest.mark.parametrize("pool", POOLED)
def test_pool_and_classifier_of_a_whole_model(tmp_path, pool, backend):
    """A classifier after every pool, with timm's weights in it."""
    timms = timm_model("lite0", 10, pool)
    torch.save(timms.state_dict(), tmp_path / "tf_efficientnet_lite0.pth")
    m = npefficient.create_model(checkpoint_path=tmp_path / "tf_efficientnet_lite0.pth", global_pool=pool,
                                 backend=backend, num_threads=2)
    x = pixels(3, ODD)
    assert m.architecture.global_pool == pool and m.num_classes == 10
    right = hooked(timms, x, ["bn2", "global_pool", "classifier"])
    assert_map(m(x), right["classifier"], m.architecture, "bn2")
    assert_map(m.activations(x, ["global_pool"])["global_pool"], right["global_pool"], m.architecture, "bn2")
    close(m.forward_head(right["bn2"]), right["classifier"])


# --- every layer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["engine", "reference"])
@pytest.mark.parametrize("size", [ODD, (1, 1), (64, 3)], ids=case_id)
def test_every_layer_of_one_variant(size, backend):
    m = model("lite0", backend)
    names = tuple(named_layers(m.architecture))
    got, right = m.activations(pixels(2, size), names), hooked(calibrated("lite0"), pixels(2, size), names)
    assert list(got) == list(names) and len(names) == 3 * 49 + 16 + 7 + 2  # convolutions, blocks, stages, head
    for name in names:
        assert_map(got[name], right[name], m.architecture, name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_are_timms(variant):
    """Every name is one of timm's modules; those left out return their input, or are the whole sequence of stages."""
    modules = {name for name, _ in calibrated(variant).named_modules()}
    known = set(named_layers(build(variant)))
    assert known <= modules
    left_out = {name.rpartition(".")[2] for name in modules - known}
    assert left_out == {"", "aa", "se", "drop", "drop_path", "blocks", "pool", "flatten"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_native_sizes_are_timms(variant):
    assert NATIVE[variant] == calibrated(variant).default_cfg["input_size"][1:]
