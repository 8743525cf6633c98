"""The training transform as a whole is timm's, pixel for pixel, for the same random numbers."""
import dataclasses

import numpy as np
import pytest
from live import needs_timm
from pictures import noise
from PIL import Image
from timm_draws import drawing_from, timm_transform

from npefficient.errors import ArgumentError
from npefficient.network.preprocessing import Preprocessing
from npefficient.training.augmentation import Augmentation, TrainingTransform

PREPROCESSING = Preprocessing((48, 40), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SETTINGS = {
    "defaults": Augmentation(),
    "plain": Augmentation(hflip=0, color_jitter=None, interpolation="bicubic"),
    "crop": Augmentation(scale=(0.5, 0.7), ratio=(1.5, 3.0), hflip=1.0, color_jitter=0.0, interpolation="bilinear"),
    "jitter": Augmentation(color_jitter=(0.8, 1.5, 0.2, 0.5)),
    "three": Augmentation(color_jitter=(0.0, 0.3, 0.3)),
    "rand": Augmentation(auto_augment="rand-m9-mstd0.5"),
    "many": Augmentation(auto_augment="rand-m9-n6-p1-mstd4"),
    "increasing": Augmentation(auto_augment="rand-m7-n4-mstd101-inc1-p0.9", interpolation="bicubic"),
    "weights": Augmentation(auto_augment="rand-mstd1-n5-tweights-p1.0", interpolation="bilinear"),
    "3a": Augmentation(auto_augment="rand-m6-n1-p1-t3a"),
    "3aw": Augmentation(auto_augment="rand-m20-mmax15-mstd3-n3-t3aw"),
    "const": Augmentation(re_prob=0.8, re_mode="const", re_count=3),
    "channel": Augmentation(re_prob=1.0, re_mode="rand"),
    "pixel": Augmentation(auto_augment="rand-m9-mstd0.5-inc1", re_prob=0.6, re_mode="pixel", re_count=2),
}


def photo(in_chans, h, w, seed=0):
    """Squares of noise with some noise on top: edges for the filters, and a spread of colours."""
    coarse = np.kron(noise(h // 8 + 1, w // 8 + 1, in_chans, seed), np.ones((8, 8, 1)))[:h, :w]
    pixels = (0.7 * coarse + 0.3 * noise(h, w, in_chans, seed + 1)).astype(np.uint8)
    return Image.fromarray(pixels if in_chans == 3 else pixels[..., 0])


@needs_timm
@pytest.mark.parametrize("in_chans", [3, 1])
@pytest.mark.parametrize("name", SETTINGS)
def test_transform_is_timms_for_the_same_random_numbers(name, in_chans):
    """Drawing takes what timm's does, in its order; applying has its pixels, and the generators end in one state."""
    transform = TrainingTransform(SETTINGS[name], PREPROCESSING, in_chans)
    reference = timm_transform(SETTINGS[name], PREPROCESSING, in_chans)
    for seed, (h, w) in enumerate([(61, 83), (200, 97), (48, 40), (33, 150), (17, 13)] * 5):
        image, rng, own = photo(in_chans, h, w, seed), np.random.default_rng(seed), np.random.default_rng(seed)
        with drawing_from(rng):
            expected = reference(image).permute(1, 2, 0).numpy()
        got = transform.apply(image, transform.draw(own, (h, w)))
        assert got.dtype == np.float32 and got.flags.c_contiguous and got.shape == (48, 40, in_chans)
        np.testing.assert_array_equal(got, expected)
        assert rng.random() == own.random()


def test_settings_reach_every_operation():
    """So the comparison with timm is one of all of them."""
    from npefficient.training.operations import ARGUMENTS

    seen = set()
    for name, settings in SETTINGS.items():
        transform = TrainingTransform(settings, PREPROCESSING)
        drawn = [transform.draw(np.random.default_rng(seed), (61, 83)) for seed in range(25)]
        seen |= {operation.name for parameters in drawn for operation in parameters.operations}
        assert any(parameters.erasures for parameters in drawn) == bool(settings.re_prob)
        assert any(parameters.jitter for parameters in drawn) == (name in (
            "defaults", "jitter", "three", "3a", "3aw", "const", "channel"))
    assert seen == set(ARGUMENTS)


def test_the_same_parameters_are_the_same_pixels_and_leave_the_photo_as_it_is():
    transform = TrainingTransform(SETTINGS["pixel"], PREPROCESSING)
    image = photo(3, 70, 90)
    before, parameters = np.array(image), transform.draw(np.random.default_rng(5), (70, 90))
    first = transform.apply(image, parameters)
    np.testing.assert_array_equal(first, transform.apply(image, parameters))
    np.testing.assert_array_equal(before, np.array(image))
    assert transform.pixels(image, parameters).dtype == np.uint8


@pytest.mark.parametrize("mode, in_chans", [("L", 3), ("RGBA", 3), ("P", 3), ("RGB", 1), ("I;16", 1)])
def test_transform_refuses_other_modes(mode, in_chans):
    transform = TrainingTransform(Augmentation(), PREPROCESSING, in_chans)
    with pytest.raises(ArgumentError, match=f"image of mode '{mode}': a network with {in_chans} input channels"):
        transform.pixels(Image.new(mode, (9, 9)), transform.draw(np.random.default_rng(0), (9, 9)))


@pytest.mark.parametrize("h, w", [(1, 1), (1, 900), (900, 1), (2, 3)])
def test_the_smallest_photos_have_a_crop(h, w):
    """timm draws crops without a pixel from these now and then, and fails."""
    transform = TrainingTransform(SETTINGS["pixel"], PREPROCESSING)
    for seed in range(20):
        parameters = transform.draw(np.random.default_rng(seed), (h, w))
        assert np.isfinite(transform.apply(photo(3, h, w), parameters)).all()


@pytest.mark.parametrize("field, value, rule", [
    ("scale", (0.0, 1.0), "two numbers"), ("scale", (0.5, 0.4), "two numbers"), ("scale", (0.5, 1.1), "at most 1"),
    ("scale", 0.5, "two numbers"), ("ratio", (0, 1), "two numbers from 1e-06"), ("ratio", (1, float("nan")), "numbers"),
    ("hflip", -0.1, "a probability"), ("hflip", True, "a probability"), ("re_prob", 1.5, "a probability"),
    ("re_prob", float("nan"), "a probability"), ("color_jitter", -1, "a strength"),
    ("color_jitter", (1, 1), "a strength"), ("color_jitter", (1, 1, 1, 0.6), "hue of at most 0.5"),
    ("auto_augment", 9, "a text such as"), ("re_mode", "noise", "one of pixel, rand, const"),
    ("re_count", 0, "at least 1"), ("re_count", 1.0, "a whole number"),
    ("interpolation", "lanczos", "one of random, bilinear, bicubic"),
], ids=str)
def test_settings_are_refused_with_their_rule(field, value, rule):
    settings = dataclasses.replace(Augmentation(), **{field: value})
    with pytest.raises(ArgumentError, match=f"augmentation {field}=.*it must be .*{rule}"):
        TrainingTransform(settings, PREPROCESSING)


def test_transform_checks_what_it_is_made_of():
    with pytest.raises(ArgumentError, match="augmentation of type dict"):
        TrainingTransform({}, PREPROCESSING)
    with pytest.raises(ArgumentError, match="preprocessing of type tuple"):
        TrainingTransform(Augmentation(), (224, 224))
    with pytest.raises(ArgumentError, match="2 input channels"):
        TrainingTransform(Augmentation(), PREPROCESSING, 2)
    with pytest.raises(ArgumentError, match="RandAugment 'original': it starts with 'original'"):
        TrainingTransform(Augmentation(auto_augment="original"), PREPROCESSING)
