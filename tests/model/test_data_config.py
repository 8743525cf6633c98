"""How a model prepares photos, through timm's functions: the same settings, the same pixels, and helpful errors."""
import functools

import numpy as np
import pytest
from engines import assert_same_bits
from live import needs_timm, timm, torch
from PIL import Image

import npefficient
from npefficient.errors import ArgumentError
from npefficient.model.data_config import model_cfg
from npefficient.network.architecture import build
from npefficient.network.parameters import Source, Weights, random_weights
from npefficient.network.variants import VARIANTS

SHORT = [variant.short_name for variant in VARIANTS.values()]
OVERRIDES = [
    {}, {"input_size": (3, 64, 96)}, {"input_size": [3, 64, 64]}, {"img_size": 100},
    {"img_size": 100, "input_size": (3, 32, 32)}, {"crop_pct": 1.0}, {"crop_mode": "squash"}, {"crop_mode": "border"},
    {"interpolation": "bilinear"}, {"mean": (0.1, 0.2, 0.3)}, {"mean": [0.5]}, {"std": [0.25, 0.5, 0.75]},
    {"std": (0.5,)}, {"mean": None, "std": None, "input_size": None, "crop_pct": None, "interpolation": None},
    {"interpolation": "", "crop_pct": 0, "crop_mode": ""},  # the defaults of argument parsers
    {"batch_size": 8, "data_dir": "photos", "num_classes": 3, "workers": None},
    {"crop_pct": 0.9, "interpolation": "lanczos", "img_size": 50, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0),
     "crop_mode": "border"},
]


def override_id(args):
    return "-".join(f"{name}={value}" for name, value in args.items()).replace(" ", "") or "nothing"


@functools.cache
def model(short):
    return npefficient.create_model(short, num_classes=0)


@functools.cache
def timm_model(short):
    with torch.device("meta"):  # no weights
        return timm.create_model(f"tf_efficientnet_{short}", num_classes=0)


# --- settings --------------------------------------------------------------------------------------------------------


@needs_timm
@pytest.mark.parametrize("args", OVERRIDES, ids=override_id)
@pytest.mark.parametrize("short", SHORT)
def test_resolve_data_config_is_timms(short, args):
    given = dict(args)
    right = timm.data.resolve_data_config(dict(args), model=timm_model(short))
    assert npefficient.resolve_data_config(args, model=model(short)) == right
    assert npefficient.resolve_model_data_config(model(short), args) == right
    assert npefficient.resolve_data_config(args, pretrained_cfg=npefficient.get_pretrained_cfg(short)) == right
    cfg = npefficient.get_pretrained_cfg(short).to_dict()
    assert npefficient.resolve_data_config(args, cfg) == right
    assert args == given


@needs_timm
@pytest.mark.parametrize("args", [args for args in OVERRIDES if args], ids=override_id)
def test_resolve_data_config_without_a_model_is_timms(args):
    assert npefficient.resolve_data_config(args) == timm.data.resolve_data_config(args)


@needs_timm
@pytest.mark.parametrize("cfg", [
    {"input_size": (3, 48, 48)}, {"mean": None, "crop_pct": None}, {"interpolation": "", "crop_pct": 0.5},
    {"mean": (0.5, 0.5, 0.5), "url": "x"},
], ids=override_id)
def test_resolve_data_config_of_a_part_is_timms(cfg):
    """Settings left out of a configuration are timm's defaults, not those of the model given with it."""
    assert npefficient.resolve_data_config({}, cfg) == timm.data.resolve_data_config({}, cfg)
    assert npefficient.resolve_data_config(None, cfg, model("lite4")) == timm.data.resolve_data_config(
        None, cfg, timm_model("lite4"))


