"""Each kernel against loops at the edges of its shapes, to the bit, between guards and beside forbidden pages.

The kernels promise one chain of fused multiply-adds per output, in a stated order that starts at the bias; `naive.chain`
computes it exactly. So results must be the same to the last bit whatever tile, row or panel computed them.
"""
import os
import signal
import subprocess
import sys
from pathlib import Path

import kernel_calls
import naive
import numpy as np
import pytest
from guarded import GUARD, Guarded
from kernel_calls import LINEAR, RELU6, call_depthwise, call_pointwise, call_pool, call_stem, poisoned
from tolerance import assert_close

import npefficient

PIXELS = [1, 2, 3, 5, 6, 7, 12, 13, 49]  # tiles have 6, 3 and 1 pixels
SIZES = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 9), (3, 3), (4, 4), (5, 4), (6, 7), (9, 8)]


def size_id(size):
    return "x".join(map(str, size))


def noise(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape).astype(np.float32)


def assert_bits(got, expected):
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype) == (expected.shape, np.float32)
    different = np.argwhere(got.view(np.int32) != expected.view(np.int32))
    assert not len(different), f"{len(different)} of {got.size} values have other bits, the first at {different[0]}"


def clamp(x, bounds):
    return np.minimum(np.maximum(x, bounds[0]), bounds[1])


# --- pointwise -------------------------------------------------------------------------------------------------------


def pointwise_case(p, c, m):
    """x (P, C), weight (M, C), bias (M,), spread so that both ends of ReLU6 are met."""
    return 4 * noise(p, c), 2 * noise(m, c), 2 * noise(m)


def pointwise_chain(x, weight, bias):
    start = np.broadcast_to(bias, (len(x), len(bias)))
    return naive.chain(start, ((x[:, k, None], weight[None, :, k]) for k in range(x.shape[1])))


@pytest.mark.parametrize("epilogue", ["relu6", "linear", "residual", "relu6_residual"])
@pytest.mark.parametrize("m", [8, 16, 24, 40], ids="out_{}".format)
@pytest.mark.parametrize("c", [8, 16, 24, 320], ids="in_{}".format)
@pytest.mark.parametrize("p", PIXELS, ids="pixels_{}".format)
def test_pointwise(p, c, m, epilogue):
    x, weight, bias = pointwise_case(p, c, m)
    bounds = RELU6 if epilogue.startswith("relu6") else LINEAR
    residual = noise(p, m, seed=1) if epilogue.endswith("residual") else None
    got = call_pointwise(Guarded, x, weight, bias, bounds, residual)
    added = 0 if residual is None else residual
    exact = clamp(naive.pointwise(x[None], weight[:, :, None, None])[0] + bias, np.float64(bounds)) + added
    assert_close(got, exact.astype(np.float32), c + 2)
    assert_bits(got, clamp(pointwise_chain(x, weight, bias), bounds) + np.float32(added))


def test_pointwise_as_wide_as_the_head():
    x, weight, bias = pointwise_case(7, 320, 1280)
    got = call_pointwise(Guarded, x, weight, bias, RELU6)
    assert_bits(got, clamp(pointwise_chain(x, weight, bias), RELU6))


@pytest.mark.parametrize("first, last", [(0, 1), (1, 2), (2, 3), (0, 2), (1, 3), (0, 0), (3, 3)])
def test_pointwise_writes_its_panels_only(first, last):
    x, weight, bias = pointwise_case(10, 16, 40)  # panels of 16, 16 and 8 channels
    got = call_pointwise(Guarded, x, weight, bias, LINEAR, panels=[(first, last)])
    expected = poisoned(10, 40)
    expected[:, 16 * first : 16 * last] = pointwise_chain(x, weight, bias)[:, 16 * first : 16 * last]
    assert_bits(got, expected)


@pytest.mark.parametrize("panels", [[(0, 3)], [(0, 1), (1, 3)], [(2, 3), (0, 2)], [(1, 2), (2, 3), (0, 1)]], ids=str)
def test_pointwise_bits_do_not_depend_on_panels(panels):
    x, weight, bias = pointwise_case(10, 24, 40)
    got = call_pointwise(Guarded, x, weight, bias, RELU6, noise(10, 40), panels)
    assert_bits(got, call_pointwise(Guarded, x, weight, bias, RELU6, noise(10, 40)))


