"""Random crops, erasing and colour jitter by hand: what is drawn, and what is done with it."""
import numpy as np
import pytest
from pictures import noise
from PIL import Image

from npefficient.training.color_jitter import draw_jitter, jittered
from npefficient.training.random_crop import Crop, draw_crop, resized_crop
from npefficient.training.random_erasing import Erasure, draw_erasures, erase


def crops(size, scale, ratio, count=200):
    return [draw_crop(np.random.default_rng(seed), size, scale, ratio, ("bilinear",)) for seed in range(count)]


def test_crops_lie_in_the_photo_and_in_their_ranges():
    for crop in crops((300, 500), (0.2, 0.6), (0.5, 2.0)):
        assert crop.top >= 0 and crop.left >= 0 and crop.top + crop.rows <= 300 and crop.left + crop.columns <= 500
        assert 0.19 < crop.rows * crop.columns / 150000 < 0.61 and 0.49 < crop.columns / crop.rows < 2.02


def test_a_crop_reaches_every_place():
    found = crops((4, 4), (0.25, 0.25), (1.0, 1.0), 300)
    assert {(crop.top, crop.left) for crop in found} == {(i, j) for i in range(3) for j in range(3)}
    assert {(crop.rows, crop.columns) for crop in found} == {(2, 2)}


@pytest.mark.parametrize("size, expected", [
    ((100, 10), (45, 0, 10, 10)), ((10, 100), (0, 45, 10, 10)), ((9, 20), (0, 5, 9, 9)), ((1, 1), (0, 0, 1, 1)),
], ids=str)
def test_what_no_rectangle_fits_is_cropped_in_the_centre(size, expected):
    """Here each rectangle would have four times the photo's area."""
    for crop in crops(size, (4.0, 4.0), (1.0, 1.0), 3):
        assert (crop.top, crop.left, crop.rows, crop.columns) == expected


@pytest.mark.parametrize("size, ratio, expected", [((4, 2), (5, 6), (1, 0, 1, 2)), ((2, 4), (0.1, 0.2), (0, 1, 2, 1))])
def test_a_central_crop_has_a_pixel(size, ratio, expected):
    (crop,) = crops(size, (4.0, 4.0), ratio, 1)
    assert (crop.top, crop.left, crop.rows, crop.columns) == expected


def test_resized_crop_by_hand():
    pixels = noise(6, 9)
    same = resized_crop(Image.fromarray(pixels), Crop(1, 2, 3, 4, "bicubic"), (3, 4))
    np.testing.assert_array_equal(np.asarray(same), pixels[1:4, 2:6])
    flat = resized_crop(Image.fromarray(np.full((6, 9, 3), 77, np.uint8)), Crop(0, 0, 5, 7, "bilinear"), (31, 20))
    assert flat.size == (20, 31) and (np.asarray(flat) == 77).all()


def test_erase_by_hand():
    x = np.ones((4, 5, 2), np.float32)
    erase(x, [Erasure(1, 2, 2, 3, np.full((1, 1, 2), [7, 8], np.float32)), Erasure(0, 0, 2, 3, np.zeros((2, 3, 2)))])
    expected = np.ones((4, 5, 2))
    expected[1:3, 2:5] = 7, 8
    expected[:2, :3] = 0
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("mode, shape", [("const", (1, 1, 3)), ("rand", (1, 1, 3)), ("pixel", None)])
def test_erasures_lie_in_the_picture(mode, shape):
    counts = set()
    for seed in range(200):
        erasures = draw_erasures(np.random.default_rng(seed), (40, 60, 3), 1.0, mode, 3)
        counts.add(len(erasures))
        for e in erasures:
            assert e.top >= 0 and e.left >= 0 and e.top + e.rows <= 40 and e.left + e.columns <= 60
            assert e.values.dtype == np.float32 and e.values.shape == (shape or (e.rows, e.columns, 3))
            assert e.values.any() == (mode != "const")
    assert counts == {1, 2, 3}
    assert {len(draw_erasures(np.random.default_rng(i), (40, 60, 3), 0.5, mode, 1)) for i in range(20)} == {0, 1}


def test_jitter_by_hand():
    image = Image.new("RGB", (2, 2), (100, 50, 0))
    assert jittered(image, ()).getpixel((0, 0)) == (100, 50, 0)
    assert jittered(image, (("brightness", 2.0),)).getpixel((0, 0)) == (200, 100, 0)
    assert jittered(image, (("saturation", 0.0),)).getpixel((0, 0)) == (59,) * 3
    assert jittered(image, (("brightness", 0.0), ("brightness", 2.0))).getpixel((0, 0)) == (0, 0, 0)
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    assert jittered(red, (("hue", 0.5),)).getpixel((0, 0)) == (0, 255, 252)  # 127 / 255 of a turn
    assert jittered(image.convert("L"), (("hue", 0.3), ("saturation", 0.0))).getpixel((0, 0)) == 59


def test_draws_of_jitter():
    drawn = [draw_jitter(np.random.default_rng(seed), (0.4, 1.5, 0, 0.1)) for seed in range(300)]
    assert {tuple(sorted(name for name, _ in jitter)) for jitter in drawn} == {("brightness", "contrast", "hue")}
    assert len({tuple(name for name, _ in jitter) for jitter in drawn}) == 6  # every order
    factors = {name: [dict(jitter)[name] for jitter in drawn] for name in ("brightness", "contrast", "hue")}
    for name, low, high in (("brightness", 0.6, 1.4), ("contrast", 0.0, 2.5), ("hue", -0.1, 0.1)):
        near = (high - low) / 20
        assert low <= min(factors[name]) < low + near and high - near < max(factors[name]) <= high
    assert draw_jitter(np.random.default_rng(0), (0, 0, 0)) == ()
