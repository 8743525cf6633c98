"""Feature maps: which there are, how they are selected, and models that return only these."""
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import npefficient
from npefficient.errors import ArgumentError
from npefficient.model.features import FeatureModel, feature_info, take_indices
from npefficient.network.architecture import build

NETWORK = build("lite0", 0)
X = np.random.default_rng(0).uniform(-1, 1, (2, 20, 9, 3)).astype(np.float32)
BY_HAND = [  # lite0: the last map at each resolution; index, channels, reduction
    {"stage": 1, "reduction": 2, "module": "blocks.0", "num_chs": 16, "index": 0},
    {"stage": 2, "reduction": 4, "module": "blocks.1", "num_chs": 24, "index": 1},
    {"stage": 3, "reduction": 8, "module": "blocks.2", "num_chs": 40, "index": 2},
    {"stage": 5, "reduction": 16, "module": "blocks.4", "num_chs": 112, "index": 3},
    {"stage": 7, "reduction": 32, "module": "blocks.6", "num_chs": 320, "index": 4},
]


# --- indices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indices, meant", [
    (None, [0, 1, 2, 3, 4]), (1, [4]), (2, [3, 4]), (5, [0, 1, 2, 3, 4]), ([0], [0]), ([4, 1], [1, 4]), ([-1], [4]),
    ((-5, -1), [0, 4]), ([2, 2, -3], [2]), (range(1, 3), [1, 2]), ({0, 3}, [0, 3]), (np.array([1, 3]), [1, 3]),
    (np.int64(2), [3, 4]), ([np.int32(-2)], [3]),
], ids=repr)
def test_take_indices(indices, meant):
    got = take_indices(5, indices)
    assert got == meant and all(type(index) is int for index in got)


def test_take_indices_reads_an_iterator_once():
    assert take_indices(5, iter([3, 0])) == [0, 3]


@given(st.integers(1, 9), st.lists(st.integers(-12, 12), min_size=1, max_size=6))
def test_take_indices_are_pythons_own(count, indices):
    """Indices select as in a Python list of the maps, in the order of execution."""
    maps = list(range(count))
    if all(-count <= index < count for index in indices):
        assert take_indices(count, indices) == sorted({maps[index] for index in indices})
    else:
        with pytest.raises(ArgumentError, match=f"there is no map .*; the {count} maps"):
            take_indices(count, indices)


@pytest.mark.parametrize("indices, rule", [
    (0, "a single number n selects the last n maps; n must be from 1 to 5"), (6, "a single number n selects"),
    (-1, "a single number n selects"), (True, "a single number n selects"), (2.0, "a single number n selects"),
    ([5], "there is no map 5; the 5 maps count from 0, and -1 is the last"), ([0, -6], "there is no map -6"),
    ([1.0], "there is no map 1.0;"), ([True], "there is no map True;"), ([None], "there is no map None;"),
    ("12", "a single number n selects the last n maps"), ([[1]], "there is no map [1];"),
    ([], "it must select at least one of the 5 maps"), ((), "it must select at least one"),
], ids=repr)
def test_take_indices_refuses(indices, rule):
    with pytest.raises(ArgumentError, match="^" + re.escape(f"indices {indices!r}: {rule}")):
        take_indices(5, indices)
    with pytest.raises(ArgumentError, match="^" + re.escape(f"out_indices {indices!r}: {rule}")):
        feature_info(NETWORK, indices)


# --- their description -----------------------------------------------------------------------------------------------


def test_feature_info_by_hand():
    info = feature_info(NETWORK)
    assert list(info) == BY_HAND and len(info) == 5 and info.out_indices == (0, 1, 2, 3, 4)
    assert info[1] == BY_HAND[1] and info[-1]["num_chs"] == 320 and BY_HAND[2] in info
    assert info.channels() == [16, 24, 40, 112, 320] and info.reduction() == [2, 4, 8, 16, 32]
    assert info.module_name() == ["blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6"]


def test_feature_info_of_some():
    """Without idx the outputs; with idx any map, whether it is an output or not."""
    info = feature_info(NETWORK, [1, -1])
    assert info.out_indices == (1, 4) and info.channels() == [24, 320] and len(info) == 5
    assert info.channels(0) == info.channels(np.int64(0)) == 16 and info.channels(-1) == 320
    assert info.reduction([0, 2]) == info.reduction((0, 2)) == [2, 8] and info.module_name([]) == []
    assert info.get("stage") == [2, 7] and info.get("index", 3) == 3
    assert info.get_dicts() == [BY_HAND[1], BY_HAND[4]] and info.get_dicts(idx=0) == BY_HAND[0]
    assert info.get_dicts(["module"], [0, 1]) == [{"module": "blocks.0"}, {"module": "blocks.1"}]
    with pytest.raises(KeyError, match="hook_type"):
        info.get("hook_type")
    with pytest.raises(IndexError, match="out of range"):
        info.channels(5)


@pytest.mark.parametrize("short, channels", [
    ("lite0", [16, 24, 40, 112, 320]), ("lite1", [16, 24, 40, 112, 320]), ("lite2", [16, 24, 48, 120, 352]),
    ("lite3", [24, 32, 48, 136, 384]), ("lite4", [24, 32, 56, 160, 448]),
])
def test_channels_of_every_variant(short, channels):
    info = feature_info(build(short))
    assert info.channels() == channels and info.reduction() == [2, 4, 8, 16, 32]


def test_feature_info_is_made_anew():
    """Changing the returned dictionaries changes no model."""
    model = npefficient.create_model("lite0", num_classes=0)
    model.feature_info[0]["num_chs"] = 1
    assert model.feature_info[0]["num_chs"] == 16


# --- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["engine", "reference"])
def test_feature_model_puts_out_what_its_info_says(backend):
    model = npefficient.create_model("lite0", features_only=True, out_indices=(0, 2, 4), backend=backend)
    assert isinstance(model, npefficient.FeatureModel)
    maps, info = model(X), model.feature_info
    assert isinstance(maps, list) and len(maps) == 3
    for got, channels, reduction in zip(maps, info.channels(), info.reduction(), strict=True):
        assert got.shape == (2, -(-20 // reduction), -(-9 // reduction), channels) and got.dtype == np.float32


def test_feature_model_is_the_models_own_maps():
    whole = npefficient.create_model("lite0", num_threads=1)
    part = FeatureModel(whole, 2)
    for got, right in zip(part(X), whole.forward_intermediates(X, 2, intermediates_only=True), strict=True):
        np.testing.assert_array_equal(got, right)
    assert part.model is whole and part.eval() is part
    assert part.architecture is whole.architecture and part.preprocessing is whole.preprocessing
    assert part.pretrained_cfg is whole.pretrained_cfg
    assert repr(part) == f"FeatureModel(blocks.4, blocks.6 of {whole!r})"


def test_out_indices_need_features_only():
    with pytest.raises(ArgumentError, match=r"out_indices=\(1, 2\) without features_only=True: a whole model returns"):
        npefficient.create_model("lite0", out_indices=(1, 2))


def test_feature_model_checks_its_input():
    model = npefficient.create_model("lite0", num_classes=0, features_only=True)
    with pytest.raises(ArgumentError, match=r"input of shape \(2, 20, 9, 1\): it must be \(N, H, W, 3\)"):
        model(X[..., :1])
