"""TensorFlow's preprocessing against values from TensorFlow's own tests, and against its kernels as plain loops."""
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tolerance import assert_close

from npefficient.errors import ArgumentError, ImageError
from npefficient.images.tensorflow import check_tf_preprocessing, resize_bicubic, resize_bilinear, tf_transform
from npefficient.network.architecture import VARIANTS

LITE0 = VARIANTS["tf_efficientnet_lite0"].preprocessing
TERMS = 16  # products in one pixel


def small(size, interpolation="bicubic"):
    return replace(LITE0, input_size=(size, size), interpolation=interpolation)


def noise(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


# The oracle: one output pixel at a time, float32 wherever the C++ code has a float, sums in the same order.


def bicubic_taps(place, limit):
    """[(pixel, weight)] of one axis: resize_bicubic_op.cc, GetWeightsAndIndices<LegacyScaler, false>."""
    low = int(np.floor(place))
    step = int(np.rint(np.float32(place - np.float32(low)) * np.float32(1024)))
    a, taps = -0.75, []
    for offset in (-1, 0, 1, 2):
        x = abs(1024 * offset - step) / 1024
        weight = ((a + 2) * x - (a + 3)) * x * x + 1 if offset in (0, 1) else ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        taps.append((min(max(low + offset, 0), limit - 1), np.float32(weight)))
    return taps


def naive_bicubic(pixels, size):
    h, w, channels = pixels.shape
    out = np.empty((size, size, channels), np.float32)
    for y in range(size):
        rows = bicubic_taps(np.float32(y) * np.float32(np.float32(h) / np.float32(size)), h)
        for x in range(size):
            columns = bicubic_taps(np.float32(x) * np.float32(np.float32(w) / np.float32(size)), w)
            for c in range(channels):
                across = [sum((np.float32(pixels[r, column, c]) * weight for r, weight in rows), np.float32(0))
                          for column, _ in columns]
                out[y, x, c] = sum((value * weight for value, (_, weight) in zip(across, columns)), np.float32(0))
    return out


def naive_bilinear(pixels, size):
    """resize_bilinear_op.cc with LegacyScaler."""
    h, w, channels = pixels.shape
    out = np.empty((size, size, channels), np.float32)
    for y in range(size):
        in_y = np.float32(y) * np.float32(np.float32(h) / np.float32(size))
        top, bottom, down = int(in_y), min(int(np.ceil(in_y)), h - 1), np.float32(in_y - np.floor(in_y))
        for x in range(size):
            in_x = np.float32(x) * np.float32(np.float32(w) / np.float32(size))
            left, right, across = int(in_x), min(int(np.ceil(in_x)), w - 1), np.float32(in_x - np.floor(in_x))
            for c in range(channels):
                corner = {(r, k): np.float32(pixels[r, k, c]) for r in (top, bottom) for k in (left, right)}
                upper = corner[top, left] + (corner[top, right] - corner[top, left]) * across
                lower = corner[bottom, left] + (corner[bottom, right] - corner[bottom, left]) * across
                out[y, x, c] = upper + (lower - upper) * down
    return out


SIZES = [(6, 6, 8), (1, 1, 3), (1, 7, 4), (9, 2, 5), (5, 5, 5), (31, 17, 8), (17, 31, 1), (40, 40, 9), (3, 100, 6)]


@pytest.mark.parametrize("h, w, size", SIZES)
def test_resize_bicubic_is_the_loops(h, w, size):
    assert_close(resize_bicubic(noise(h, w), size), naive_bicubic(noise(h, w), size), TERMS)


@pytest.mark.parametrize("h, w, size", SIZES)
def test_resize_bilinear_is_the_loops(h, w, size):
    assert_close(resize_bilinear(noise(h, w), size), naive_bilinear(noise(h, w), size), TERMS)


def test_resize_bicubic_of_tensorflows_own_test():
    """python/ops/image_ops_test.py, testResizeUpBicubic: whole numbers, compared there with atol=1."""
    before = [128, 128, 64, 64, 128, 128, 64, 64, 64, 64, 128, 128, 64, 64, 128, 128, 50, 50,
              100, 100, 50, 50, 100, 100, 50, 50, 100, 100, 50, 50, 100, 100, 50, 50, 100, 100]
    after = [128, 135, 96, 55, 64, 114, 134, 128, 78, 81, 68, 52, 57, 118, 144, 136, 55, 49, 79, 109, 103, 89, 83, 84,
             74, 70, 95, 122, 115, 69, 49, 55, 100, 105, 75, 43, 50, 89, 105, 100, 57, 54, 74, 96, 91, 65, 55, 58,
             70, 69, 75, 81, 80, 72, 69, 70, 105, 112, 75, 36, 45, 92, 111, 105]
    got = resize_bicubic(np.array(before, np.uint8).reshape(6, 6, 1), 8)
    assert np.abs(got.ravel() - after).max() < 1


@pytest.mark.parametrize("resize, off", [
    (lambda pixels: np.asarray(Image.fromarray(pixels[..., 0]).resize((8, 8), Image.Resampling.BICUBIC)), 12),
    (lambda pixels: resize_bilinear(pixels, 8), 6),
], ids=["pillow", "bilinear"])
def test_tensorflows_own_bicubic_values_tell_other_filters_apart(resize, off):
    pixels = noise(6, 6)[..., :1]
    assert np.abs(resize_bicubic(pixels, 8).ravel() - resize(pixels).ravel()).max() > off


@pytest.mark.parametrize("before, after", [
    ([[1, 2], [3, 4]], [[1]]),
    ([[1, 2], [3, 4]], [[1, 5 / 3, 2], [7 / 3, 3, 10 / 3], [3, 11 / 3, 4]]),
    ([[1, 2, 3], [4, 5, 6], [7, 8, 9]], [[1, 2.5], [5.5, 7]]),
    ([[1, 2, 3], [4, 5, 6], [7, 8, 9]],
     [[1, 1.75, 2.5, 3], [3.25, 4, 4.75, 5.25], [5.5, 6.25, 7, 7.5], [7, 7.75, 8.5, 9]]),
    ([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]],
     [[1, 7 / 3, 11 / 3], [19 / 3, 23 / 3, 27 / 3], [35 / 3, 39 / 3, 43 / 3]]),
    ([[1, 2], [3, 4]], [[1, 1.5, 2, 2], [2, 2.5, 3, 3], [3, 3.5, 4, 4], [3, 3.5, 4, 4]]),
], ids=["2_to_1", "2_to_3", "3_to_2", "3_to_4", "4_to_3", "2_to_4"])
def test_resize_bilinear_of_tensorflows_own_test(before, after):
    """core/kernels/image/resize_bilinear_op_test.cc, without align_corners."""
    got = resize_bilinear(np.array(before, np.uint8)[..., None], len(after))
    np.testing.assert_allclose(got[..., 0], after, rtol=1e-6)


