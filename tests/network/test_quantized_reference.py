"""The network in 8 bits, the definition: against loops to the last bit, and against the float network within bounds."""
import functools
from fractions import Fraction

import naive
import naive_quantized
import numpy as np
import pytest
from golden_weights import weights
from make_golden import golden_parameters

from npefficient.network import quantized_reference as quantized
from npefficient.network import reference
from npefficient.network.architecture import build
from npefficient.network.folding import fold
from npefficient.network.parameters import Source, Weights
from npefficient.network.quantization import RELU6_STEP, QuantizedLayer, quantize, reads_floats

F = np.float32


def noise(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape).astype(F)


@functools.cache
def quantised(short, classes=1000, colours=3, pool="avg"):
    network = build(short, classes, colours, pool)
    if pool == "avg":
        return quantize(weights(short, classes, colours))
    values = golden_parameters(network.parameters())
    return quantize(Weights(network, values, network.variant.preprocessing, None, Source("golden", "", "random")))


def values(made):
    """What the oracle reads."""
    floats = {name: (layer.weight, None, layer.bias) for name, layer in made.float_layers.items()}
    return floats | {name: (layer.weight, layer.scale, layer.bias) for name, layer in made.layers.items()}


# --- against loops ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("short, size, classes, colours, pool", [
    ("lite0", (9, 13), 1000, 3, "avg"), ("lite0", (37, 2), 10, 1, "max"), ("lite0", (33, 35), 7, 3, "avgmax"),
    ("lite0", (7, 5), 7, 4, "catavgmax"), ("lite0", (34, 33), 0, 3, ""), ("lite0", (3, 3), 0, 3, "catavgmax"),
    ("lite1", (15, 33), 1000, 3, "avg"), ("lite2", (1, 1), 1, 3, "avg"), ("lite2", (17, 2), 3, 3, "avg"),
    ("lite3", (19, 38), 2, 3, "avg"), ("lite4", (2, 2), 1000, 3, "avg"), ("lite4", (33, 31), 5, 3, "avg"),
], ids=str)
def test_every_layer_equals_the_loops_to_the_last_bit(short, size, classes, colours, pool):
    made = quantised(short, classes, colours, pool)
    x = noise(2, *size, colours)
    got = quantized.QuantizedNetwork(made).layers(x)
    expected = [naive_quantized.network(short, values(made), picture, pool, classes) for picture in x]
    count = 0
    for (name, output), *pictures in zip(got, *expected, strict=True):
        for one, (their_name, theirs) in zip(output, pictures, strict=True):
            assert name == their_name and one.shape == theirs.shape
            assert one.dtype == (np.uint8 if theirs.dtype == np.int64 else F), name
            np.testing.assert_array_equal(one, theirs, err_msg=name)
        count += 1
    assert count == len(made.architecture.layers(*size))


def test_call_gives_the_last_layer_as_floats():
    x = noise(2, 9, 13, 3)
    network = quantized.QuantizedNetwork(quantised("lite0"))
    *_, (name, last) = network.layers(x)
    assert name == "classifier" and last.dtype == F
    np.testing.assert_array_equal(network(x), last)
    network = quantized.QuantizedNetwork(quantised("lite0", 0, 3, ""))
    *_, (name, last) = network.layers(x)
    assert name == "conv_head" and last.dtype == np.uint8
    np.testing.assert_array_equal(network(x), last * F(6 / 255))


def test_pictures_do_not_see_each_other():
    x = noise(3, 9, 6, 3)
    network = quantized.QuantizedNetwork(quantised("lite0"))
    np.testing.assert_array_equal(network(x), np.concatenate([network(x[i : i + 1]) for i in range(3)]))


# --- arithmetic ------------------------------------------------------------------------------------------------------


def nearest(exact):
    """The float32 nearest to a fraction, ties to even."""
    near = F(float(exact))
    candidates = [np.nextafter(near, F(-np.inf)), near, np.nextafter(near, F(np.inf))]
    return min(candidates, key=lambda c: (abs(Fraction(float(c)) - exact), int(c.view(np.int32)) & 1))


def test_fma_rounds_once():
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(-2, 2, 500).astype(F) for _ in range(2))
    near = (-a * b * (1 + rng.integers(-3, 4, 500) * 2.0**-24)).astype(F)  # nearly everything cancels
    small = rng.uniform(-1e-9, 1e-9, 500).astype(F)
    for c in (near, small, rng.uniform(-2, 2, 500).astype(F)):
        got = quantized.fma(a, b, c)
        assert (got != a * b + c).any(), "these numbers tell one rounding from two"
        exact = [Fraction(float(p)) * Fraction(float(q)) + Fraction(float(r)) for p, q, r in zip(a, b, c)]
        np.testing.assert_array_equal(got, [nearest(e) for e in exact])
        np.testing.assert_array_equal(got, naive.fused(a, b, c))


