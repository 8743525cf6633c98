"""forward_intermediates, features_only and feature_info against timm, for every variant."""
import functools
import re

import numpy as np
import pytest
from engines import assert_same_bits
from live import calibrated, needs_timm, timm, torch
from maps import assert_map
from surface import CASES, ODD, VARIANTS, call, case_id, expected, model, nchw, ours, pixels

import npefficient
from npefficient.errors import ArgumentError
from npefficient.network.architecture import build

pytestmark = needs_timm

everywhere = pytest.mark.parametrize("variant, size, backend", CASES, ids=case_id)
STAGES = ["blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6"]
EVERY = ["bn1", *(f"blocks.{i}" for i in range(7))]
INDICES = [None, 1, 2, 5, [0], [4], [0, 2, 3], [3, 1], (-1,), [-2, 0], [1, 1]]


def indices_id(value):
    return "".join(str(value).split()) if isinstance(value, (type(None), int, list, tuple)) else None


def assert_maps(got, right, network, names):
    assert isinstance(got, list) and len(got) == len(right) == len(names), f"{len(got)} maps for {names}"
    for ours_, timms, name in zip(got, right, names):
        assert_map(ours_, ours(timms), network, name)


def test_assert_maps_can_fail():
    network, right = build("lite0"), call(calibrated("lite0").forward_intermediates, nchw(pixels(1, (9, 9))))
    maps = [ours(feature) for feature in right[1]]
    assert_maps(maps, right[1], network, STAGES)
    with pytest.raises(AssertionError, match="blocks.1: got .* expected"):
        assert_maps([*maps[:1], maps[1] * np.float32(1.001), *maps[2:]], right[1], network, STAGES)
    with pytest.raises(AssertionError, match="4 maps for .'blocks.0'"):
        assert_maps(maps[:-1], right[1], network, STAGES)


# --- forward_intermediates -------------------------------------------------------------------------------------------


@everywhere
def test_forward_intermediates(variant, size, backend):
    """Compared with timm's layers of these names; at a small size with the outputs of timm's own function."""
    m, x, right = model(variant, backend), pixels(1, size), expected(variant, size)
    for extra_blocks, names in ((False, STAGES), (True, EVERY)):
        last, maps = m.forward_intermediates(x, extra_blocks=extra_blocks)
        assert len(maps) == len(names)
        for got, name in zip([last, *maps], ["bn2", *names]):
            assert_map(got, right[name], m.architecture, name)
        assert_same_bits(last, m.forward_features(x))


@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_intermediates_of_timm(variant):
    m, x = model(variant), pixels(1, ODD)
    for extra_blocks, names in ((False, STAGES), (True, EVERY)):
        last, maps = m.forward_intermediates(x, extra_blocks=extra_blocks)
        right = call(calibrated(variant).forward_intermediates, nchw(x), extra_blocks=extra_blocks)
        assert_maps([last, *maps], [right[0], *right[1]], m.architecture, ["bn2", *names])


def flat(answer):
    """All values that forward_intermediates returns, concatenated."""
    last, maps = answer if isinstance(answer, tuple) else (np.empty(0, np.float32), answer)
    return np.concatenate([array.ravel() for array in (last, *maps)])


