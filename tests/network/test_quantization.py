"""Weights in 8 bits: rounding, scales, corrected biases, and what is refused."""
import dataclasses
import hashlib
import math

import numpy as np
import pytest
from changed_weights import changed
from golden_weights import weights as golden

from npefficient.errors import WeightsError
from npefficient.network.architecture import build
from npefficient.network.folding import fold
from npefficient.network.parameters import random_weights
from npefficient.network.quantization import (
    RELU6_STEP,
    check_quantized,
    clipped_mean,
    quantize,
    quantized_layer,
    reads_floats,
)
from npefficient.network.quantized_reference import QuantizedNetwork
from npefficient.network.variants import VARIANTS

LITE0 = random_weights(build("lite0", 5))
F = np.float32


# --- rounding --------------------------------------------------------------------------------------------------------


def test_layer_by_hand():
    """Steps of 1 and 1/2; halves go to even; the bias takes away the mean of what the rounding adds."""
    weight = np.array([[127, 2.5, -3.25], [-63.5, 1.0, 0.5]])[:, :, None, None]
    got = quantized_layer(weight, np.array([10.0, 20.0]), np.array([1.0, 2.0, 4.0]), 1.0, 1.0)
    np.testing.assert_array_equal(got.weight[:, :, 0, 0], [[127, 2, -3], [-127, 2, 1]])
    np.testing.assert_array_equal(got.scale, [1.0, 0.5])
    np.testing.assert_array_equal(got.bias, [10 + 0.5 * 2 - 0.25 * 4, 20])
    assert (got.weight.dtype, got.scale.dtype, got.bias.dtype) == (np.int8, F, F)


def test_steps_of_inputs_and_outputs_are_in_scale_and_bias():
    weight = np.array([[127.0, 1.0]])[:, :, None, None]
    got = quantized_layer(weight, np.array([3.0]), np.zeros(2), 0.25, 0.5)
    assert (got.scale[0], got.bias[0]) == (0.25, 6.0)