def test_fma_is_not_rounded_to_float64_first():
    """1 + 2^-24 is a tie, which goes to 1; a little more is not, but float64 would lose that little."""
    one, half_step = F(1), F(2.0**-12)
    for c, expected in ((F(2.0**-24 + 2.0**-47), 1 + 2.0**-23), (F(2.0**-24), 1.0)):
        assert quantized.fma(c, one, one) == F(expected)
    product = F(1 + 2.0**-23)  # (1 + 2^-23)^2 2^-24 = 2^-24 + 2^-46 + 2^-70
    assert quantized.fma(product * half_step, product * half_step, one) == F(1 + 2.0**-23)


@pytest.mark.parametrize("y, expected", [
    (-np.inf, 0), (-3e38, 0), (-0.5, 0), (-0.0, 0), (0.5, 0), (0.50001, 1), (1.5, 2), (2.5, 2), (254.5, 254),
    (254.50002, 255), (255.5, 255), (300, 255), (3e38, 255), (np.inf, 255)])
def test_clamp_by_hand(y, expected):
    got = quantized.clamp(np.array([y], F))
    assert got.dtype == np.uint8 and got[0] == expected


def test_clamp_may_round_first():
    y = np.concatenate([np.arange(-4, 1040) / F(4), 300 * noise(5000)]).astype(F)
    np.testing.assert_array_equal(quantized.clamp(y), np.clip(np.rint(y), 0, 255))


def layer_of(weight, scale=1.0, bias=0.0):
    """A 1x1 layer of a matrix (M, C)."""
    weight = np.array(weight, np.int8)
    return QuantizedLayer(weight[:, :, None, None], np.full(len(weight), scale, F), np.full(len(weight), bias, F))


def test_from_float32_by_hand():
    """Counted in 127ths of 2: 127, -32 (halves to even: -31.75), 0, 1."""
    y = np.array([2.0, -0.5, 0.0, 2 / 127], F).reshape(1, 1, 1, 4)
    got = quantized.from_float32(y, layer_of([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]], 127 / 2, 10.0))
    np.testing.assert_allclose(got.ravel(), [137, -22, 106], rtol=1e-6)


def test_each_row_has_its_own_scale():
    y = np.array([[1.0, 100.0], [0.01, 0.02]], F).reshape(1, 2, 1, 2)
    got = quantized.from_float32(y, layer_of([[1, 0], [0, 1]]))[0, :, 0]
    np.testing.assert_allclose(got, [[100 / 127, 100], [0.02 * 64 / 127, 0.02]], rtol=1e-6)


def test_the_pixels_of_a_row_share_its_scale():
    y = np.array([[1.0, 100.0], [0.01, 0.42]], F).reshape(1, 1, 2, 2)
    got = quantized.from_float32(y, layer_of([[1, 0], [0, 1]]))[0, 0]
    np.testing.assert_allclose(got, [[100 / 127, 100], [0, 100 / 127]], rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -2.5, 3e-30, 3e36, -3e36])
def test_pixel_of_one_value_is_kept(value):
    got = quantized.from_float32(np.full((1, 1, 1, 5), value, F), layer_of([[1, 2, 3, 4, 5], [-7, 0, 0, 0, 7]]))
    np.testing.assert_allclose(got.ravel(), [F(value) * F(15), 0], rtol=2e-7)


@pytest.mark.parametrize("value", [1e-45, -1e-38, 2.0**-109])
def test_pixel_of_next_to_nothing_counts_as_zero(value):
    got = quantized.from_float32(np.full((1, 1, 1, 5), value, F), layer_of([[1, 2, 3, 4, 5]], bias=7.0))
    assert got.ravel() == [7]


def test_quantised_floats_never_pass_127():
    """127 / a, times a, for many a, the smallest and the largest among them."""
    rng = np.random.default_rng(0)
    a = np.concatenate([rng.uniform(1, 2, 200_000), 2.0 ** rng.uniform(-100, 127, 200_000), [2.0**-100, 2.0**127]])
    a = a.astype(F)
    assert (np.rint(a * (F(127) / a)) == 127).all() and np.isfinite(a / F(127)).all()


