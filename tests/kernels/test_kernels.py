"""Each kernel against loops at the edges of its shapes, to the bit, between guards.

The kernels promise one chain of fused multiply-adds per output, in a stated order that starts at the bias;
`naive.chain` computes it exactly. So results must be the same to the last bit whatever tile, row or panel gave them.
"""
import functools

import naive
import numpy as np
import pytest
from guarded import Guarded
from kernel_calls import (
    LANES,
    assert_bits,
    call_copy,
    call_depthwise,
    call_pointwise,
    call_pool,
    call_stem,
    call_zero,
    copy,
    depthwise_tiles,
    exact_depthwise,
    exact_pointwise,
    exact_pool,
    exact_stem,
    pointwise_tiles,
    poisoned,
    relu6_of,
    stem_tiles,
)
from tolerance import assert_close

from npefficient.kernels.layout import AVERAGE, AVERAGE_AND_MAXIMUM, MAXIMUM

PIXELS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 49]  # the largest tiles have 8, 6 or 4
CHANNELS = [8, 16, 24, 40, 56]  # with 16 lanes: half a vector, one, one and a half, ..
SIZES = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 9), (3, 3), (4, 4), (5, 4), (6, 7), (9, 8)]
NAN = np.float32(np.nan)


def size_id(size):
    return "x".join(map(str, size))


def noise(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape).astype(np.float32)


# --- pointwise -------------------------------------------------------------------------------------------------------


def pointwise_case(p, c, m):
    """x (P, C), weight (M, C), bias (M,), spread so that both ends of ReLU6 are met."""
    return 4 * noise(p, c), 2 * noise(m, c), 2 * noise(m)


@functools.cache
def linear_case(p, c, m):
    """The case, and its exact result without ReLU6."""
    case = pointwise_case(p, c, m)
    return case, exact_pointwise(*case, relu6=False)


@pytest.mark.parametrize("epilogue", ["relu6", "linear", "residual", "relu6_residual"])
@pytest.mark.parametrize("m", CHANNELS, ids="out_{}".format)
@pytest.mark.parametrize("c", [8, 16, 24, 320], ids="in_{}".format)
@pytest.mark.parametrize("p", PIXELS, ids="pixels_{}".format)
def test_pointwise(p, c, m, epilogue):
    (x, weight, bias), linear = linear_case(p, c, m)
    relu6 = epilogue.startswith("relu6")
    residual = noise(p, m, seed=1) if epilogue.endswith("residual") else None
    got, added = call_pointwise(Guarded, x, weight, bias, relu6, residual), 0 if residual is None else residual
    exact = naive.pointwise(x[None], weight[:, :, None, None])[0] + bias
    assert_close(got, ((naive.clip6(exact) if relu6 else exact) + added).astype(np.float32), c + 2)
    assert_bits(got, (relu6_of(linear) if relu6 else linear) + np.float32(added))


@pytest.mark.parametrize("vectors, half, pixels", pointwise_tiles())
def test_pointwise_every_tile(vectors, half, pixels):
    """As many pixels as one tile has, over one panel of so many vectors, the last one a half one or not."""
    m = vectors * LANES - half * LANES // 2
    (x, weight, bias), linear = linear_case(pixels, 24, m)
    residual = noise(pixels, m, seed=1)
    assert_bits(call_pointwise(Guarded, x, weight, bias, False, residual, [vectors]), linear + residual)
    assert_bits(call_pointwise(Guarded, x, weight, bias, True, None, [vectors]), relu6_of(linear))


def test_pointwise_as_wide_as_the_head():
    x, weight, bias = pointwise_case(7, 320, 1280)
    assert_bits(call_pointwise(Guarded, x, weight, bias), exact_pointwise(x, weight, bias))


SPLITS = pytest.mark.parametrize("sizes", [[3, 2], [2, 3], [1, 2, 2], [2, 2, 1], [1, 1, 1, 1, 1], [1, 3, 1]], ids=str)