def test_depthwise_layer_by_hand():
    """Four taps of a quarter vanish, and with them one step of the sum: at a mean of 5, five go to the bias."""
    taps = np.tile([127, 0.25, 0.25, 0.25, 0.25, 0, 0, 0, 0], (2, 1)).reshape(2, 1, 3, 3)
    got = quantized_layer(taps, np.array([0.0, 1.0]), np.array([5.0, 0.0]), 1.0, 1.0)
    np.testing.assert_array_equal(got.weight.reshape(2, 9), [[127, 0, 0, 0, 0, 0, 0, 0, 0]] * 2)
    np.testing.assert_array_equal(got.bias, [5, 1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_weight_is_within_its_step_and_every_scale_is_the_smallest(variant):
    given = golden(VARIANTS[variant].short_name)
    made = quantize(given)
    for conv in given.architecture.convs:
        weight, _ = fold(conv, given.parameters)
        if conv.name in made.float_layers:
            unit = 1.0 if conv.op == "stem" else RELU6_STEP
            np.testing.assert_array_equal(made.float_layers[conv.name].weight, (weight / unit).astype(F))
            continue
        layer = made.layers[conv.name]
        largest = np.abs(weight).max((1, 2, 3))
        step = largest / 127
        unit = step * (1 if reads_floats(conv) else 6 / 255) / (6 / 255 if conv.relu6 else 1)
        np.testing.assert_allclose(layer.scale, unit, rtol=2**-24)
        assert np.abs(layer.weight - weight / step[:, None, None, None]).max() <= 0.5 + 1e-9
        assert (np.abs(layer.weight).max((1, 2, 3)) == 127).all()
    weight = given.parameters["classifier.weight"].astype(np.float64)
    layer = made.layers["classifier"]
    np.testing.assert_allclose(layer.scale, np.abs(weight).max(1) / 127, rtol=2**-24)
    assert np.abs(layer.weight[:, :, 0, 0] * layer.scale[:, None] - weight).max() < 0.51 * layer.scale.max()
    assert set(made.layers) | set(made.float_layers) == {c.name for c in given.architecture.convs} | {"classifier"}


# --- the means -------------------------------------------------------------------------------------------------------


def integral(mean, deviation):
    """The mean of a normal variable clipped to 0..6, summed over 12 deviations to both sides."""
    z, step = np.linspace(-12, 12, 200_001, retstep=True)
    return (np.clip(mean + deviation * z, 0, 6) * np.exp(-z * z / 2)).sum() * step / math.sqrt(2 * math.pi)


@pytest.mark.parametrize("mean", [-10.0, -2.0, -0.1, 0.0, 0.5, 3.0, 5.9, 6.0, 20.0])
@pytest.mark.parametrize("deviation", [1e-3, 0.3, 1.0, 4.0, 100.0])
def test_clipped_mean_equals_the_integral(mean, deviation):
    got = clipped_mean(np.array([mean]), np.array([deviation]))[0]
    assert abs(got - integral(mean, deviation)) < 2e-6
    assert got * 2**20 == round(got * 2**20)


@pytest.mark.parametrize("mean, deviation, expected", [
    (2.5, 0.0, 2.5), (-1.0, 0.0, 0.0), (9.0, 0.0, 6.0), (0.0, 0.0, 0.0), (3e38, 0.0, 6.0), (-3e38, 1e-38, 0.0),
    (3e38, 1.0, 6.0), (2.5, 1e-45, 2.5)])
def test_clipped_mean_of_degenerate_norms(mean, deviation, expected):
    assert clipped_mean(np.array([mean]), np.array([deviation]))[0] == expected


@pytest.mark.parametrize("mean", [-3e38, 0.0, 3e38])
@pytest.mark.parametrize("deviation", [1e10, 1e20, 3e38])
def test_clipped_mean_stays_between_its_bounds(mean, deviation):
    assert 0 <= clipped_mean(np.array([mean]), np.array([deviation]))[0] <= 6


def real_layer(layer, conv):
    """The weights and biases that a quantised layer stands for, float64."""
    unit = RELU6_STEP if conv is not None and conv.relu6 else 1.0
    inputs = 1.0 if conv is None or reads_floats(conv) else RELU6_STEP
    scale = layer.scale.astype(np.float64) * unit / inputs
    return layer.weight * scale[:, None, None, None], layer.bias.astype(np.float64) * unit


def test_mean_outputs_are_those_of_the_unrounded_weights():
    """Along blocks and shortcuts, with the means worked out once more from the batch norms."""
    given = golden("lite1")
    made, p = quantize(given), given.parameters

    def after(conv):
        beta, gamma = p[f"{conv.bn}.bias"].astype(np.float64), p[f"{conv.bn}.weight"].astype(np.float64)
        return np.array([integral(*pair) for pair in zip(beta, np.abs(gamma))]) if conv.relu6 else beta

    def compare(layer, conv, weight, bias, mean):
        rounded, corrected = real_layer(layer, conv)
        means = mean[:, None] if weight.shape[1] == 1 else mean[None, :]
        error = ((rounded - weight).sum((2, 3)) * means).sum(1)
        np.testing.assert_allclose(corrected + error, bias, rtol=0, atol=1e-5 * np.abs(bias).max())
        return np.abs(error).max()

    mean, seen = after(given.architecture.stem), []
    for block in given.architecture.blocks[:5]:
        shortcut = mean
        for conv in block.convs:
            if conv.name in made.layers:
                seen.append(compare(made.layers[conv.name], conv, *fold(conv, p), mean))
            mean = after(conv)
        if block.skip:
            mean = mean + shortcut
    assert len(seen) == 13 and min(seen) > 1e-4, "there is something to correct"
    mean = after(given.architecture.head)
    weight, bias = p["classifier.weight"].astype(np.float64), p["classifier.bias"].astype(np.float64)
    compare(made.layers["classifier"], None, weight[:, :, None, None], bias, mean)


@pytest.mark.parametrize("pool", ["max", "avgmax", "catavgmax", ""])
def test_other_pools(pool):
    network = build("lite0", 0 if pool == "" else 3, 3, pool)
    made = quantize(random_weights(network))
    assert ("classifier" in made.layers) == bool(pool)
    if pool:
        assert made.layers["classifier"].weight.shape == (3, network.head_hidden_size, 1, 1)


# --- as a whole ------------------------------------------------------------------------------------------------------


def test_quantize_keeps_what_comes_with_the_weights_and_leaves_them_alone():
    before = {name: array.copy() for name, array in LITE0.parameters.items()}
    made = quantize(LITE0)
    for name in ("architecture", "preprocessing", "labels", "source"):
        assert getattr(made, name) == getattr(LITE0, name)
    for name, array in before.items():
        np.testing.assert_array_equal(LITE0.parameters[name], array)


def test_the_same_bits_everywhere():
    """Of weights that are the same with every NumPy; the sums and means are made so that no processor changes them."""
    digest, made = hashlib.sha256(), quantize(golden("lite0", 10))
    for layer in (*made.float_layers.values(), *made.layers.values()):
        for array in vars(layer).values():
            digest.update(np.ascontiguousarray(array).tobytes())
    assert digest.hexdigest()[:16] == "915fd090ff67373a"


def test_float16_parameters():
    halves = dataclasses.replace(LITE0, parameters={
        name: array.astype(np.float16) if array.ndim else array for name, array in LITE0.parameters.items()})
    singles = dataclasses.replace(LITE0, parameters={
        name: array.astype(F) if array.ndim else array for name, array in halves.parameters.items()})
    for one, other in zip(quantize(halves).layers.values(), quantize(singles).layers.values(), strict=True):
        for a, b in zip(vars(one).values(), vars(other).values(), strict=True):
            np.testing.assert_array_equal(a, b)


# --- degenerate and hostile ------------------------------------------------------------------------------------------

DEPTHWISE, PROJECT = "blocks.2.0.conv_dw", "blocks.2.0.conv_pwl"


def first(value):
    """A change: the first output channel gets this value."""

    def change(array):
        array[0] = value
        return array

    return change


@pytest.mark.parametrize("name", [DEPTHWISE, PROJECT, "conv_head", "blocks.1.0.conv_pw"])
@pytest.mark.parametrize("value", [0.0, 1e-45, -1e-40])
def test_channel_without_weights(name, value):
    """Zero and subnormal weights: integers 0, a scale of ordinary size, and the bias alone is left."""
    made = quantize(changed(LITE0, f"{name}.weight", first(value)))
    layer = made.layers[name]
    assert not layer.weight[0].any() and layer.weight[1].any() and 0 < layer.scale[0] < 100
    assert np.isfinite(layer.bias).all()


@pytest.mark.parametrize("leaf, value", [
    ("weight", 0.0), ("bias", -1e7), ("bias", 1e7), ("weight", 1e-45), ("running_var", 0.0), ("weight", -1e4)])
def test_degenerate_norms_stay_finite(leaf, value):
    check_quantized(quantize(changed(LITE0, f"blocks.2.0.bn2.{leaf}", first(value))))


@pytest.mark.parametrize("name, value, message", [
    (f"{PROJECT}.weight", np.nan, "holds nan: every"), ("blocks.2.0.bn2.bias", np.inf, "holds inf: every weight must"),
    ("blocks.2.0.bn2.running_var", -1.0, "a variance can't be negative"),
    ("classifier.weight", 3e38, "layer 'classifier': its weights can give values up to"),
    ("blocks.2.0.bn2.bias", 3e38, "layer 'blocks.2.0.conv_dw': its quantised weights can give values up to"),
    ("blocks.2.1.bn3.bias", 3e35, "layer 'blocks.3.0.conv_pw': its quantised weights can give values up to"),
    ("classifier.bias", 3.4e38, "up to 1.7e.38: they must stay below 1.7e.38, half of what float32 can hold"),
    ("blocks.2.0.bn2.bias", 3e7, "conv_dw': .* 3e.07: .* below 2.5e.07, half of what an int32 in steps of 6/255 can"),
])
def test_what_cannot_be_quantised_is_refused(name, value, message):
    with pytest.raises(WeightsError, match=message):
        quantize(changed(LITE0, name, first(value)))


def test_missing_parameters_are_refused():
    some = {name: array for name, array in LITE0.parameters.items() if not name.startswith("blocks.2.0.bn2")}
    with pytest.raises(WeightsError, match="missing 'blocks.2.0.bn2.bias'"):
        quantize(dataclasses.replace(LITE0, parameters=some))


def replaced(made, name, **arrays):
    """Quantised weights with other arrays in one layer."""
    where = "float_layers" if name in made.float_layers else "layers"
    layers = getattr(made, where)
    return dataclasses.replace(made, **{where: {**layers, name: dataclasses.replace(layers[name], **arrays)}})


def with_first(array, value):
    array = array.copy()
    array.flat[0] = value
    return array


@pytest.mark.parametrize("name, leaf, value, message", [
    (DEPTHWISE, "weight", -128, "layer 'blocks.2.0.conv_dw': a weight is -128; .* -127 to 127"),
    (DEPTHWISE, "scale", 0.0, "layer 'blocks.2.0.conv_dw': a scale is 0.0; it must be positive"),
    (PROJECT, "scale", -1.0, "a scale is -1.0"), (PROJECT, "scale", np.nan, "its scale holds nan"),
    ("conv_head", "scale", np.inf, "its scale holds inf"), ("classifier", "bias", np.nan, "its bias holds nan"),
    ("conv_stem", "weight", np.nan, "layer 'conv_stem': its weight holds nan"),
    ("blocks.0.0.conv_dw", "bias", 3e38, "layer 'blocks.0.0.conv_dw': its quantised weights can give"),
    (PROJECT, "scale", 1e38, "layer 'blocks.2.[01].conv_pwl?': its quantised weights can give values up to .*float32"),
    ("classifier", "scale", 1e38, "layer 'classifier': its quantised weights can give"),
])
def test_numbers_that_quantisation_never_gives_are_refused(name, leaf, value, message):
    made = quantize(LITE0)
    layer = (made.layers | made.float_layers)[name]
    with pytest.raises(WeightsError, match=message):
        check_quantized(replaced(made, name, **{leaf: with_first(getattr(layer, leaf), value)}))


@pytest.mark.parametrize("leaf, change, message", [
    ("weight", lambda a: a[1:], r"its weight is int8 \(\d+, 1, 5, 5\) instead of int8 \(144, 1, 5, 5\)"),
    ("weight", lambda a: a.astype(np.int16), "its weight is int16"),
    ("scale", lambda a: a[:, None], r"its scale is float32 \(144, 1\) instead of float32 \(144,\)"),
    ("bias", lambda a: a.astype(np.float64), "its bias is float64"),
])
def test_other_shapes_and_dtypes_are_refused(leaf, change, message):
    made = quantize(LITE0)
    with pytest.raises(WeightsError, match=message):
        check_quantized(replaced(made, DEPTHWISE, **{leaf: change(getattr(made.layers[DEPTHWISE], leaf))}))


@pytest.mark.parametrize("where, name", [("layers", "classifier"), ("layers", PROJECT), ("float_layers", "conv_stem")])
def test_missing_and_unexpected_layers_are_refused(where, name):
    made = quantize(LITE0)
    layers = dict(getattr(made, where))
    layer = layers.pop(name)
    with pytest.raises(WeightsError, match=f"not the quantised layers of .*missing or unexpected '{name}'"):
        check_quantized(dataclasses.replace(made, **{where: layers}))
    with pytest.raises(WeightsError, match="missing or unexpected 'conv_tail'"):
        check_quantized(dataclasses.replace(made, **{where: {**getattr(made, where), "conv_tail": layer}}))


@pytest.mark.parametrize("name, value", [("blocks.2.1.bn3.bias", 1e5), ("blocks.2.0.bn2.bias", 1e7)])
def test_what_passes_stays_finite(name, value):
    """Biases not far below those that are refused, through the whole network."""
    made = quantize(changed(LITE0, name, first(value)))
    with np.errstate(over="raise", invalid="raise"):
        outputs = QuantizedNetwork(made).layers(np.full((1, 33, 17, 3), 255, F))
        assert all(np.isfinite(output).all() for _, output in outputs)
