"""An image or a preprocessing that can't be used raises one clear error."""
import re

import numpy as np
import pytest
from pictures import encoded
from PIL import Image

from npefficient.errors import ArgumentError, ImageError
from npefficient.images.image import transform
from npefficient.network.preprocessing import Preprocessing, check_preprocessing
from npefficient.network.variants import VARIANTS

LITE0 = VARIANTS["tf_efficientnet_lite0"].preprocessing


@pytest.mark.parametrize("h, w, mode, text", [
    pytest.param(200_000, 1, "center", "1 x 200000 pixels.*256 x 51200000", id="takes_minutes"),
    pytest.param(2_000_000, 1, "squash", "1 x 2000000 pixels.*256 x 256", id="between_the_passes"),
    pytest.param(1, 2_000_000, "center", "2000000 x 1 pixels.*512000000 x 256", id="wide"),
    pytest.param(1, 4000, "border", "4000 x 1 pixels.*256 x 0 pixels", id="resized_to_nothing"),
])
def test_transform_refuses_absurdly_thin(h, w, mode, text):
    with pytest.raises(ImageError, match=text):
        transform(np.zeros((h, w, 3), np.uint8), Preprocessing(crop_mode=mode))


@pytest.mark.parametrize("given_, text", [
    pytest.param("dog.jpg", r"image 'dog\.jpg': .*open_image", id="path"),
    pytest.param(None, "image None: .*PIL image or an array", id="none"),
    pytest.param([[0] * 99], r"image \[\[0, 0, .{0,60}\.\.\.: .*array", id="list"),
    pytest.param(np.zeros((5, 5), np.uint8), r"shape \(5, 5\): .*np\.repeat", id="grey"),
    pytest.param(np.zeros((3, 5, 5), np.uint8), r"shape \(3, 5, 5\): .*np\.moveaxis", id="channels_first"),
    pytest.param(np.zeros((5, 5, 4), np.uint8), r"shape \(5, 5, 4\)", id="rgba"),
    pytest.param(np.zeros((2, 5, 5, 3), np.uint8), r"shape \(2, 5, 5, 3\): .*transform_batch", id="batch"),
    pytest.param(np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\): .*at least one pixel", id="no_rows"),
    pytest.param(np.zeros((0, 5, 3)), r"shape \(0, 5, 3\): .*at least one pixel", id="no_rows_float"),
    pytest.param(np.zeros((5, 5, 3), np.int64), "dtype int64: .*uint8", id="int64"),
    pytest.param(np.zeros((5, 5, 3), bool), "dtype bool: .*uint8", id="bool"),
    pytest.param(np.zeros((5, 5, 3), complex), "dtype complex128", id="complex"),
    pytest.param(np.zeros((5, 5, 3), object), "dtype object", id="object"),
    pytest.param(np.full((5, 5, 3), 255.0), "from 255 to 255: .*divide by 255", id="float_bytes"),
    pytest.param(np.full((5, 5, 3), -1.0), "from -1 to -1: .*0..1", id="normalised"),
    pytest.param(np.full((5, 5, 3), np.nan), "from nan to nan", id="nan"),
    pytest.param(np.full((5, 5, 3), np.inf), "from inf to inf", id="inf"),
])
def test_transform_refuses_argument(given_, text):
    with pytest.raises(ArgumentError, match=text):
        transform(given_, LITE0)


def test_transform_refuses_one_nan_among_many():
    array = np.full((5, 5, 3), 0.5)
    array[2, 3, 1] = np.nan
    with pytest.raises(ArgumentError, match="from nan to nan"):
        transform(array, LITE0)


def test_transform_refuses_empty_pil_image():
    with pytest.raises(ImageError, match="0 x 5 pixels"):
        transform(Image.new("RGB", (0, 5)), LITE0)


def test_transform_names_the_broken_file_behind_a_lazy_image(tmp_path):
    file = tmp_path / "cut.png"
    file.write_bytes(encoded("PNG")[:200])
    with Image.open(file) as lazy, pytest.raises(ImageError, match=r"cut\.png': broken or cut short"):
        transform(lazy, LITE0)


@pytest.mark.parametrize("field, value", [
    ("input_size", (224,)), ("input_size", 224), ("input_size", (224.5, 224)), ("input_size", (0, 224)),
    ("input_size", (-1, -1)), ("input_size", (2**20, 2**20)), ("input_size", (True, 224)),
    ("input_size", (224, 224, 3)), ("crop_pct", 0), ("crop_pct", -0.5), ("crop_pct", 1e-9), ("crop_pct", float("nan")),
    ("crop_pct", None), ("crop_pct", 300), ("crop_pct", "0.875"), ("interpolation", "random"),
    ("interpolation", "cubic"), ("interpolation", None), ("crop_mode", "centre"), ("crop_mode", None),
    ("mean", 0.5), ("mean", (0.5, 0.5)), ("mean", (0.5, 0.5, float("inf"))), ("mean", (1e300, 0, 0)),
    ("mean", ("a", "b", "c")),
    ("std", (0.5, 0, 0.5)), ("std", (1e-60, 1, 1)),
    ("std", (0.5, 0.5, float("nan"))),
], ids=str)
def test_preprocessing_refused(field, value):
    with pytest.raises(ArgumentError, match=re.escape(f"preprocessing {field}={value!r}: it must be ")):
        check_preprocessing(Preprocessing(**{field: value}))


@pytest.mark.parametrize("name", VARIANTS)
def test_preprocessing_of_variant_accepted(name):
    check_preprocessing(VARIANTS[name].preprocessing)