@needs_timm
@pytest.mark.parametrize("name", [*VARIANTS, *(f"{name}.in1k" for name in VARIANTS)])
def test_get_pretrained_cfg_is_timms(name):
    got, right = npefficient.get_pretrained_cfg(name), timm.get_pretrained_cfg(name)
    for field in got.__dataclass_fields__.keys() - {"file"}:
        assert getattr(got, field) == getattr(right, field), field
    assert right.to_dict().items() - got.to_dict().items() == {("custom_load", False), ("fixed_input_size", False)}


def test_get_pretrained_cfg_takes_any_name():
    assert npefficient.get_pretrained_cfg("lite3") == npefficient.get_pretrained_cfg("tf_efficientnet_lite3.in1k")
    with pytest.raises(ArgumentError, match="unknown model 'lite5': known are lite0 to lite4"):
        npefficient.get_pretrained_cfg("lite5")
    with pytest.raises(ArgumentError, match="'efficientnet_lite0.ra_in1k' is timm's own training"):
        npefficient.get_pretrained_cfg("efficientnet_lite0.ra_in1k")


def test_model_cfg_says_whose_weights_they_are():
    """Only the official file's weights have its URL; the settings are the model's own."""
    network = build("lite1", 7)
    random = random_weights(network)
    own = model_cfg(Weights(network, {}, npefficient.Preprocessing((60, 90), 1.0), None, random.source))
    assert (own["input_size"], own["crop_pct"], own["num_classes"], own["pool_size"]) == ((3, 60, 90), 1.0, 7, (2, 3))
    assert own["url"] is own["hf_hub_id"] is own["tag"] is None
    source = Source("tf_efficientnet_lite1-bde8b488.pth", "bde8b488" + "0" * 56, "torch-zip")
    official = model_cfg(Weights(network, {}, network.variant.preprocessing, None, source))
    assert official == {**npefficient.get_pretrained_cfg("lite1").to_dict(), "num_classes": 7}


@needs_timm
@pytest.mark.parametrize("pattern", ["*", "tf_efficientnet_lite*", "*lite[0-2]", "tf_*lite4", "*.in1k", "none*"])
def test_list_pretrained_is_timms(pattern):
    right = [name for name in timm.list_pretrained(pattern) if name.split(".")[0] in VARIANTS]
    assert npefficient.list_pretrained(pattern) == npefficient.list_models(pattern, pretrained=True) == right
    assert npefficient.list_models(filter=pattern) == [
        name for name in timm.list_models(filter=pattern) if name in VARIANTS]


def test_lists_by_short_name():
    assert npefficient.list_pretrained("lite0") == npefficient.list_pretrained("tf_efficientnet_lite0")
    assert npefficient.list_pretrained("lite[34]") == ["tf_efficientnet_lite3.in1k", "tf_efficientnet_lite4.in1k"]
    assert npefficient.list_pretrained() == [f"{name}.in1k" for name in npefficient.list_models()]


@pytest.mark.parametrize("pattern", [3, ["*lite0", 3], b"*"], ids=repr)
def test_lists_refuse_what_is_no_pattern(pattern):
    for ask in (npefficient.list_models, npefficient.list_pretrained):
        with pytest.raises(ArgumentError, match="filter .*: it must be a pattern such as"):
            ask(pattern)
    with pytest.raises(ArgumentError, match="exclude_filters .*: it must be a pattern such as .*, or a list of them"):
        npefficient.list_models(exclude_filters=pattern)


# --- pixels ----------------------------------------------------------------------------------------------------------


