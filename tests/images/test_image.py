"""A photo becomes the same bits as in timm."""
import functools
import hashlib
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live import needs_timm, timm, torch
from pictures import noise, photo
from PIL import Image

from npefficient.errors import ImageError
from npefficient.images import image as image_module
from npefficient.images.image import open_image, transform, transform_batch
from npefficient.network.preprocessing import CROP_MODES, FILTERS, Preprocessing
from npefficient.network.variants import VARIANTS

LITE0 = VARIANTS["tf_efficientnet_lite0"].preprocessing
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and std of timm's own trainings
SIZES = {  # rows, columns
    "1x1": (1, 1), "one_row": (1, 90), "one_column": (90, 1), "tiny": (2, 3), "landscape": (333, 500),
    "portrait": (500, 333), "square": (300, 300), "tall": (1500, 211), "wide": (211, 1500),
    "smaller_than_crop": (97, 120), "as_the_crop": (224, 224), "as_resized": (256, 256), "as_resized_lite3": (331, 331),
    "one_more": (257, 256), "photo": (3000, 4000), "photo_portrait": (4000, 3000),
}
MODES = ("RGB", "L", "P", "P_colour", "P_bytes", "RGBA", "LA", "CMYK", "I;16", "1", "YCbCr", "F", "I")


def same_bits(got, expected):
    return got.shape == expected.shape and got.dtype == expected.dtype and got.tobytes() == expected.tobytes()


def test_same_bits_can_fail():
    one = np.ones((2, 2, 3), np.float32)
    assert same_bits(one, one.copy())
    assert not same_bits(one, np.nextafter(one, np.float32(2)))
    assert not same_bits(one, one.astype(np.float64)) and not same_bits(one, one.reshape(4, 1, 3))
    assert not same_bits(one * 0, one * -0.0)


@functools.cache
def _timm_config(name):
    model = timm.create_model(name)
    return timm.data.resolve_data_config({}, model=model)


def timm_transform(rgb, preprocessing):
    """timm's evaluation transform with the same settings, as NHWC."""
    p = preprocessing
    pipeline = timm.data.create_transform((3, *p.input_size), interpolation=p.interpolation, crop_pct=p.crop_pct,
                                          crop_mode=p.crop_mode, mean=p.mean, std=p.std)
    return pipeline(rgb).numpy().transpose(1, 2, 0)


# Against timm


@needs_timm
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", VARIANTS)
def test_transform_variant_equals_timm(name, size):
    rgb = Image.fromarray(noise(*size))
    expected = timm.data.create_transform(**_timm_config(name))(rgb).numpy().transpose(1, 2, 0)
    got = transform(rgb, VARIANTS[name].preprocessing)
    assert same_bits(got, expected)


@needs_timm
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite3"])
@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # from the expected side
def test_transform_mode_equals_timm(name, mode):
    expected = timm.data.create_transform(**_timm_config(name))(photo(mode).convert("RGB")).numpy().transpose(1, 2, 0)
    got = transform(photo(mode), VARIANTS[name].preprocessing)
    assert same_bits(got, expected)


@needs_timm
@pytest.mark.parametrize("input_size", [(64, 64), (65, 48), (225, 224), (1, 1), (3, 200)], ids=str)
@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("interpolation", FILTERS)
def test_transform_setting_equals_timm(interpolation, crop_mode, input_size):
    for crop_pct in (0.875, 1.3):
        if crop_pct > min(input_size):
            continue  # timm resizes to nothing
        for size in [(37, 53), (300, 200), (11, 300)]:
            p = Preprocessing(input_size, crop_pct, interpolation, *IMAGENET, crop_mode)
            rgb = Image.fromarray(noise(*size))
            try:
                expected = timm_transform(rgb, p)
            except ValueError:  # "border" made one side nothing
                with pytest.raises(ImageError, match=f"{size[1]} x {size[0]} pixels: too thin"):
                    transform(rgb, p)
                continue
            assert same_bits(transform(rgb, p), expected), (p, size)