@pytest.mark.parametrize("stop_early", [False, True], ids=["to_the_end", "stop_early"])
@pytest.mark.parametrize("extra_blocks", [False, True], ids=["stage_ends", "extra_blocks"])
@pytest.mark.parametrize("intermediates_only", [False, True], ids=["both", "intermediates_only"])
@pytest.mark.parametrize("indices", INDICES, ids=indices_id)
def test_every_option(indices, intermediates_only, extra_blocks, stop_early):
    """All of timm's options, at one small size: which maps are returned, in which order, and what the last one is."""
    m, x = model("lite0"), pixels(1, (20, 9))
    options = dict(indices=indices, intermediates_only=intermediates_only, extra_blocks=extra_blocks,
                   stop_early=stop_early)
    right = call(calibrated("lite0").forward_intermediates, nchw(x), **options)
    got = m.forward_intermediates(x, **options)
    for norm in (False, True):
        again = m.forward_intermediates(x, norm=norm, output_fmt="NHWC", **options)
        assert flat(again).tobytes() == flat(got).tobytes()
    names = EVERY if extra_blocks else STAGES
    chosen = list(range(len(names)))[-indices:] if isinstance(indices, int) else indices
    names = [names[i] for i in sorted({i % len(names) for i in chosen})] if chosen is not None else names
    if not intermediates_only:
        assert isinstance(got, tuple)
        early = stop_early and names[-1] != "blocks.6"
        assert_maps([got[0]], [right[0]], m.architecture, [names[-1] if early else "bn2"])
        got, right = got[1], right[1]
    assert_maps(got, right, m.architecture, names)


@pytest.mark.parametrize("indices", [0, 6, -1, [5], [0, -6], [0, "1"], [0.5], True, [], 2.5], ids=repr)
def test_indices_that_there_are_not(indices):
    with pytest.raises(ArgumentError, match=f"^indices {re.escape(repr(indices))}: "):
        model("lite0").forward_intermediates(pixels(1, (9, 9)), indices)
    with pytest.raises(ArgumentError, match=f"^out_indices {re.escape(repr(indices))}: "):
        npefficient.create_model("lite0", num_classes=0, features_only=True, out_indices=indices)


def test_extra_blocks_have_eight_indices():
    m, x = model("lite0"), pixels(1, (9, 9))
    assert len(m.forward_intermediates(x, 8, intermediates_only=True, extra_blocks=True)) == 8
    for indices in (9, [8], [-9]):
        with pytest.raises(ArgumentError, match=re.escape(f"indices {indices!r}")):
            m.forward_intermediates(x, indices, extra_blocks=True)


@pytest.mark.parametrize("intermediates_only", [False, True], ids=["both", "intermediates_only"])
def test_output_format_is_timms_if_asked_for(intermediates_only):
    m, x = model("lite0"), pixels(2, (20, 9))
    got = m.forward_intermediates(x, [1, 3], output_fmt="NCHW", intermediates_only=intermediates_only)
    same = m.forward_intermediates(x, [1, 3], intermediates_only=intermediates_only)
    right = call(calibrated("lite0").forward_intermediates, nchw(x), [1, 3], intermediates_only=intermediates_only)
    if not intermediates_only:
        got, same, right = ([last, *maps] for last, maps in (got, same, right))
    assert [a.shape for a in got] == [tuple(a.shape) for a in right]
    for a, b in zip(got, same, strict=True):
        np.testing.assert_array_equal(a, b.transpose(0, 3, 1, 2))


def test_output_format_that_there_is_not():
    with pytest.raises(ArgumentError, match="output_fmt 'NLC': it must be 'NHWC' or 'NCHW'"):
        model("lite0").forward_intermediates(pixels(1, (9, 9)), output_fmt="NLC")


# --- features_only ---------------------------------------------------------------------------------------------------


@functools.cache
def timm_features(variant, out_indices=None):
    """timm's features_only model with the calibrated weights."""
    options = {} if out_indices is None else {"out_indices": out_indices}
    with torch.device("meta"):  # it has no weights
        network = timm.create_model(f"tf_efficientnet_{variant}", features_only=True, **options)
    state = calibrated(variant).state_dict()
    network.load_state_dict({name: state[name] for name in network.state_dict()}, assign=True)
    return network.eval()