def photos():
    """Photos of every mode: (name, PIL image)."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (97, 131, 3), np.uint8))
    ramp = Image.fromarray(np.linspace(0, 255, 61 * 40 * 3).reshape(61, 40, 3).astype(np.uint8))
    tiny = Image.fromarray(rng.integers(0, 256, (1, 3, 3), np.uint8))
    return {"odd": rgb, "ramp": ramp, "palette": rgb.quantize(32), "grey": rgb.convert("L"), "tiny": tiny,
            "grey_alpha": rgb.convert("LA"), "rgba": rgb.convert("RGBA"), "bilevel": rgb.convert("1"),
            "cmyk": rgb.convert("CMYK")}


@needs_timm
@pytest.mark.parametrize("short", SHORT)
@pytest.mark.parametrize("name", photos())
def test_pixels_are_timms(name, short):
    """`create_transform(**resolve_data_config(model=model))` equals the model's own transform."""
    photo = photos()[name]
    config = timm.data.resolve_data_config({}, model=timm_model(short))
    right = timm.data.create_transform(**config)(photo.convert("RGB")).numpy().transpose(1, 2, 0)
    ours = npefficient.create_transform(**npefficient.resolve_data_config(model=model(short)), is_training=False)
    rgb = photo.convert("RGB")
    for got in (ours(rgb), ours(np.asarray(rgb)), model(short).transform(rgb)):
        assert got.shape == (*model(short).preprocessing.input_size, 3) and got.dtype == np.float32
        assert_same_bits(np.ascontiguousarray(got), np.ascontiguousarray(right))


@needs_timm
@pytest.mark.parametrize("name", ["palette", "grey", "grey_alpha", "rgba", "bilevel", "odd"])
def test_pixels_of_a_file_are_timms(tmp_path, name):
    path = tmp_path / "photo.png"
    photos()[name].save(path)
    config = timm.data.resolve_data_config({}, model=timm_model("lite0"))
    with Image.open(path) as opened:
        right = timm.data.create_transform(**config)(opened.convert("RGB")).numpy().transpose(1, 2, 0)
    ours = npefficient.create_transform(**npefficient.resolve_data_config(model=model("lite0")))
    m = model("lite0")
    for got in (ours(npefficient.open_image(path)), m.transform(path), m.transform(str(path))):
        assert_same_bits(np.ascontiguousarray(got), np.ascontiguousarray(right))


@needs_timm
@pytest.mark.parametrize("args", [args for args in OVERRIDES if args] + [
    {"input_size": (3, 33, 47), "crop_mode": mode, "interpolation": how, "crop_pct": pct}
    for mode, how, pct in (("squash", "nearest", 0.9), ("border", "bilinear", 1.0), ("center", "hamming", 0.4))
], ids=override_id)
@pytest.mark.parametrize("name", ["odd", "ramp"])
def test_pixels_under_other_settings_are_timms(name, args):
    photo = photos()[name]
    right = timm.data.create_transform(**timm.data.resolve_data_config(args, model=timm_model("lite0")))(photo)
    got = npefficient.create_transform(**npefficient.resolve_data_config(args, model=model("lite0")))(photo)
    assert_same_bits(np.ascontiguousarray(got), np.ascontiguousarray(right.numpy().transpose(1, 2, 0)))


@needs_timm
@pytest.mark.parametrize("input_size", [40, (40, 56), (3, 40, 56), [3, 40, 40], [40, 56]], ids=repr)
def test_create_transform_by_itself_is_timms(input_size):
    """Its defaults differ from a model's settings, as in timm."""
    photo = photos()["odd"]
    right = timm.data.create_transform(input_size)(photo).numpy().transpose(1, 2, 0)
    assert_same_bits(np.ascontiguousarray(npefficient.create_transform(input_size)(photo)), np.ascontiguousarray(right))


