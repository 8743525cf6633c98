"""The plain network: its layers by hand and against loops, folded and unfolded; the whole against loops and timm."""
import functools
from fractions import Fraction

import naive
import numpy as np
import pytest
from live import calibrated, logits, needs_timm
from make_golden import golden_parameters
from tolerance import LOGITS, assert_close

from npefficient.network import reference
from npefficient.network.architecture import BN_EPS, build
from npefficient.network.folded_network import FoldedNetwork
from npefficient.network.folding import fold_batch_norm

SHORT = [f"lite{i}" for i in range(5)]
DTYPES = [np.float32, np.float64]
KIND = pytest.mark.parametrize("kind", [reference.Network, FoldedNetwork], ids=["unfolded", "folded"])
DTYPE = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])


def numbers(*shape):
    """1, 2, 3 .. in the given shape."""
    return np.arange(1.0, np.prod(shape) + 1).reshape(shape)


def noise(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape)


def pictures(function, x, *arguments):
    """A function of one picture, applied to each of a batch."""
    return np.stack([function(picture, *arguments) for picture in x])


# --- by hand: small whole numbers, so every result is exact ----------------------------------------------------------

ONES = np.ones((1, 1, 3, 3))
NINE = numbers(1, 1, 3, 3)  # 1 2 3 / 4 5 6 / 7 8 9: no symmetry hides a flipped axis


@DTYPE
@pytest.mark.parametrize("conv", [reference.dense_conv, reference.depthwise_conv, naive.dense, naive.depthwise],
                         ids=["dense", "depthwise", "naive_dense", "naive_depthwise"])
@pytest.mark.parametrize("x, weight, stride, expected", [
    pytest.param(numbers(3, 3), ONES, 1, [[12, 21, 16], [27, 45, 33], [24, 39, 28]], id="sums_s1"),
    pytest.param(numbers(4, 4), ONES, 2, [[54, 45], [72, 54]], id="sums_s2_even_pads_after"),
    pytest.param(numbers(3, 3), ONES, 2, [[12, 16], [24, 28]], id="sums_s2_odd_pads_both"),
    pytest.param([[1, 0, 0], [0, 0, 0], [0, 0, 0]], NINE, 1, [[5, 4, 0], [2, 1, 0], [0, 0, 0]], id="not_flipped"),
    pytest.param([[0, 1, 0]], NINE, 1, [[6, 5, 4]], id="one_row"),
    pytest.param([[0], [1]], NINE, 1, [[8], [5]], id="one_column"),
    pytest.param([[2]], NINE, 2, [[10]], id="one_pixel_is_the_centre"),
    pytest.param([[1, 10], [100, 1000]], NINE, 2, [[1 + 20 + 400 + 5000]], id="s2_even_starts_at_the_first_tap"),
    pytest.param([[3]], numbers(1, 1, 5, 5), 1, [[39]], id="k5_one_pixel"),
    pytest.param([[1, 10]], numbers(1, 1, 5, 5), 2, [[12 + 130]], id="k5s2_even"),
    pytest.param(np.eye(3), numbers(1, 1, 5, 5), 2, [[13 + 19 + 25, 11 + 17 + 23], [3 + 9 + 15, 1 + 7 + 13]],
                 id="k5s2_odd"),
])
def test_conv_by_hand(conv, x, weight, stride, expected, dtype):
    x, weight = np.array(x, dtype)[..., None], weight.astype(dtype)
    got = conv(x[None], weight, stride)[0] if conv.__module__ == reference.__name__ else conv(x, weight, stride)
    np.testing.assert_array_equal(got[..., 0], np.array(expected))


@DTYPE
def test_dense_conv_by_hand_mixes_channels(dtype):
    x = np.array([1, 10, 100], dtype).reshape(1, 1, 1, 3)
    weight = np.zeros((2, 3, 3, 3), dtype)
    weight[:, :, 1, 1] = [[1, 2, 3], [4, 5, 6]]
    np.testing.assert_array_equal(reference.dense_conv(x, weight, 1), np.array([321, 654], dtype).reshape(1, 1, 1, 2))