@needs_timm
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_transform_anything_equals_timm(data):
    side, number = st.integers(1, 260), st.floats(-1, 2, width=32)
    p = Preprocessing(
        (data.draw(side), data.draw(side)), data.draw(st.floats(0.3, 1.0)), data.draw(st.sampled_from(FILTERS)),
        tuple(data.draw(number) for _ in range(3)), tuple(data.draw(st.floats(0.0625, 2, width=32)) for _ in range(3)),
        data.draw(st.sampled_from(CROP_MODES)))
    size = data.draw(side), data.draw(side)
    rgb = Image.fromarray(noise(*size))
    try:
        expected = timm_transform(rgb, p)
    except ValueError:
        with pytest.raises(ImageError, match=f"{size[1]} x {size[0]} pixels: too thin"):
            transform(rgb, p)
        return
    assert same_bits(transform(rgb, p), expected)


@needs_timm
def test_transform_every_byte_equals_torchvision():
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    for mean, std in [((0.5,) * 3, (0.5,) * 3), IMAGENET, ((0.1, 0.3, 0.7), (3, 1, 1e-3))]:
        p = Preprocessing((16, 16), 1.0, "bicubic", mean, std)
        assert same_bits(transform(ramp, p), timm_transform(Image.fromarray(ramp), p))


@needs_timm
def test_transform_reads_a_file_as_timm_does(tmp_path):
    file = tmp_path / "photo.jpg"
    Image.fromarray(noise(480, 640)).save(file)
    with Image.open(file) as picture:
        expected = timm.data.create_transform(**_timm_config("tf_efficientnet_lite0"))(picture.convert("RGB"))
    got = transform(open_image(file), LITE0)
    assert torch.equal(torch.from_numpy(got).permute(2, 0, 1), expected)


# Without timm

# The beginnings of the sha256 of the tensors for `wave()`: those of timm 1.0.31, as `test_golden_is_timms` checks.
GOLDEN = {
    "tf_efficientnet_lite0": "db265d10c92bfe7d",
    "tf_efficientnet_lite1": "4a8a21b3b994169e",
    "tf_efficientnet_lite2": "68df259d86d40482",
    "tf_efficientnet_lite3": "8ab109492bef8bde",
    "tf_efficientnet_lite4": "6899f7710157e3cf",
}


