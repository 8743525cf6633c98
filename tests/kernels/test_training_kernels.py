"""The kernels of training against their formulas in NumPy, in float64, on several processors' vectors."""
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from layouts import LANES, PROCESSORS
from tolerance import assert_close
from training_calls import (
    LAYOUTS,
    call_activate,
    call_activate_gradient,
    call_depthwise_gradient,
    call_moments,
    call_normalise_gradient,
    call_pointwise_gradient,
    call_stem_gradient,
)

each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
each_count = pytest.mark.parametrize("pixels", [1, 3, 4, 5, 49, 196])
F = np.float32


def normal(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(F)


@each_layout
@pytest.mark.parametrize("p, k, m", [(1, 8, 8), (5, 16, 96), (49, 24, 144), (7, 40, 24), (196, 8, 72), (3, 192, 48)])
def test_pointwise_gradient(layout, p, k, m):
    x, dy, before = normal(p, k), normal(p, m), normal(k, m)
    expected = x.T.astype(np.float64) @ dy + before
    assert_close(call_pointwise_gradient(layout, x, dy, before), expected.astype(F), p + 1)


def test_pointwise_gradients_have_the_same_bits_on_every_processor():
    x, dy = normal(49, 24), normal(49, 40)
    one, *others = (call_pointwise_gradient(layout, x, dy, np.zeros((24, 40), F)) for layout in LAYOUTS.values())
    for other in others:
        np.testing.assert_array_equal(one, other)


@each_layout
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("q, r", [(1, 1), (2, 3), (7, 14)])
def test_depthwise_gradient(layout, kernel, stride, q, r):
    x, dy = normal((q - 1) * stride + kernel, (r - 1) * stride + kernel, layout.lanes), normal(q, r, layout.lanes)
    before, wide = normal(kernel, kernel, layout.lanes), x.astype(np.float64)
    expected = [[(wide[i : i + (q - 1) * stride + 1 : stride, j : j + (r - 1) * stride + 1 : stride] * dy).sum((0, 1))
                 for j in range(kernel)] for i in range(kernel)] + before
    assert_close(call_depthwise_gradient(layout, x, dy, before, stride), expected.astype(F), q * r + 1)


@each_layout
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("q, r", [(1, 1), (3, 5)])
def test_stem_gradient(layout, channels, q, r):
    x, dy = normal(2 * q + 1, 2 * r + 1, channels), normal(q, r, 32)
    expected = np.array([[np.tensordot(x[i : i + 2 * q - 1 : 2, j : j + 2 * r - 1 : 2].astype(np.float64), dy,
                                       ((0, 1), (0, 1))) for j in range(3)] for i in range(3)])
    assert_close(call_stem_gradient(layout, x, dy), expected.astype(F), q * r)


@each_layout
@each_count
def test_activate(layout, pixels):
    x, residual = normal(pixels, layout.lanes) * F(4), normal(pixels, layout.lanes)
    scale, shift = normal(2, layout.lanes)
    u = x.astype(np.float64) * scale + shift
    assert_close(call_activate(layout, 1, x, scale, shift), np.clip(u, 0, 6).astype(F), 2)
    assert_close(call_activate(layout, 0, x, scale, shift), u.astype(F), 2)
    assert_close(call_activate(layout, 0, x, scale, shift, 1.25, residual), (1.25 * u + residual).astype(F), 3)


@each_layout
@each_count
def test_moments(layout, pixels):
    """Far from zero: a mean of squares minus the square of the mean would have no correct digit."""
    x = normal(pixels, layout.lanes) + F(1000)
    mean, squares = call_moments(layout, x)
    assert_close(mean, x.mean(0, dtype=np.float64).astype(F), pixels)
    expected = ((x.astype(np.float64) - mean) ** 2).sum(0)
    assert_close(squares, expected.astype(F), pixels)


@each_layout
@each_count
@pytest.mark.parametrize("relu6", [0, 1])
def test_activate_gradient(layout, pixels, relu6):
    lanes, factor = layout.lanes, 1.0 if relu6 else 1.25
    x, dy, (scale, shift, mean) = normal(pixels, lanes) * F(4), normal(pixels + 1, lanes)[1:].copy(), normal(3, lanes)
    u = x.astype(np.float64) * scale + shift
    du = np.where((u > 0) & (u < 6), dy, 0) if relu6 else dy.astype(np.float64)
    got, (dbeta, dcentred) = call_activate_gradient(layout, relu6, x, scale, shift, mean, dy, factor)
    np.testing.assert_array_equal(got, du.astype(F))
    assert_close(dbeta, (factor * du.sum(0)).astype(F), pixels + 1)
    assert_close(dcentred, (factor * (du * (x - mean.astype(np.float64))).sum(0)).astype(F), pixels + 2)


@each_layout
@each_count
def test_activate_gradient_adds_what_comes_through_a_shortcut(layout, pixels):
    x, dy, skip, (scale, shift, mean) = *(normal(pixels + i, layout.lanes)[i:].copy() for i in range(3)), normal(
        3, layout.lanes)
    got, sums = call_activate_gradient(layout, 0, x, scale, shift, mean, dy, 1.25, skip)
    expected, expected_sums = call_activate_gradient(layout, 0, x, scale, shift, mean, dy + skip, 1.25)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(sums, expected_sums)


@each_layout
def test_gradient_at_the_corners_of_relu6_is_zero(layout):
    """As in torch; the neighbours in float32 are inside."""
    values = np.array([0, 6, np.nextafter(F(0), F(1)), np.nextafter(F(6), F(0)), -1, 7], F)
    x = np.repeat(values[:, None], layout.lanes, 1)
    ones, zeros = np.ones(layout.lanes, F), np.zeros(layout.lanes, F)
    got, _ = call_activate_gradient(layout, 1, x, ones, zeros, zeros, np.ones_like(x))
    np.testing.assert_array_equal(got[:, 0], [0, 0, 1, 1, 0, 0])


@each_layout
@each_count
@pytest.mark.parametrize("apart", [1, 2])
def test_normalise_gradient(layout, pixels, apart):
    x, dy = normal(pixels, layout.lanes), normal(pixels + 1, layout.lanes)[1:].copy()
    mean, scale, slope, constant = normal(4, layout.lanes)
    expected = 1.25 * scale.astype(np.float64) * dy + slope * (x.astype(np.float64) - mean) + constant
    got = call_normalise_gradient(layout, x, mean, scale, slope, constant, dy, 1.25, apart)
    assert_close(np.ascontiguousarray(got), expected.astype(F), 4)


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="features of other processors: "
                    "needs x86")
@pytest.mark.parametrize("lanes", [n for n in PROCESSORS if n <= LANES], ids="lanes_{}".format)
def test_all_of_this_with_the_features_of_another_processor(lanes):
    """With 4 lanes there are no FMA instructions."""
    name, features = PROCESSORS[lanes]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "not another_processor"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300,
        env={**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features})
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr
