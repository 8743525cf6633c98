"""The pictures on the way to the input are those that `transform` makes."""
import numpy as np
import pytest
from explanations import noise
from PIL import Image

from npefficient.errors import ArgumentError, ImageError
from npefficient.images import image as image_module
from npefficient.images.image import normalise, preview, transform
from npefficient.network.preprocessing import Preprocessing

SIZES = {"1x1": (1, 1), "landscape": (60, 90), "portrait": (90, 60), "as_the_crop": (32, 32), "wide": (4, 300)}
SETTINGS = {"center": Preprocessing((32, 32)), "rectangle": Preprocessing((48, 32), 0.9, "bilinear"),
            "squash": Preprocessing((32, 40), crop_mode="squash"),
            "border": Preprocessing((32, 32), 1, crop_mode="border"), "beyond": Preprocessing((32, 32), 2.0)}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_preview_is_what_transform_sees(size, setting):
    photo = noise(*size, 3)
    if setting.crop_mode == "border" and size == (4, 300):
        with pytest.raises(ImageError, match="300 x 4 pixels: too thin"):
            preview(photo, setting)
        return
    got = preview(photo, setting)
    np.testing.assert_array_equal(normalise(got.cropped, setting), transform(photo, setting))
    assert got.resized.shape == (*got.size, 3) and got.cropped.shape == (*setting.input_size, 3)
    np.testing.assert_array_equal(np.asarray(got.photo), photo)
    _assert_box(got)


def _assert_box(got):
    """What `box` cuts out of the resized picture is the crop, unless it extends beyond."""
    top, left, rows, columns = got.box
    assert (rows, columns) == got.cropped.shape[:2]
    inside = np.zeros((rows, columns), bool)
    h, w = got.resized.shape[:2]
    r, c = np.mgrid[top : top + rows, left : left + columns]
    inside = (r >= 0) & (r < h) & (c >= 0) & (c < w)
    assert inside.any()
    np.testing.assert_array_equal(got.cropped[inside], got.resized[r[inside], c[inside]])


def test_assert_box_can_fail():
    got = preview(noise(60, 90, 3), SETTINGS["center"])
    top, left, *size = got.box
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        _assert_box(image_module.Preview(got.photo, got.size, got.resized, (top, left + 1, *size), got.cropped))


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (2, 2000)], ids=str)
def test_preview_of_a_thin_photo_is_the_part_around_the_crop(size, monkeypatch):
    monkeypatch.setattr(image_module, "MAX_PREVIEW", 36 * 100)
    got = preview(noise(*size, 3), SETTINGS["center"])
    assert got.resized.shape[0] * got.resized.shape[1] <= 36 * 100 < got.size[0] * got.size[1]
    _assert_box(got)


def test_preview_takes_what_transform_takes():
    palette = Image.fromarray(noise(40, 30, 3)).convert("P")
    np.testing.assert_array_equal(normalise(preview(palette).cropped), transform(palette))
    with pytest.raises(ArgumentError, match="image array of shape .4, 4.: it must be .rows, columns, 3."):
        preview(noise(4, 4))
    with pytest.raises(ArgumentError, match="crop_mode='no': it must be one of"):
        preview(palette, Preprocessing(crop_mode="no"))