def wave():
    """A landscape picture of integers only, the same everywhere: (480, 640, 3) uint8."""
    row, column, colour = np.ogrid[:480, :640, :3]
    return ((row * column // 7 + row * row // 11 + 85 * colour + 3 * column) % 256).astype(np.uint8)


def fingerprint(name):
    return hashlib.sha256(transform(wave(), VARIANTS[name].preprocessing).tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("name", VARIANTS)
def test_transform_golden(name):
    expected = GOLDEN[name]
    got = fingerprint(name)
    assert got == expected


@needs_timm
@pytest.mark.parametrize("name", VARIANTS)
def test_golden_is_timms(name):
    expected = timm.data.create_transform(**_timm_config(name))(Image.fromarray(wave())).permute(1, 2, 0).contiguous()
    assert hashlib.sha256(expected.numpy().tobytes()).hexdigest()[:16] == GOLDEN[name]


def test_transform_by_hand_crops_the_middle():
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[1:3, 2:4] = [[[0, 51, 255], [255, 0, 0]], [[102, 102, 102], [0, 0, 204]]]
    got = transform(pixels, Preprocessing((2, 2), 0.5))  # resized to 4 x 6: as it is
    x, y, z = ((np.float32(k) - np.float32(0.5)) * 2 for k in (0.2, 0.4, 0.8))  # 51, 102 and 204 of 255
    expected = np.array([[[-1, x, 1], [1, -1, -1]], [[y, y, y], [-1, -1, z]]], np.float32)
    assert same_bits(got, expected)


def test_transform_every_byte_by_correctly_rounded_steps():
    mean, std = IMAGENET
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    got = transform(ramp, Preprocessing((16, 16), 1.0, "bicubic", mean, std))
    steps = ramp.astype(np.float64) / 255  # a float64 step rounded to float32 is the correctly rounded float32 step
    steps = steps.astype(np.float32).astype(np.float64) - np.float32(mean).astype(np.float64)
    expected = (steps.astype(np.float32).astype(np.float64) / np.float32(std).astype(np.float64)).astype(np.float32)
    assert same_bits(got, expected)


@pytest.mark.parametrize("crop_mode, outside", [("center", 0), ("border", 128)])
def test_transform_by_hand_fills_the_outside(crop_mode, outside):
    p = Preprocessing((3, 4), 2.0, "nearest", (0.5, 0.5, 0.5), (1.0, 1.0, 1.0), crop_mode)  # 3 // 2 = 1 row, 2 columns
    got = transform(np.full((1, 2, 3), 255, np.uint8), p)
    expected = np.full((3, 4, 3), np.float32(outside) / np.float32(255) - np.float32(0.5))
    expected[1, 1:3] = 0.5
    assert same_bits(got, expected)


@pytest.mark.parametrize("size, crop, expected", [
    pytest.param(5, 2, (2, 0, 2), id="half_rounds_up_to_even"),
    pytest.param(7, 2, (2, 0, 2), id="half_rounds_down_to_even"),
    pytest.param(6, 2, (2, 0, 2), id="even"),
    pytest.param(4, 4, (0, 0, 4), id="same"),
    pytest.param(2, 5, (0, 1, 2), id="smaller_odd"),
    pytest.param(2, 6, (0, 2, 2), id="smaller_even"),
])
def test_middle(size, crop, expected):
    assert image_module._middle(size, crop) == expected


@pytest.mark.parametrize("size", [(1, 1), (40, 1), (1, 40), (60, 7), (7, 60), (30, 30)], ids=str)
@pytest.mark.parametrize("interpolation", FILTERS)
def test_resample_in_strips_equals_in_one_piece(size, interpolation, monkeypatch):
    p = Preprocessing((64, 64), 0.875, interpolation)
    expected = transform(noise(*size), p)
    for limit in (1, 300, 10_000):
        monkeypatch.setattr(image_module, "MAX_WHOLE", limit)
        assert same_bits(transform(noise(*size), p), expected), limit


@pytest.mark.parametrize("h, w", [(4000, 1), (1, 4000)], ids=str)
def test_transform_thin_photo_in_little_memory(h, w):
    got = transform(np.full((h, w, 3), 255, np.uint8), LITE0)  # 262,144,000 pixels when resized in one piece
    assert same_bits(got, np.ones((224, 224, 3), np.float32))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_transform_float_equals_uint8(dtype):
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    got = transform((ramp / 255).astype(dtype), LITE0)
    assert same_bits(got, transform(ramp, LITE0))


@pytest.mark.parametrize("view", [
    pytest.param(lambda a: a[::-1, ::2], id="strided"),
    pytest.param(np.asfortranarray, id="fortran"),
    pytest.param(lambda a: a[..., ::-1], id="bgr"),
])
def test_transform_any_memory_order(view):
    array = noise(90, 110)
    kept = array.copy()
    got = transform(view(array), LITE0)
    assert same_bits(got, transform(np.ascontiguousarray(view(array)), LITE0))
    assert got.flags.c_contiguous and np.array_equal(array, kept)


def test_transform_leaves_the_image_alone():
    picture = photo("P_bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transform(picture, LITE0)
    assert picture.mode == "P" and picture.info["transparency"] == bytes(range(256))


def test_transform_batch_stacks():
    images = noise(50, 60 * 4).reshape(4, 50, 60, 3)
    got = transform_batch(images, LITE0)
    assert got.shape == (4, 224, 224, 3)
    assert all(same_bits(row, transform(image, LITE0)) for row, image in zip(got, images))
    assert same_bits(transform_batch([], LITE0), np.empty((0, 224, 224, 3), np.float32))


def test_import_is_light():
    code = "import sys, npefficient.images.image; print(sorted({'PIL', 'torch', 'numba', 'h5py'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