@SPLITS
@pytest.mark.parametrize("m", [5 * LANES - LANES // 2, 5 * LANES], ids="out_{}".format)
def test_pointwise_bits_do_not_depend_on_panels(m, sizes):
    x, weight, bias = pointwise_case(10, 24, m)
    residual = noise(10, m, seed=1)
    got = call_pointwise(Guarded, x, weight, bias, True, residual, sizes)
    assert_bits(got, exact_pointwise(x, weight, bias, True, residual))


@SPLITS
def test_pointwise_writes_its_panel_only(sizes):
    m = 5 * LANES - LANES // 2
    x, weight, bias = pointwise_case(10, 16, m)
    exact = exact_pointwise(x, weight, bias)
    for i, size in enumerate(sizes):
        expected, first = poisoned(10, m), LANES * sum(sizes[:i])
        expected[:, first : first + LANES * size] = exact[:, first : first + LANES * size]
        assert_bits(call_pointwise(Guarded, x, weight, bias, sizes=sizes, only=i), expected)


@pytest.mark.parametrize("m", [24, 40], ids="out_{}".format)
def test_pointwise_bits_do_not_depend_on_the_tile(m):
    """The same pixels cut into runs of every length, so that each is computed by tiles of every size."""
    x, weight, bias = pointwise_case(23, 112, m)
    expected = call_pointwise(Guarded, x, weight, bias, False)
    for run in range(1, 23):
        got = [call_pointwise(Guarded, x[i : i + run], weight, bias, False) for i in range(0, 23, run)]
        assert_bits(np.concatenate(got), expected)


def test_pointwise_equal_pixels_and_channels_give_equal_bits():
    x, weight = np.repeat(noise(1, 80), 11, axis=0), np.repeat(noise(1, 80, seed=1), 40, axis=0)
    got = call_pointwise(Guarded, x, weight, np.repeat(noise(1), 40), False)
    assert len(set(got.view(np.int32).ravel().tolist())) == 1


def test_pointwise_without_pixels():
    """Without pixels nothing is read or written."""
    got = call_pointwise(Guarded, noise(0, 8), noise(24, 8), noise(24))
    assert got.shape == (0, 24)


# --- depthwise -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", CHANNELS, ids="channels_{}".format)
@pytest.mark.parametrize("stride", [1, 2], ids="s{}".format)
@pytest.mark.parametrize("kernel", [3, 5], ids="k{}".format)
@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_depthwise(size, kernel, stride, c):
    x, weight, bias = 4 * noise(*size, c), 2 * noise(c, 1, kernel, kernel), 2 * noise(c)
    got = call_depthwise(Guarded, x, weight, bias, stride)
    assert_close(got, naive.clip6(naive.depthwise(x, weight, stride) + bias).astype(np.float32), kernel**2 + 1)
    assert_bits(got, exact_depthwise(x, weight, bias, stride))


@pytest.mark.parametrize("width", range(1, 41), ids="width_{}".format)
@pytest.mark.parametrize("stride", [1, 2], ids="s{}".format)
@pytest.mark.parametrize("kernel", [3, 5], ids="k{}".format)
def test_depthwise_rows_of_every_width(kernel, stride, width):
    """Rows of one tile, of several tiles of one size, and of tiles of which some have a pixel more."""
    x, weight, bias = 4 * noise(3, width, LANES), 2 * noise(LANES, 1, kernel, kernel), 2 * noise(LANES)
    assert_bits(call_depthwise(Guarded, x, weight, bias, stride), exact_depthwise(x, weight, bias, stride))


@pytest.mark.parametrize("kernel, stride, pixels", depthwise_tiles())
def test_depthwise_every_tile(kernel, stride, pixels):
    """Rows with as many outputs as one tile."""
    x, weight, bias = 4 * noise(4, pixels * stride, LANES), 2 * noise(LANES, 1, kernel, kernel), 2 * noise(LANES)
    got = call_depthwise(Guarded, x, weight, bias, stride)
    assert got.shape[1] == pixels
    assert_bits(got, exact_depthwise(x, weight, bias, stride))


@pytest.mark.parametrize("kernel", [3, 5], ids="k{}".format)
def test_depthwise_equal_channels_give_equal_bits(kernel):
    x, weight = np.repeat(noise(6, 7, 1), 40, axis=2), np.repeat(noise(1, 1, kernel, kernel), 40, axis=0)
    got = call_depthwise(Guarded, x, weight, np.repeat(noise(1), 40), 1)
    assert_bits(got, np.repeat(got[:, :, :1], 40, axis=2))


@pytest.mark.parametrize("at_once", [1, 2, 3, 7], ids="rows_{}".format)
@pytest.mark.parametrize("stride", [1, 2], ids="s{}".format)
def test_depthwise_bits_do_not_depend_on_rows_at_once(stride, at_once):
    x, weight, bias = noise(9, 11, LANES), noise(LANES, 1, 5, 5), noise(LANES)
    got = call_depthwise(Guarded, x, weight, bias, stride, at_once)
    assert_bits(got, call_depthwise(Guarded, x, weight, bias, stride))


def test_depthwise_rows_of_a_part_give_equal_bits():
    """Output rows that see the same pixels have the same bits wherever their picture begins and ends."""
    x, weight, bias = noise(12, 9, 24), noise(24, 1, 5, 5), noise(24)
    whole, part = (call_depthwise(Guarded, picture, weight, bias, 1) for picture in (x, x[3:10]))
    assert_bits(part[2:5], whole[5:8])


# --- stem ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [1, 3, 4], ids="channels_{}".format)
@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_stem(size, c):
    x, weight, bias = 4 * noise(*size, c), 2 * noise(32, c, 3, 3), 2 * noise(32)
    got = call_stem(Guarded, x, weight, bias)
    assert_close(got, naive.clip6(naive.dense(x, weight, 2) + bias).astype(np.float32), 9 * c + 1)
    assert_bits(got, exact_stem(x, weight, bias))


@pytest.mark.parametrize("width", range(1, 41), ids="width_{}".format)
def test_stem_rows_of_every_width(width):
    x, weight, bias = 4 * noise(3, width, 3), 2 * noise(32, 3, 3, 3), 2 * noise(32)
    assert_bits(call_stem(Guarded, x, weight, bias), exact_stem(x, weight, bias))


@pytest.mark.parametrize("vectors, pixels", stem_tiles())
def test_stem_every_tile(vectors, pixels):
    """Of a picture with an even number of columns all but the last output see all of theirs."""
    m = vectors * LANES
    x, weight, bias = 4 * noise(3, 2 * pixels + 2, 3), 2 * noise(m, 3, 3, 3), 2 * noise(m)
    assert_bits(call_stem(Guarded, x, weight, bias, [vectors]), exact_stem(x, weight, bias))


@pytest.mark.parametrize("row", range(4))
def test_stem_writes_its_row_only(row):
    x, weight, bias = noise(7, 9, 3), noise(32, 3, 3, 3), noise(32)
    expected = poisoned(4, 5, 32)
    expected[row] = exact_stem(x, weight, bias)[row]
    assert_bits(call_stem(Guarded, x, weight, bias, rows=[row]), expected)


# --- pool, zeros and copies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [*CHANNELS, 1280], ids="channels_{}".format)
@pytest.mark.parametrize("p", [1, 2, 3, 49, 120], ids="pixels_{}".format)
@pytest.mark.parametrize("how", ["average", "maximum", "both"])
def test_pool(p, c, how):
    x = 6 * noise(p, c)
    number = [AVERAGE, MAXIMUM, AVERAGE_AND_MAXIMUM][["average", "maximum", "both"].index(how)]
    got = call_pool(Guarded, x, number)
    average = naive.mean_pixel(np.float64(x[None]))
    largest = np.array([max(channel) for channel in np.float64(x.T)])
    expected = {"average": average, "maximum": largest, "both": (average + largest) / 2}[how]
    assert_close(got, expected.astype(np.float32), p + 1)
    assert_bits(got, exact_pool(x, number))


@pytest.mark.parametrize("count", [-1, 0, 1, 2, 7, 33])
def test_zero(count):
    assert_bits(call_zero(Guarded, count), np.zeros((max(count, 0), LANES), np.float32))


@pytest.mark.parametrize("count", [-1, 0, 1, 2, 7, 33])
def test_copy(count):
    x = noise(34, LANES)
    x[0, :2] = -0.0, NAN
    expected = poisoned(34, LANES)
    expected[: max(count, 0)] = x[: max(count, 0)]
    assert_bits(call_copy(Guarded, x, count), expected)


@pytest.mark.parametrize("distance", [1, 2, 3, 8, 20, 21])
def test_copy_onto_what_lies_before_it(distance):
    """Rows are moved towards lower addresses by less than their length."""
    x = noise(41, LANES)
    placed = Guarded(x)
    copy(placed.address + distance * LANES * 4, placed.address, 20)
    placed.check()
    assert_bits(placed.array, np.concatenate([x[distance : distance + 20], x[20:]]))


# --- what went wrong before ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relu6", [True, False], ids=["relu6", "linear"])
def test_pointwise_keeps_nan_in_its_pixel(relu6):
    x, weight, bias = pointwise_case(19, 16, 40)
    x[7, 3] = NAN
    got, expected = call_pointwise(Guarded, x, weight, bias, relu6), exact_pointwise(x, weight, bias, relu6)
    assert np.isnan(got[7]).all()
    assert_bits(np.delete(got, 7, 0), np.delete(expected, 7, 0))


def test_depthwise_and_stem_and_pool_keep_nan():
    x = noise(7, 9, LANES)
    x[3, 4, 2] = NAN
    got = np.isnan(call_depthwise(Guarded, x, noise(LANES, 1, 3, 3), noise(LANES), 1))
    expected = np.zeros(x.shape, bool)
    expected[2:5, 3:6, 2] = True
    np.testing.assert_array_equal(got, expected)
    for how in (AVERAGE, MAXIMUM, AVERAGE_AND_MAXIMUM):
        np.testing.assert_array_equal(np.isnan(call_pool(Guarded, x.reshape(63, -1), how)), np.arange(LANES) == 2)
    got = np.isnan(call_stem(Guarded, x[:, :, :3], noise(32, 3, 3, 3), noise(32)))
    assert got.any(axis=2).sum() == 2 and got[1:3, 2].all()  # of rows 1 to 3 and 3 to 5, of columns 3 to 5