@pytest.mark.parametrize("m", [24, 40], ids="out_{}".format)
def test_pointwise_bits_do_not_depend_on_the_tile(m):
    """The same pixels cut into runs of every length, so that each is computed by tiles of 6, 3 and 1."""
    x, weight, bias = pointwise_case(23, 112, m)
    expected = call_pointwise(Guarded, x, weight, bias, LINEAR)
    for run in range(1, 23):
        got = [call_pointwise(Guarded, x[i : i + run], weight, bias, LINEAR) for i in range(0, 23, run)]
        assert_bits(np.concatenate(got), expected)


def test_pointwise_equal_pixels_and_channels_give_equal_bits():
    x, weight = np.repeat(noise(1, 80), 11, axis=0), np.repeat(noise(1, 80, seed=1), 24, axis=0)
    got = call_pointwise(Guarded, x, weight, np.repeat(noise(1), 24), LINEAR)
    assert len(set(got.view(np.int32).ravel().tolist())) == 1


# --- depthwise -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [8, 24, 32, 40, 96], ids="channels_{}".format)
@pytest.mark.parametrize("stride", [1, 2], ids="s{}".format)
@pytest.mark.parametrize("kernel", [3, 5], ids="k{}".format)
@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_depthwise(size, kernel, stride, c):
    x, weight, bias = 4 * noise(*size, c), 2 * noise(c, 1, kernel, kernel), 2 * noise(c)
    got = call_depthwise(Guarded, x, weight, bias, RELU6, stride)
    assert_close(got, naive.clip6(naive.depthwise(x, weight, stride) + bias).astype(np.float32), kernel**2 + 1)
    assert_bits(got, clamp(naive.depthwise_chain(x, weight, bias, stride), RELU6))


@pytest.mark.parametrize("width", [*range(4, 23), 33, 40], ids="width_{}".format)
@pytest.mark.parametrize("stride", [1, 2], ids="s{}".format)
@pytest.mark.parametrize("kernel", [3, 5], ids="k{}".format)
def test_depthwise_tiles_give_the_bits_of_single_pixels(kernel, stride, width):
    """Rows of one tile of 4 or 8 outputs, of several, of one more or less, and of a last one moved back."""
    x, weight, bias = 4 * noise(3, width, 16), 2 * noise(16, 1, kernel, kernel), 2 * noise(16)
    got = call_depthwise(Guarded, x, weight, bias, RELU6, stride)
    assert_bits(got, clamp(naive.depthwise_chain(x, weight, bias, stride), RELU6))


@pytest.mark.parametrize("kernel", [3, 5], ids="k{}".format)
@pytest.mark.parametrize("c", [40, 96, 104], ids="channels_{}".format)
def test_depthwise_equal_channels_give_equal_bits(kernel, c):
    """Channels are computed four vectors at a time, the last ones by one."""
    x, weight = np.repeat(noise(6, 7, 1), c, axis=2), np.repeat(noise(1, 1, kernel, kernel), c, axis=0)
    got = call_depthwise(Guarded, x, weight, np.repeat(noise(1), c), LINEAR, 1)
    assert_bits(got, np.repeat(got[:, :, :1], c, axis=2))


def test_depthwise_rows_of_a_part_give_equal_bits():
    """Output rows that see the same pixels have the same bits wherever their picture begins and ends."""
    x, weight, bias = noise(12, 9, 24), noise(24, 1, 5, 5), noise(24)
    whole, part = (call_depthwise(Guarded, picture, weight, bias, LINEAR, 1) for picture in (x, x[3:10]))
    assert_bits(part[2:5], whole[5:8])


# --- stem and pool ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [1, 3, 4], ids="channels_{}".format)
@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_stem(size, c):
    x, weight, bias = 4 * noise(*size, c), 2 * noise(32, c, 3, 3), 2 * noise(32)
    got = call_stem(Guarded, x, weight, bias, RELU6)
    assert_close(got, naive.clip6(naive.dense(x, weight, 2) + bias).astype(np.float32), 9 * c + 1)
    assert_bits(got, clamp(naive.dense_chain(x, weight, bias, 2), RELU6))


@pytest.mark.parametrize("c", [8, 24, 1280], ids="channels_{}".format)
@pytest.mark.parametrize("p", [1, 2, 3, 49, 120], ids="pixels_{}".format)
def test_pool(p, c):
    x = 6 * noise(p, c)
    got, total = call_pool(Guarded, x), np.zeros(c, np.float32)
    for pixel in x:
        total += pixel
    assert_close(got, naive.mean_pixel(np.float64(x[None])).astype(np.float32), p + 1)
    assert_bits(got, total * np.float32(1 / p))