@DTYPE
def test_depthwise_conv_by_hand_keeps_channels_apart(dtype):
    x = np.array([1, 10, 100], dtype).reshape(1, 1, 1, 3)
    weight = np.zeros((3, 1, 3, 3), dtype)
    weight[:, 0, 1, 1] = [1, 2, 3]
    expected = np.array([1, 20, 300], dtype).reshape(1, 1, 1, 3)
    np.testing.assert_array_equal(reference.depthwise_conv(x, weight, 1), expected)


@DTYPE
def test_pointwise_conv_by_hand(dtype):
    x = np.array([[1, 10], [2, 20]], dtype).reshape(1, 2, 1, 2)
    weight = np.array([[1, 2], [3, 4], [5, 6]], dtype).reshape(3, 2, 1, 1)
    expected = np.array([[21, 43, 65], [42, 86, 130]], dtype).reshape(1, 2, 1, 3)
    np.testing.assert_array_equal(reference.pointwise_conv(x, weight), expected)


@DTYPE
def test_pad_same_by_hand(dtype):
    got = reference.pad_same(np.array([[5, 6]], dtype).reshape(1, 1, 2, 1), 3, 2)
    expected = np.array([[0, 0, 0], [5, 6, 0], [0, 0, 0]], dtype)
    np.testing.assert_array_equal(got[0, :, :, 0], expected)
    assert got.dtype == dtype


@DTYPE
def test_batch_norm_by_hand(dtype):
    x = np.array([[7, 7, 7], [1, 2, 3]], dtype)
    variance = np.array([0.25, 4.0, 16.0]) - BN_EPS  # deviations 1/2, 2 and 4
    vectors = (np.array(v, dtype) for v in ([1, 3, -2], [0, 10, 1], [5, 1, -1], variance))
    np.testing.assert_array_equal(reference.batch_norm(x, *vectors), np.array([[4, 19, -3], [-8, 11.5, -1]], dtype))


@DTYPE
def test_relu6_by_hand(dtype):
    x = np.array([-np.inf, -1, -0.0, 0, 0.5, 6, np.nextafter(6, 7), 100, np.inf, np.nan], dtype)
    expected = np.array([0, 0, 0, 0, 0.5, 6, 6, 6, 6, np.nan], dtype)
    np.testing.assert_array_equal(reference.relu6(x), expected)


@DTYPE
def test_global_average_pool_by_hand(dtype):
    x = np.array([1, 2, 3, 6, 0, 8, 0, 0], dtype).reshape(1, 2, 2, 2)
    np.testing.assert_array_equal(reference.global_average_pool(x), np.array([[1, 4]], dtype))


@DTYPE
def test_linear_by_hand(dtype):
    x, weight = np.array([[1, 10]], dtype), np.array([[1, 2], [3, 4], [5, 6]], dtype)
    bias = np.array([100, 200, 300], dtype)
    np.testing.assert_array_equal(reference.linear(x, weight, bias), np.array([[121, 243, 365]], dtype))


def test_naive_fused_rounds_once():
    """The oracle's own multiply-add, against exact fractions."""
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(-2, 2, 2000).astype(np.float32) for _ in range(2))
    near = (-a * b * (1 + rng.integers(-3, 4, 2000) * 2.0**-24)).astype(np.float32)  # nearly everything cancels
    for c in (near, rng.uniform(-2, 2, 2000).astype(np.float32), rng.uniform(-1e-9, 1e-9, 2000).astype(np.float32)):
        got = naive.fused(a, b, c)
        assert (got != a * b + c).any(), "these numbers tell one rounding from two"
        for p, q, r, s in zip(a, b, c, got):
            exact = Fraction(float(p)) * Fraction(float(q)) + Fraction(float(r))
            error = abs(Fraction(float(s)) - exact)
            for neighbour in np.nextafter(s, np.float32([-9, 9])):
                assert error <= abs(Fraction(float(neighbour)) - exact)


# --- against loops ---------------------------------------------------------------------------------------------------

SIZES = pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (3, 1), (4, 5), (7, 6)],
                                ids=lambda s: f"{s[0]}x{s[1]}")


