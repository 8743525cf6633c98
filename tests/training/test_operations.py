"""Each operation of RandAugment at many magnitudes: timm's argument, and its pixels."""
from unittest import mock

import numpy as np
import pytest
from live import needs_timm
from pictures import noise
from PIL import Image, ImageOps
from timm_draws import posterize

from npefficient.training.operations import ARGUMENTS, SIGNED, Operation, operated

MAGNITUDES = (0, 0.3, 2.4, 2.5, 5, 7.3, 9, 9.99, 10, 12.5)
FILLS = {"RGB": (124, 116, 104), "L": (115,)}


def image(mode, h=37, w=52):
    return Image.fromarray(noise(h, w, seed=3)).convert(mode)


def pixels(mode, name, argument=None, interpolation=None, of=None):
    return np.asarray(operated(of or image(mode), Operation(name, argument, interpolation), FILLS[mode]))


@needs_timm
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_operation_is_timms_at_every_magnitude(name, mode):
    from timm.data import auto_augment

    for magnitude in MAGNITUDES:
        for interpolation in ("bilinear", "bicubic"):
            hparams = {"img_mean": FILLS[mode], "magnitude_max": 12, "translate_const": 17,
                       "interpolation": Image.Resampling[interpolation.upper()]}
            reference = auto_augment.AugmentOp(name, 1.0, magnitude, hparams)
            for sign, number in ((1, 0.5), (-1, 0.51)):
                with mock.patch.object(auto_augment.random, "random", lambda: number), \
                        mock.patch.object(ImageOps, "posterize", posterize):
                    expected = np.asarray(reference(image(mode)))
                level = min(magnitude, 12) / 10
                argument = ARGUMENTS[name] and ARGUMENTS[name](level, sign if name in SIGNED else 1)
                np.testing.assert_array_equal(pixels(mode, name, argument, interpolation), expected)


def test_what_a_sign_changes():
    """Operations without a sign have one argument, the others two, around their own that changes nothing."""
    for name, to_argument in ARGUMENTS.items():
        if to_argument is not None:
            both = to_argument(0.5, 1), to_argument(0.5, -1)
            assert (both[0] != both[1]) == (name in SIGNED)
            if name in SIGNED:
                assert sum(both) == (2 if name.endswith("Increasing") else 0)


# By hand, without timm


GREYS = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
RAMP = np.arange(256)


@pytest.mark.parametrize("name, argument, expected", [
    ("Invert", None, 255 - RAMP), ("AutoContrast", None, RAMP), ("Equalize", None, RAMP),
    ("Posterize", 8, RAMP), ("Posterize", 3, RAMP // 32 * 32), ("Posterize", 1, RAMP // 128 * 128),
    ("PosterizeIncreasing", 0, 0 * RAMP), ("PosterizeIncreasing", -1, 0 * RAMP),
    ("Solarize", 256, RAMP), ("Solarize", 100, np.where(RAMP < 100, RAMP, 255 - RAMP)),
    ("SolarizeAdd", 110, np.where(RAMP < 128, RAMP + 110, RAMP)),
    ("SolarizeAdd", 128, np.where(RAMP < 128, np.minimum(RAMP + 128, 255), RAMP)),
    ("Brightness", 0.0, 0 * RAMP), ("BrightnessIncreasing", 1.0, RAMP), ("Brightness", 2.0, np.minimum(2 * RAMP, 255)),
    ("Contrast", 0.0, 0 * RAMP + 128), ("Color", 1.9, RAMP), ("Desaturate", 1.0, RAMP),
], ids=lambda value: str(value) if not isinstance(value, np.ndarray) else "")
def test_greys_by_hand(name, argument, expected):
    np.testing.assert_array_equal(pixels("L", name, argument, of=GREYS).ravel(), expected)


@pytest.mark.parametrize("name, argument, shift", [
    ("TranslateXRel", 0.25, (0, 4)), ("TranslateXRel", -0.25, (0, -4)), ("TranslateYRel", 0.5, (8, 0))], ids=str)
def test_translations_by_hand(name, argument, shift):
    """The photo moves against the sign, and the fill comes in."""
    padded = np.pad(np.asarray(GREYS), 16, constant_values=FILLS["L"][0])
    expected = padded[16 + shift[0]:32 + shift[0], 16 + shift[1]:32 + shift[1]]
    np.testing.assert_array_equal(pixels("L", name, argument, "bilinear", of=GREYS), expected)


def test_a_right_angle_and_a_shear_by_hand():
    square = np.asarray(GREYS)
    np.testing.assert_array_equal(pixels("L", "Rotate", 90.0, "bicubic", of=GREYS), np.rot90(square))
    sheared = pixels("L", "ShearY", 1.0, "bilinear", of=GREYS)
    between = (square[:-1, 0].astype(int) + square[1:, 0]) // 2  # the first column's centre is half a pixel from 0
    np.testing.assert_array_equal(sheared[:-1, 0], between)
    assert (sheared[-1] == FILLS["L"]).all()


def test_saturation_by_hand():
    red = Image.new("RGB", (3, 3), (200, 0, 0))
    grey = round(200 * 0.299)
    assert pixels("RGB", "Desaturate", 1.0, of=red)[0, 0].tolist() == [grey] * 3
    assert pixels("RGB", "Color", 0.0, of=red)[0, 0].tolist() == [grey] * 3
    blurred = pixels("RGB", "GaussianBlur", 2.0, of=red)
    assert (blurred == (200, 0, 0)).all()
