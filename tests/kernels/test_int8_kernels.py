"""The kernels of integers: equal to integer sums in NumPy to the last bit, with values of 8 and of 16 bits."""
import numpy as np
import pytest
from int8_calls import (
    LAYOUTS,
    call_depthwise,
    call_pointwise,
    call_pool,
    call_quantize,
    expected_depthwise,
    expected_pointwise,
    expected_pool,
    expected_quantize,
)

from npefficient.kernels.layout import AVERAGE, AVERAGE_AND_MAXIMUM, MAXIMUM

each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
F = np.float32


def rng(*seed):
    return np.random.default_rng(seed)


def pointwise_case(p, k, m):
    r = rng(p, k, m)
    x, weight = r.integers(0, 256, (p, k)).astype(np.uint8), r.integers(-127, 128, (m, k)).astype(np.int8)
    start = (-128 * weight.sum(1, dtype=np.int64)).astype(np.int32)
    size = 60 * k**0.5 * 127
    factor, bias = r.uniform(0.5, 2, m).astype(F) * F(150 / size), r.uniform(-20, 200, m).astype(F)
    return x, weight, start, factor, bias


@each_layout
@pytest.mark.parametrize("p, k, m", [(1, 8, 8), (7, 16, 96), (8, 24, 144), (9, 24, 40), (23, 40, 24), (5, 80, 16),
                                     (17, 112, 64), (2, 672, 48), (1, 1280, 1000), (13, 8, 72)], ids=str)
def test_pointwise(layout, p, k, m):
    x, weight, start, factor, bias = case = pointwise_case(p, k, m)
    scale, residual = F(rng(p).uniform(0.5, 2)), rng(m).uniform(-9, 9, (p, m)).astype(F)
    expected = expected_pointwise(*case)
    assert len(np.unique(expected)) > 3, "neither all 0 nor all 255"
    np.testing.assert_array_equal(call_pointwise(layout, *case), expected)
    np.testing.assert_array_equal(call_pointwise(layout, *case, scale), expected_pointwise(*case, scale))
    for more in (None, residual):
        got = call_pointwise(layout, *case, scale, relu6=False, residual=more)
        np.testing.assert_array_equal(got, expected_pointwise(*case, scale, False, more))


@each_layout
@pytest.mark.parametrize("x, weight", [(255, 127), (255, -127), (0, 127)])
def test_largest_sums(layout, x, weight):
    """2560 products of the largest values: beyond 2**24, where a float32 rounds, and no instruction may saturate."""
    p, k, m = 3, 2560, 24
    case = (np.full((p, k), x, np.uint8), np.full((m, k), weight, np.int8), np.zeros(m, np.int32),
            np.full(m, 1e-3, F), np.full(m, 0.25, F))
    np.testing.assert_array_equal(call_pointwise(layout, *case, relu6=False), expected_pointwise(*case, relu6=False))


@each_layout
@pytest.mark.parametrize("bias, expected", [
    (-0.5, 0), (0.5, 0), (1.5, 2), (2.5, 2), (254.5, 254), (254.50002, 255), (300, 255), (32768.0, 255),
    (65536.0, 255), (2.0**30, 255), (-(2.0**30), 0), (2.0**31 - 128, 255), (-3e38, 0), (5e-46, 0)], ids=str)
def test_rounding_and_clamping(layout, bias, expected):
    """Numbers beyond an int16 among them; those beyond an int32 can't come from weights that were checked."""
    for p in range(1, 10):
        case = (np.zeros((p, 8), np.uint8), np.zeros((8, 8), np.int8), np.zeros(8, np.int32), np.ones(8, F),
                np.full(8, bias, F))
        np.testing.assert_array_equal(call_pointwise(layout, *case), np.full((p, 8), expected))


@each_layout
@pytest.mark.parametrize("kernel, stride", [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("columns", [1, 2, 3, 7, 8, 9, 14, 28])
def test_depthwise(layout, kernel, stride, columns):
    r = rng(kernel, stride, columns)
    x = r.integers(0, 256, (2 * stride + kernel, (columns - 1) * stride + kernel, layout.lanes)).astype(np.uint8)
    weight = r.integers(-127, 128, (layout.lanes, kernel, kernel)).astype(np.int8)
    factor = r.uniform(0.5, 2, layout.lanes).astype(F) * F(100 / (kernel * 127 * 128))
    bias = r.uniform(-20, 200, layout.lanes).astype(F)
    expected = expected_depthwise(x, weight, factor, bias, stride)
    assert len(np.unique(expected)) > 3
    np.testing.assert_array_equal(call_depthwise(layout, x, weight, factor, bias, stride), expected)


@each_layout
@pytest.mark.parametrize("p, c", [(1, 16), (5, 24), (9, 40), (3, 8), (2, 192), (1, 1280)])
def test_quantize(layout, p, c):
    x = rng(p, c).standard_normal((p, c)).astype(F) * F(3)
    got, scale = call_quantize(layout, x)
    expected, expected_scale = expected_quantize(x)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(scale, expected_scale)
    assert got.min() >= 1 and np.abs(got.astype(int) - 128).max() == 127


@each_layout
@pytest.mark.parametrize("values", [[0.0] * 8, [1e-45] * 8, [-1e-38, 0, 0, 0, 0, 0, 0, 1e-38], [3e37, -3e37] * 4,
                                    [127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -127.0, 63.5]], ids=str)
def test_quantize_at_the_edges(layout, values):
    """Nothing but zeros, subnormal and huge values, and ties."""
    x = np.array([values, values], F)
    got, scale = call_quantize(layout, x)
    expected, expected_scale = expected_quantize(x)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(scale, expected_scale)


@each_layout
@pytest.mark.parametrize("how", [AVERAGE, MAXIMUM, AVERAGE_AND_MAXIMUM])
@pytest.mark.parametrize("p, c", [(1, 16), (49, 32), (100, 24), (90000, 8)], ids=str)
def test_pool(layout, how, p, c):
    x = rng(p, c).integers(0, 256, (p, c)).astype(np.uint8)
    np.testing.assert_array_equal(call_pool(layout, how, x), expected_pool(how, x))