@DTYPE
@SIZES
@pytest.mark.parametrize("kernel", [1, 3, 5], ids="k{}".format)
@pytest.mark.parametrize("stride", [1, 2], ids="s{}".format)
def test_conv_equals_naive(size, kernel, stride, dtype):
    x = noise(2, *size, 4).astype(dtype)
    wide, each = noise(5, 4, kernel, kernel).astype(dtype), noise(4, 1, kernel, kernel).astype(dtype)
    expected = pictures(naive.dense, x, wide, stride).astype(dtype)
    assert_close(reference.dense_conv(x, wide, stride), expected, 4 * kernel**2)
    expected = pictures(naive.depthwise, x, each, stride).astype(dtype)
    assert_close(reference.depthwise_conv(x, each, stride), expected, kernel**2)


@DTYPE
@SIZES
def test_layers_equal_naive(size, dtype):
    x = 5 * noise(2, *size, 24).astype(dtype)
    weight = noise(7, 24, 1, 1).astype(dtype)
    assert_close(reference.pointwise_conv(x, weight), pictures(naive.pointwise, x, weight).astype(dtype), 24)
    vectors = [v.astype(dtype) for v in (noise(24), noise(24, seed=1), noise(24, seed=2), noise(24, seed=3) + 1.5)]
    assert_close(reference.batch_norm(x, *vectors), pictures(naive.normalise, x, *vectors).astype(dtype), 4)
    np.testing.assert_array_equal(reference.relu6(x), naive.clip6(x))
    pooled = pictures(naive.mean_pixel, np.float64(x))
    assert_close(reference.global_average_pool(x), pooled.astype(dtype), size[0] * size[1])
    matrix, bias = weight[:, :, 0, 0], noise(7).astype(dtype)
    got = reference.linear(pooled.astype(dtype), matrix, bias)
    assert_close(got, pictures(naive.matrix, pooled, matrix, bias).astype(dtype), 25)


# --- folding ---------------------------------------------------------------------------------------------------------


def folding_case(dtype, gain=1.0, variance=1.0):
    """conv weight (6, 4, 3, 3), and the four vectors of the batch norm after it."""
    weight = noise(6, 4, 3, 3)
    vectors = gain * noise(6, seed=1), noise(6, seed=2), noise(6, seed=3), variance * (noise(6, seed=4) + 1.5)
    return [array.astype(dtype) for array in (weight, *vectors)]


@pytest.mark.parametrize("dtype", [np.float16, *DTYPES])
@pytest.mark.parametrize("gain, variance", [
    pytest.param(1.0, 1.0, id="ordinary"), pytest.param(1.0, 0.0, id="no_variance"),
    pytest.param(0.0, 1.0, id="no_gain"), pytest.param(-3.0, 100.0, id="negative_gain"),
])
def test_fold_batch_norm_equals_conv_then_norm(dtype, gain, variance):
    """The folded convolution is the same function; folding is done in float64 for any input dtype."""
    weight, *vectors = folding_case(dtype, gain, variance)
    folded, bias = fold_batch_norm(weight, *vectors)
    assert folded.dtype == bias.dtype == np.float64 and (folded.shape, bias.shape) == (weight.shape, (6,))
    x = noise(2, 4, 5, 4)
    expected = pictures(naive.normalise, pictures(naive.dense, x, weight, 2), *vectors)
    assert_close(reference.dense_conv(x, folded, 2) + bias, expected, 36)


def test_fold_batch_norm_by_hand():
    weight = np.array([1.0, -2.0], np.float32).reshape(2, 1, 1, 1)
    vectors = [np.array(v, np.float64) for v in ([6, 5], [1, 2], [10, 20], np.array([4.0, 0.25]) - BN_EPS)]
    folded, bias = fold_batch_norm(weight, *vectors)  # scales 3 and 10
    np.testing.assert_array_equal(folded.ravel(), [3, -20])
    np.testing.assert_array_equal(bias, [1 - 30, 2 - 200])