# --- invalid input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args, message", [
    ({"input_size": (0, 64, 64)}, r"input_size \(0, 64, 64\): the first number is the channels, a whole number"),
    ({"input_size": (64, 64)}, r"input_size \(64, 64\): it must be \(channels, rows, columns\)"),
    ({"input_size": 64}, r"input_size 64: it must be \(channels, rows, columns\); img_size is one number"),
    ({"input_size": (3, 0, 64)}, r"preprocessing input_size=\(0, 64\): it must be two whole numbers of at least 1"),
    ({"input_size": (3, 64.0, 64)}, r"preprocessing input_size=\(64.0, 64\)"),
    ({"img_size": "64"}, r"preprocessing input_size=\('64', '64'\)"),
    ({"img_size": 0}, r"preprocessing input_size=\(0, 0\)"),
    ({"img_size": 1 << 20}, r"preprocessing input_size=\(1048576, 1048576\): .* at most 67108864 pixels"),
    ({"interpolation": "area"}, "preprocessing interpolation='area': it must be one of nearest, box"),
    ({"interpolation": "random"}, "preprocessing interpolation='random'"),
    ({"crop_mode": "top"}, "preprocessing crop_mode='top': it must be one of center, squash, border"),
    ({"crop_pct": -0.5}, "preprocessing crop_pct=-0.5: it must be a share such as 0.875"),
    ({"crop_pct": "0.9"}, "preprocessing crop_pct='0.9': it must be a share"),
    ({"crop_pct": float("nan")}, "preprocessing crop_pct=nan"),
    ({"mean": (0.1, 0.2)}, r"preprocessing mean=\(0.1, 0.2\): it must be three finite numbers"),
    ({"mean": "abc"}, "preprocessing mean='abc'"),
    ({"mean": []}, r"preprocessing mean=\(\)"),
    ({"std": (0.5, 0.0, 0.5)}, r"preprocessing std=\(0.5, 0.0, 0.5\): it must be three finite numbers other than 0"),
    ({"std": np.array([0.5, np.inf, 0.5])}, r"preprocessing std=\(0.5, inf, 0.5\)"),
], ids=lambda value: override_id(value) if isinstance(value, dict) else None)
def test_settings_that_can_not_be(args, message):
    with pytest.raises(ArgumentError, match=message):
        npefficient.resolve_data_config(args, model=model("lite0"))


@pytest.mark.parametrize("arguments, message", [
    ({}, r"resolve_data_config\(\) without args, pretrained_cfg or model: give at least one"),
    ({"args": {}, "pretrained_cfg": {}}, "without args, pretrained_cfg or model"),
    ({"args": ["crop_pct"]}, r"args \['crop_pct'\]: it must be a dictionary"),
    ({"args": {"crop_pct": 1.0}, "pretrained_cfg": "lite0"}, "pretrained_cfg 'lite0': it must be a dictionary"),
    ({"model": "lite0"}, "model 'lite0': it must be what create_model returns"),
], ids=["nothing", "empty", "list", "name_for_cfg", "name_for_model"])
def test_resolve_data_config_refuses(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        npefficient.resolve_data_config(**arguments)


@pytest.mark.parametrize("arguments, message", [
    ({"is_training": True}, "is_training=True: this is the evaluation transform; npefficient.train"),
    ({"input_size": (True, 64, 64)}, r"input_size \(True, 64, 64\): the first number is the channels"),
    ({"input_size": (1, 3, 64, 64)}, r"preprocessing input_size=\(1, 3, 64, 64\)"),
    ({"input_size": ()}, r"preprocessing input_size=\(\)"),
    ({"input_size": None}, r"preprocessing input_size=\(None, None\)"),
    ({"input_size": True}, r"preprocessing input_size=\(True, True\)"),
    ({"mean": None}, "preprocessing mean=None: it must be three finite numbers"),
    ({"std": 0}, r"preprocessing std=\(0, 0, 0\): it must be three finite numbers other than 0"),
    ({"mean": True}, "preprocessing mean=.True, True, True.: it must be three finite numbers"),
    ({"interpolation": None}, "preprocessing interpolation=None"),
    ({"crop_pct": 300}, "preprocessing crop_pct=300: .* at most the input's shorter side"),
], ids=lambda value: override_id(value) if isinstance(value, dict) else None)
def test_create_transform_refuses(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        npefficient.create_transform(**arguments)


def test_create_transform_says_what_it_takes():
    with pytest.raises(ArgumentError, match="image 'photo.png': it must be a PIL image or an array .*open_image"):
        npefficient.create_transform(8)("photo.png")