@pytest.mark.parametrize("count", [1632, 1633, 2560])
def test_long_sums_are_exact_until_they_become_floats(count):
    """2^24 and more: the integer is rounded once, ties to even, as int32 -> float32 does it."""
    rng = np.random.default_rng(count)
    q = rng.integers(200, 256, (1, 1, 4, count)).astype(np.uint8)
    layer = layer_of(rng.integers(100, 128, (6, count)))
    exact = q[0, 0].astype(np.int32) @ layer.weight[:, :, 0, 0].astype(np.int32).T
    assert exact.min() > 2**24 and (exact % 2 == 1).any() and exact.max() < 2**31
    got = quantized.sums(q, layer)
    assert got.dtype == F
    np.testing.assert_array_equal(got[0, 0], exact.astype(F))


@pytest.mark.parametrize("how, expected", [
    ("avg", [3 * 6 / 255, 0]), ("max", [10 * 6 / 255, 0]), ("avgmax", [6.5 * 6 / 255, 0]),
    ("catavgmax", [3 * 6 / 255, 0, 10 * 6 / 255, 0])])
def test_global_pool_by_hand(how, expected):
    q = np.array([[1, 0], [10, 0], [1, 0], [0, 0]], np.uint8).reshape(1, 2, 2, 2)
    got = quantized.global_pool(q, how)
    assert got.dtype == F and got.shape == (1, len(expected))
    np.testing.assert_allclose(got[0], expected, rtol=2e-7)


# --- against the float network ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("short, size", [("lite0", (33, 47)), ("lite1", (15, 33)), ("lite4", (17, 21))], ids=str)
def test_every_layer_stays_within_its_bound(short, size):
    """Each layer in float64 on what its quantised input stands for, against its quantised output.

    A weight is off by at most half a step, a float of the input by half a 127th of its row's largest, an output after
    ReLU6 by half a step. Float32's own roundings add 1e-5 of the sum of magnitudes.
    """
    made, given = quantised(short), weights(short)
    network = quantized.QuantizedNetwork(made)
    x = noise(1, *size, 3)
    before, shortcut = None, None
    outputs = dict(network.layers(x))
    for block in made.architecture.blocks:
        shortcut = before
        for conv in block.convs:
            output = quantized.real(outputs[conv.name]).astype(np.float64)
            if conv.name in made.layers:
                low, high = bounds(conv, given, made.layers[conv.name], before)
                if conv == block.convs[-1] and block.skip:
                    low, high = low + shortcut, high + shortcut
                assert ((low <= output) & (output <= high)).all(), conv.name
                assert np.median(high - low) < 0.5 * np.ptp(output), "or the bound says nothing"
            before = output


def bounds(conv, given, layer, x):
    """The smallest and the largest output of a layer with input x (1, H, W, C), float64."""
    relu_step = RELU6_STEP if conv.relu6 else 1.0
    step = layer.scale.astype(np.float64) * relu_step / (1.0 if reads_floats(conv) else RELU6_STEP)
    weight, _ = fold(conv, given.parameters)
    run = reference.depthwise_conv if conv.op == "depthwise" else lambda x, w, _: reference.pointwise_conv(x, w)
    exact = run(x, weight, conv.stride) + layer.bias.astype(np.float64) * relu_step
    ones = np.ones_like(weight)
    error = run(np.abs(x), ones, conv.stride) * step / 2
    if reads_floats(conv):
        error += np.abs(x).max((-2, -1), keepdims=True) / 254 * (np.abs(layer.weight[:, :, 0, 0]).sum(1) * step)
    error += 1e-5 * (run(np.abs(x), np.abs(weight), conv.stride) + np.abs(exact))
    low, high = exact - error, exact + error
    return (reference.relu6(low) - RELU6_STEP / 2 * 1.001, reference.relu6(high) + RELU6_STEP / 2 * 1.001) \
        if conv.relu6 else (low, high)


def test_bounds_can_fail():
    """One weight that is off by two steps leads outside."""
    made, given = quantised("lite0"), weights("lite0")
    conv = made.architecture.blocks[1].convs[2]
    x = np.full((1, 1, 1, conv.in_channels), 3.0)
    layer = made.layers[conv.name]
    low, high = bounds(conv, given, layer, x)
    weight = layer.weight.copy()
    weight[0] += np.int8(2) * (weight[0] < 100)
    q = np.full(x.shape, 127, np.uint8)
    for changed, inside in ((layer.weight, True), (weight, False)):
        got = quantized.from_uint8(q, QuantizedLayer(changed, layer.scale, layer.bias), conv)
        x = quantized.real(q).astype(np.float64)
        low, high = bounds(conv, given, layer, x)
        assert bool(((low <= got) & (got <= high)).all()) is inside