def test_fold_leaves_the_parameters_alone():
    network, values = build("lite0", 10), weights("lite0", 10)
    before = {name: array.copy() for name, array in values.items()}
    FoldedNetwork(network, values)(np.zeros((1, 5, 5, 3), np.float32))
    for name, array in before.items():
        np.testing.assert_array_equal(values[name], array)


# --- the whole network -----------------------------------------------------------------------------------------------

TINY = [("lite0", (9, 13)), ("lite1", (33, 47)), ("lite2", (1, 1)), ("lite2", (17, 2)), ("lite3", (19, 38)),
        ("lite4", (2, 2)), ("lite4", (33, 47))]  # fmt: skip


@functools.cache
def weights(short, classes=1000, colours=3):
    return golden_parameters(naive.shapes(short, classes, colours))


@functools.cache
def naive_logits(short, size, classes=1000, colours=3):
    values, x = weights(short, classes, colours), np.float32(noise(2, *size, colours))
    return pictures(lambda picture: naive.network(short, values, picture), x)


def run(short, x, dtype, kind, values, classes=1000, colours=3):
    return kind(build(short, classes, colours), values, dtype)(x)


@DTYPE
@KIND
@pytest.mark.parametrize("short, size", TINY, ids=lambda v: v if isinstance(v, str) else f"{v[0]}x{v[1]}")
def test_network_equals_naive(short, size, kind, dtype):
    x = np.float32(noise(2, *size, 3)).astype(dtype)
    got = run(short, x, dtype, kind, weights(short))
    assert_close(got, naive_logits(short, size).astype(dtype), LOGITS)


@DTYPE
@KIND
@pytest.mark.parametrize("classes, colours", [(10, 1), (1, 4)])
def test_network_with_other_classes_and_channels_equals_naive(classes, colours, kind, dtype):
    x = np.float32(noise(2, 9, 13, colours)).astype(dtype)
    got = run("lite0", x, dtype, kind, weights("lite0", classes, colours), classes, colours)
    assert_close(got, naive_logits("lite0", (9, 13), classes, colours).astype(dtype), LOGITS)


def test_network_equals_naive_can_fail():
    """A wrong epsilon, padding or skip would be detected: it changes the logits by far more than the tolerance."""
    x, values = np.float32(noise(2, 9, 13, 3)), dict(weights("lite0"))
    values["blocks.3.1.bn2.running_var"] = values["blocks.3.1.bn2.running_var"] * np.float32(1.001)
    with pytest.raises(AssertionError, match="they differ by"):
        assert_close(run("lite0", x, np.float32, reference.Network, values),
                     naive_logits("lite0", (9, 13)).astype(np.float32), LOGITS)


@DTYPE
@KIND
def test_network_keeps_its_dtype_in_every_layer(kind, dtype, monkeypatch):
    seen = set()
    conv = kind.conv

    def watched(self, x, layer):
        result = conv(self, x, layer)
        seen.update((x.dtype.name, result.dtype.name))
        return result

    monkeypatch.setattr(kind, "conv", watched)
    got = run("lite0", noise(1, 5, 4, 3).astype(dtype), dtype, kind, weights("lite0"))
    assert seen == {got.dtype.name} == {np.dtype(dtype).name}


@KIND
def test_network_pictures_do_not_see_each_other(kind):
    x = np.float32(noise(3, 9, 6, 3))
    together = run("lite0", x, np.float64, kind, weights("lite0"))
    alone = np.concatenate([run("lite0", x[i : i + 1], np.float64, kind, weights("lite0")) for i in range(3)])
    assert_close(together, alone, LOGITS)


@needs_timm
@KIND
@pytest.mark.parametrize("size", [(33, 47), (1, 1)], ids=["33x47", "1x1"])
@pytest.mark.parametrize("short", SHORT)
def test_network_equals_timm(short, size, kind):
    model, x = calibrated(short), np.float32(noise(2, *size, 3))
    values = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    expected = logits(model, x)
    assert np.abs(expected).max() > 0.1, "logits of ordinary size, or the comparison says nothing"
    assert_close(run(short, x, np.float32, kind, values), expected, LOGITS)