@pytest.mark.parametrize("resize", [resize_bicubic, resize_bilinear])
def test_resize_to_the_same_size_changes_nothing(resize):
    assert np.array_equal(resize(noise(9, 9), 9), noise(9, 9))


@pytest.mark.parametrize("h, w, side, top, left", [
    (256, 256, 224, 16, 16), (257, 256, 224, 17, 16), (300, 513, 262, 19, 126), (100, 99, 86, 7, 7), (2, 2, 1, 1, 1),
])
def test_tf_transform_cuts_out_the_middle(h, w, side, top, left):
    """Sides by hand: trunc(0.875 * shorter), then (whole - side + 1) // 2 pixels before it."""
    pixels = noise(h, w)
    expected = (resize_bicubic(pixels[top:top + side, left:left + side], 224) - 127) / np.float32(128)
    got = tf_transform(Image.fromarray(pixels), LITE0)
    assert got.dtype == np.float32 and np.array_equal(got, expected)


def test_tf_transform_is_neither_rounded_nor_clipped():
    got = tf_transform(Image.fromarray(255 * (noise(64, 64) // 128)), small(96)) * 128 + 127
    assert got.min() < -1 and got.max() > 256 and np.abs(got - np.rint(got)).max() > 0.1


@pytest.mark.parametrize("name", VARIANTS)
def test_tf_transform_takes_the_models_filter(name):
    """The whole way by plain loops, at a size where they are quick."""
    settings = small(12, VARIANTS[name].preprocessing.interpolation)
    naive = {"bicubic": naive_bicubic, "bilinear": naive_bilinear}[settings.interpolation]
    side = int(np.float32(12 / 44) * np.float32(50))  # 13
    pixels = noise(61, 50)[24:37, 19:32]
    expected = (naive(pixels, 12) - 127) / np.float32(128)
    assert side == 13
    assert_close(tf_transform(Image.fromarray(noise(61, 50)), settings), expected, TERMS)


def test_tf_transform_of_one_colour_is_that_colour():
    got = tf_transform(Image.new("RGB", (37, 53), (0, 127, 255)), LITE0)
    np.testing.assert_allclose(got[..., 0], -127 / 128, atol=1e-6)
    np.testing.assert_allclose(got[..., 1], 0, atol=1e-6)
    np.testing.assert_allclose(got[..., 2], 1, atol=1e-6)


def test_tf_transform_refuses_a_photo_of_one_row():
    with pytest.raises(ImageError, match="photo of 300 x 1 pixels: too small"):
        tf_transform(Image.new("RGB", (300, 1)), LITE0)


@pytest.mark.parametrize("settings, text", [
    (replace(LITE0, input_size=(224, 192)), "input of 224 x 192: .*square"),
    (replace(LITE0, interpolation="lanczos"), "interpolation 'lanczos': .*bicubic and bilinear"),
], ids=["oblong", "filter"])
def test_tf_preprocessing_refuses(settings, text):
    with pytest.raises(ArgumentError, match=text):
        check_tf_preprocessing(settings)


def test_naive_taps_sum_to_one():
    for place in np.linspace(0, 5, 37, dtype=np.float32):
        assert sum(weight for _, weight in bicubic_taps(place, 9)) == pytest.approx(1, abs=1e-6)
