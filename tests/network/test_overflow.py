"""Finite weights whose results exceed float32 are refused, by the name of the layer; no others are."""
import dataclasses

import numpy as np
import pytest
from live import calibrated, needs_timm

from npefficient.errors import WeightsError
from npefficient.network.architecture import build
from npefficient.network.folded_network import FoldedNetwork
from npefficient.network.overflow import check_overflow, largest_magnitude
from npefficient.network.parameters import check_parameters, random_weights
from npefficient.network.reference import Network
from npefficient.network.variants import VARIANTS
from npefficient.weights.weight_file import write_weights

LITE0 = build("lite0", 2, 3)
GOOD = random_weights(LITE0).parameters


def with_values(**changes):
    """GOOD with the first value of some tensors replaced; dots of a name are written as __."""
    made = dict(GOOD)
    for name, value in changes.items():
        name = name.replace("__", ".")
        made[name] = made[name].copy()
        made[name].flat[0] = value
    return made


@pytest.mark.parametrize("changes, layer", [
    ({"bn1__weight": 3e38, "bn1__running_var": 0}, "'conv_stem' with its batch norm 'bn1'"),
    ({"conv_stem__weight": 3e38}, "'conv_stem' with its batch norm 'bn1'"),
    ({"blocks__3__1__bn2__weight": -3e38, "blocks__3__1__bn2__running_var": 0},
     "'blocks.3.1.conv_dw' with its batch norm 'blocks.3.1.bn2'"),
    ({"blocks__0__0__bn2__running_mean": 3e38, "blocks__0__0__bn2__running_var": 0}, "'blocks.0.0.conv_pw' .*"),
    ({"blocks__2__0__conv_pwl__weight": 1e38}, "'blocks.2.0.conv_pwl' .*"),
    ({"bn2__weight": 3e38, "bn2__running_var": 1e-5}, "'conv_head' with its batch norm 'bn2'"),
    ({"classifier__weight": 3e38}, "'classifier'"), ({"classifier__weight": -1e38}, "'classifier'"),
], ids=["scale", "stem", "block", "mean", "projection", "head", "classifier", "negative"])
def test_what_can_exceed_float32_is_refused(changes, layer):
    with pytest.raises(WeightsError, match=f"layer {layer}: its weights can give values up to .*float32 can't hold"):
        check_parameters(with_values(**changes), LITE0)


def test_what_is_refused_does_exceed_float32():
    """In the plain network two such cases give infinities or NaN."""
    x = np.ones((1, 32, 32, 3), np.float32)
    for changes in ({"blocks__0__0__bn2__weight": 3e38, "blocks__0__0__bn2__running_var": 0},
                    {"classifier__weight": 3e38, "classifier__bias": 3e38}):
        made = with_values(**changes)
        with np.errstate(all="ignore"):
            assert not np.isfinite([y.max() for _, y in Network(LITE0, made).layers(x)]).all()
        with pytest.raises(WeightsError, match="float32 can't hold"):
            check_overflow(made, LITE0)


def test_sums_of_skips_are_followed():
    """The outputs of three blocks fit float32, but not their sum."""
    names = [f"blocks.3.{block}.bn3.bias" for block in range(3)]
    made = GOOD | {name: np.full_like(GOOD[name], 1.5e38) for name in names}
    with pytest.raises(WeightsError, match="layer 'blocks.[34].[0-2]"):
        check_overflow(made, LITE0)
    check_overflow(GOOD | {names[0]: np.full_like(GOOD[names[0]], 1e30)}, LITE0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_ordinary_weights_pass(variant, dtype):
    network = build(variant, 7, 1, "catavgmax")
    check_overflow({name: array.astype(dtype) if array.ndim else array for name, array in
                    random_weights(network).parameters.items()}, network)


@needs_timm
def test_trained_weights_pass():
    state = calibrated("lite0", 5).state_dict()
    check_overflow({name: value.numpy() for name, value in state.items()}, build("lite0", 5))


@pytest.mark.parametrize("changes", [
    {"bn1__running_var": 0}, {"bn1__running_var": 3e38}, {"bn1__weight": 1e20}, {"classifier__bias": 1e38},
    {"classifier__weight": 1e30}, {"blocks__1__0__conv_pw__weight": 1e-45},
], ids=lambda changes: "_".join(changes))
def test_large_and_small_values_that_fit_pass(changes):
    check_parameters(with_values(**changes), LITE0)


def test_bound_holds_in_the_network():
    """The bound is valid: no layer's output exceeds the bound computed for it."""
    made = with_values(bn1__weight=1e15, classifier__weight=1e25, blocks__4__0__bn3__bias=1e18)
    check_overflow(made, LITE0)
    x = np.full((1, 33, 17, 3), 255, np.float32)
    for kind in (Network, FoldedNetwork):
        assert all(np.isfinite(y).all() for _, y in kind(LITE0, made).layers(x))


def test_weights_that_overflow_are_not_written(tmp_path):
    weights = dataclasses.replace(random_weights(LITE0), parameters=with_values(classifier__weight=3e38))
    with pytest.raises(WeightsError, match="layer 'classifier'"):
        write_weights(tmp_path / "x.h5", weights)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("axis", [None, 0, (1, 2)])
@pytest.mark.parametrize("special", [0.0, -0.0, 1e-7, -6e4, np.inf, -np.inf, np.nan, -np.nan])
def test_largest_magnitude(dtype, axis, special):
    array = np.random.default_rng(0).standard_normal((4, 5, 6)).astype(dtype)
    array[1, 2] = special
    for view in (array, array[::2, ::-1], array[..., 3], np.array(special, dtype)):
        along = axis if view.ndim == 3 else None
        got, expected = largest_magnitude(view, along), np.abs(view).max(along)
        assert got.dtype == dtype and np.array_equal(got, expected, equal_nan=True)