@everywhere
def test_features_only(variant, size, backend):
    m, x, right = model(variant, backend, features_only=True), pixels(1, size), expected(variant, size)
    maps = m(x)
    assert m.feature_info.module_name() == STAGES and m.feature_info.reduction() == [2, 4, 8, 16, 32]
    assert isinstance(maps, list) and len(maps) == 5
    for got, name, channels, reduction in zip(maps, STAGES, m.feature_info.channels(), m.feature_info.reduction()):
        assert_map(got, right[name], m.architecture, name)
        assert got.shape == (1, *(-(-extent // reduction) for extent in size), channels)


@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3, 4), (1, 3), (4,), (0,), (-2, -1), (-5,), 1, 3, 5], ids=repr)
@pytest.mark.parametrize("variant", ["lite0", "lite2"])
def test_out_indices(variant, out_indices):
    m, x = model(variant, features_only=True, out_indices=out_indices), pixels(2, (20, 9))
    timms = timm_features(variant, out_indices)
    assert m.feature_info.module_name() == timms.feature_info.module_name()
    assert m.feature_info.channels() == timms.feature_info.channels()
    assert m.feature_info.reduction() == timms.feature_info.reduction()
    assert m.feature_info.get_dicts() == timms.feature_info.get_dicts()
    assert m.feature_info.out_indices == tuple(index % 5 for index in timms.feature_info.out_indices)
    assert_maps(m(x), call(timms, nchw(x)), m.architecture, m.feature_info.module_name())


def test_out_indices_come_in_the_order_of_execution():
    """timm's feature_info keeps the order given, although its maps are sorted; ours agree."""
    m = npefficient.create_model("lite0", num_classes=0, features_only=True, out_indices=[4, -4, 1])
    assert m.feature_info.module_name() == ["blocks.1", "blocks.6"]
    assert [a.shape[3] for a in m(pixels(1, (9, 9)))] == m.feature_info.channels()


@pytest.mark.parametrize("variant", VARIANTS)
def test_features_only_of_timm(variant):
    m, x = model(variant, features_only=True), pixels(1, ODD)
    assert_maps(m(x), call(timm_features(variant), nchw(x)), m.architecture, STAGES)


@pytest.mark.parametrize("variant", VARIANTS)
def test_feature_info_is_timms(variant):
    """For a whole model and a features_only one."""
    whole, part = npefficient.create_model(variant, num_classes=0), timm_features(variant).feature_info
    assert [{**d, "index": i} for i, d in enumerate(calibrated(variant).feature_info)] == list(whole.feature_info)
    info = model(variant, features_only=True).feature_info
    assert list(info) == list(part.info) and len(info) == len(part) == 5
    assert info.out_indices == part.out_indices
    for idx in (None, 0, -1, [1, 2], (4,)):
        for ask in ("channels", "reduction", "module_name", "get_dicts"):
            assert getattr(info, ask)(idx=idx) == getattr(part, ask)(idx=idx), (ask, idx)
        assert info.get("stage", idx) == part.get("stage", idx)
        assert info.get_dicts(["num_chs", "module"], idx) == part.get_dicts(["num_chs", "module"], idx)


def test_features_only_model_has_the_rest_of_its_surface():
    m = model("lite0", features_only=True, out_indices=(1, 2))
    assert m.eval() is m
    assert repr(m).startswith("FeatureModel(blocks.1, blocks.2 of Model(tf_efficientnet_lite0, 0 classes")
    assert npefficient.resolve_data_config(model=m) == npefficient.resolve_data_config(model=model("lite0"))
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    np.testing.assert_array_equal(m.transform(photo), model("lite0").transform(photo))
    with pytest.raises(ArgumentError, match=r"input of shape \(9, 9, 3\): it must be \(N, H, W, 3\)"):
        m(pixels(1, (9, 9))[0])


def test_features_without_a_pool():
    """timm's features_only drops the head, so a pool and a classifier that do not fit together are no error."""
    m = model("lite0", features_only=True, num_classes=0, global_pool="")
    for got, right in zip(m(pixels(1, ODD)), model("lite0", features_only=True)(pixels(1, ODD))):
        assert_same_bits(got, right)