# --- the guards can fail ---------------------------------------------------------------------------------------------


def test_assert_bits_can_fail():
    ones = np.ones((2, 3), np.float32)
    assert_bits(ones, ones.copy())
    with pytest.raises(AssertionError, match=r"1 of 6 values have other bits, the first at \[1 2\]"):
        assert_bits(np.where([[1, 1, 1], [1, 1, 0]], ones, np.nextafter(ones, 2 * ones)), ones)
    with pytest.raises(AssertionError, match="6 of 6 values have other bits"):
        assert_bits(-0.0 * ones, 0.0 * ones)
    with pytest.raises(AssertionError, match="float64"):
        assert_bits(np.ones((2, 3)), ones)
    with pytest.raises(AssertionError, match=r"\(1, 3\)"):
        assert_bits(ones[:1], ones)


@pytest.mark.parametrize("where, shift, first", [("before", -8, GUARD - 8), ("behind", 8, 0)])
def test_guard_shows_a_write_outside(where, shift, first):
    x, share, out = Guarded(noise(5, 16)), Guarded([0.2]), Guarded(poisoned(16))
    kernel_calls.pool(x.address, 64, 5, share.address, out.address + 4 * shift, 2)
    with pytest.raises(AssertionError, match=f"8 floats written {where} the array, the first at {first} of {GUARD}"):
        out.check()


def test_guard_shows_a_write_of_zero():
    placed = Guarded(np.ones(3))
    placed.check()
    placed._block[-1] = 0.0
    with pytest.raises(AssertionError, match="1 floats written behind"):
        placed.check()


def test_guard_shows_a_write_of_poison():
    """A pixel too many is read from one guard and written to another: NaN over NaN."""
    x, weight, bias, bounds, out = map(Guarded, (noise(5, 8), noise(8, 8), noise(8), RELU6, poisoned(5, 8)))
    kernel_calls.pointwise(x.address, 8, weight.address, bias.address, bounds.address, 0, 0, out.address, 8, 6, 0, 1)
    with pytest.raises(AssertionError, match=f"8 floats written behind the array, the first at 0 of {GUARD}"):
        out.check()


@pytest.mark.parametrize("height, width", [(4, 3), (3, 4)], ids=["a_row_too_many", "a_column_too_many"])
def test_guard_shows_a_read_outside(height, width):
    """Poison gets through a kernel's ReLU6: nothing hides it."""
    x, weight, bias, bounds = (Guarded(a) for a in (noise(3, 3, 8), np.ones((3, 3, 8)), np.zeros(8), RELU6))
    out = Guarded(poisoned(height, width, 8))
    for q in range(height):
        kernel_calls.depthwise_row(x.address, height, width, 8, weight.address, bias.address, bounds.address,
                                   out.address + q * width * 32, q, width, 3, 1, 1, 1)
    assert np.isnan(out.array).any() and not np.isnan(out.array[0, 0]).any()


def test_guard_shows_an_input_that_was_changed():
    x = noise(1, 8)
    placed, share = Guarded(x), Guarded([1])
    kernel_calls.pool(placed.address, 32, 1, share.address, placed.address, 1)  # onto itself: the same values
    assert_bits(kernel_calls.checked(Guarded(x), (placed, x)), x)
    placed.array[0, 0] = 7
    with pytest.raises(AssertionError, match="a kernel changed its input"):
        kernel_calls.checked(Guarded(x), (placed, x))


# --- forbidden pages -------------------------------------------------------------------------------------------------


def run_beside_forbidden_pages(how):
    root = Path(npefficient.__file__).parent.parent
    return subprocess.run([sys.executable, kernel_calls.__file__, how], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": str(root)})


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="forbidden pages: needs Linux's mprotect")


@needs_linux
def test_kernels_stay_inside_their_pages():
    result = run_beside_forbidden_pages("sound")
    assert result.returncode == 0, f"ended with {result.returncode}: {result.stderr}"
    assert result.stdout == 2 * "depthwise 56 pointwise 36 pool 7 stem 21\n"


@needs_linux
@pytest.mark.parametrize("how", ["before", "behind"])
def test_forbidden_pages_can_fail(how):
    result = run_beside_forbidden_pages(how)
    assert (result.returncode, result.stdout) == (-signal.SIGSEGV, "about to read too far\n")
