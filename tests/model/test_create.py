"""create_model and its arguments: names of the hub, folders, overlays; and batches without pictures."""
import functools

import numpy as np
import pytest
from live import needs_timm, timm, torch
from official import OFFICIAL, create

import npefficient
from npefficient.errors import ArgumentError, WeightsError
from npefficient.model import loading
from npefficient.network.architecture import build
from npefficient.network.parameters import random_weights
from npefficient.weights.weight_file import write_weights

X = np.random.default_rng(0).uniform(-1, 1, (1, 17, 23, 3)).astype(np.float32)


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [
    "lite0", "tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k", "timm/tf_efficientnet_lite0.in1k",
    "hf_hub:timm/tf_efficientnet_lite0.in1k", "hf-hub:timm/tf_efficientnet_lite0.in1k", "HF-HUB:timm/lite0",
    "timm/tf_efficientnet_lite0",
])
def test_every_name_of_the_official_weights(name, fetched):
    assert create(name, True).source == OFFICIAL
    assert fetched == ["tf_efficientnet_lite0"]
    assert npefficient.is_model(name) and npefficient.is_model_pretrained(name)
    assert npefficient.get_pretrained_cfg(name).hf_hub_id == "timm/tf_efficientnet_lite0.in1k"


@pytest.mark.parametrize("name, message", [
    ("hf-hub:someone/tf_efficientnet_lite0", "unknown model 'hf-hub:someone/tf_efficientnet_lite0'"),
    ("hf-hub:timm/efficientnet_lite0.ra_in1k", "is timm's own training of this network"),
    ("tf_efficientnet_lite0.other", "unknown model 'tf_efficientnet_lite0.other'"),
    ("resnet50", "unknown model 'resnet50'"),
    (0, "unknown model 0"),
], ids=str)
def test_names_that_there_are_not(name, message):
    with pytest.raises(ArgumentError, match=message):
        create(name)
    assert not npefficient.is_model_pretrained(name)


@needs_timm
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k", "tf_efficientnet_lite0.x",
                                  "tf_efficientnet_lite5", "", "tf_efficientnet_lite0."])
def test_is_model_is_timms(name):
    assert npefficient.is_model(name) == timm.is_model(name)
    assert npefficient.is_model_pretrained(name) == timm.is_model_pretrained(name) or name.endswith(".")


@needs_timm
@pytest.mark.parametrize("how", [
    {}, {"filter": ""}, {"filter": ["*lite0", "*lite2*"]}, {"exclude_filters": "*lite0"},
    {"filter": "tf_*lite*", "exclude_filters": ["*lite1", "*lite[23]"]}, {"module": "efficientnet"},
    {"module": ["vision_transformer", "efficientnet"], "filter": "*lite3"}, {"module": "vision_transformer"},
    {"pretrained": True}, {"pretrained": True, "exclude_filters": "*lite4"}, {"include_tags": True},
    {"pretrained": True, "include_tags": False}, {"name_matches_cfg": True}, {"exclude_filters": "*.in1k"},
    {"exclude_filters": "*.in1k", "pretrained": True}, {"filter": "*.in1k"},
], ids=lambda how: "-".join(f"{k}={v}" for k, v in how.items()).replace(" ", "") or "nothing")
def test_lists_are_timms(how):
    known = npefficient.network.variants.VARIANTS
    assert npefficient.list_models(**how) == [name for name in timm.list_models(**how) if name.split(".")[0] in known]
    if how.keys() <= {"filter", "exclude_filters"}:
        assert npefficient.list_pretrained(**how) == [
            name for name in timm.list_pretrained(**how) if name.split(".")[0] in known]


# --- files in place of the official weights --------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["file", "local-dir:", "LOCAL-DIR:"])
def test_a_file_in_place_of_the_official_weights_is_adapted(way, official):
    """Unlike a file named by checkpoint_path, which has to fit the arguments."""
    if way == "file":
        make = functools.partial(create, "lite0", pretrained=True, pretrained_cfg_overlay={"file": str(official)})
    else:
        make = functools.partial(create, f"{way}{official}", pretrained=True)
    assert make().source == OFFICIAL and make().labels == npefficient.imagenet_labels()
    assert make(num_classes=7, in_chans=1).architecture == build("lite0", 7, 1)
    expected = create("lite0", num_classes=0, checkpoint_path=official)
    np.testing.assert_array_equal(make(num_classes=0)(X), expected(X))
    assert make(features_only=True).feature_info.channels() == [16, 24, 40, 112, 320]


def test_a_local_folder_is_handed_on_as_it_is(monkeypatch, tmp_path):
    """The converter finds the weights and their settings in it."""
    asked = []
    monkeypatch.setattr(loading, "load_stored", lambda path, name: asked.append((path, name)) or random_weights(
        build("lite1", 3)))
    assert create(f"local-dir:{tmp_path}", pretrained=True, num_classes=2).architecture == build("lite1", 2)
    assert asked == [(tmp_path, None)]


def test_a_local_folder_that_is_not_there():
    text = "'local-dir:nope': there is no folder 'nope'; .* save_for_hf .*, with model.safetensors and config.json"
    for make in (functools.partial(create, "local-dir:nope", pretrained=True),
                 functools.partial(create, checkpoint_path="local-dir:nope"),
                 functools.partial(npefficient.convert, "local-dir:nope")):
        with pytest.raises(WeightsError, match=text):
            make()


def test_a_files_classes_are_those_of_the_file(tmp_path):
    """timm raises if they are not its default of 1000; here the file tells how many there are."""
    write_weights(tmp_path / "three.h5", random_weights(build("lite0", 3)))
    assert create("lite0", checkpoint_path=tmp_path / "three.h5").num_classes == 3
    with pytest.raises(ArgumentError, match="num_classes 1000: these weights have 3"):
        create("lite0", checkpoint_path=tmp_path / "three.h5", num_classes=1000)


@pytest.mark.parametrize("arguments, options, message", [
    (("local-dir:x",), {}, "model_name='local-dir:x' without pretrained=True: the weights would be random"),
    (("lite0",), {"pretrained_cfg_overlay": {"file": "x.h5"}}, "overlay=.'file': ...* without pretrained=True"),
    (("lite1", True), {"pretrained_cfg_overlay": {"file": "{}"}}, "name 'tf_efficientnet_lite1': these weights have"),
    (("lite0", True), {"pretrained_cfg": "ra_in1k"}, "pretrained_cfg 'ra_in1k': it must be 'in1k'"),
    (("lite0", True), {"pretrained_cfg": {"file": "x"}}, "pretrained_cfg .*pretrained_cfg_overlay=.* changes single"),
    (("lite0",), {"pretrained_cfg_overlay": "x"}, "pretrained_cfg_overlay 'x': it must be a dictionary"),
    (("lite0",), {"pretrained_cfg_overlay": {"url": "x", "mean": 0.5}}, "overlay with 'url': it may have file, input_"),
    (("lite0",), {"pretrained_cfg_overlay": {"crop_pct": -1}}, "preprocessing crop_pct=-1: it must be a share"),
    (("mine.h5",), {}, "unknown model 'mine.h5': it looks like a file, which "
     r"create_model\(checkpoint_path=..\) reads \(--weights\)"),
    (("runs/best.pth",), {}, "unknown model 'runs/best.pth': it looks like a file"),
    (("lite0", True), {"checkpoint_path": "a.h5"}, "pretrained=True and checkpoint_path='a.h5': give one of them"),
], ids=["local_dir", "file", "other_variant", "tag", "cfg", "overlay", "url", "setting", "file_as_name",
        "path_as_name", "both"])
def test_create_model_refuses(arguments, options, message, official):
    overlay = options.get("pretrained_cfg_overlay", {})
    if overlay == {"file": "{}"}:
        options = {"pretrained_cfg_overlay": {"file": official}}
    with pytest.raises(ArgumentError, match=message):
        create(*arguments, **options)


# --- settings --------------------------------------------------------------------------------------------------------


@needs_timm
@pytest.mark.parametrize("overlay", [
    {"input_size": (3, 64, 96)}, {"mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)}, {"crop_pct": 1.0},
    {"interpolation": "bilinear", "crop_mode": "squash"}, {},
], ids=lambda overlay: "-".join(overlay) or "nothing")
def test_an_overlay_changes_the_preprocessing_as_in_timm(overlay, fetched, photo):
    with torch.device("meta"):
        theirs = timm.create_model("tf_efficientnet_lite0", pretrained_cfg_overlay=overlay, pretrained_cfg="in1k")
    right = timm.data.resolve_data_config({}, model=theirs)
    pixels = timm.data.create_transform(**right)(photo).numpy().transpose(1, 2, 0)
    for ours in (create("lite0", pretrained_cfg_overlay=overlay, pretrained_cfg="in1k"),
                 create("lite0", pretrained=True, pretrained_cfg_overlay=overlay),
                 create("lite0", features_only=True, pretrained_cfg_overlay=overlay)):
        assert npefficient.resolve_data_config(model=ours) == right
        np.testing.assert_array_equal(ours.transform(photo), pixels)
        assert {name: ours.pretrained_cfg[name] for name in overlay} == overlay


@needs_timm
@pytest.mark.parametrize("args", [
    {"in_chans": 1, "img_size": 64, "mean": (0.5,), "std": (0.5,)}, {"chans": 1, "img_size": 64, "mean": [0.5]},
    {"input_size": (1, 64, 64), "std": (0.5,)}, {"in_chans": 1}, {"in_chans": 1, "mean": (0.5,)},
], ids=lambda args: "-".join(args))
def test_resolve_data_config_of_one_channel_is_timms(args):
    assert npefficient.resolve_data_config(args) == timm.data.resolve_data_config(args)


@needs_timm
def test_test_sizes_are_timms():
    cfg = {"input_size": (3, 64, 64), "test_input_size": (3, 80, 80), "crop_pct": 0.9, "test_crop_pct": 1.0}
    for use in (False, True):
        right = timm.data.resolve_data_config({}, cfg, use_test_size=use)
        assert npefficient.resolve_data_config({}, cfg, use_test_size=use, verbose=True) == right
        model = create("lite0", num_classes=0)
        assert npefficient.resolve_model_data_config(model, {}, cfg, use) == right


@needs_timm
@pytest.mark.parametrize("how", [{"mean": 0.5, "std": 0.25}, {"mean": (0.5,)}, {"std": 3}, {"mean": np.float32(0.5)}],
                         ids=str)
def test_scalars_of_create_transform_are_timms(how, photo):
    right = timm.data.create_transform(32, **how)(photo).numpy().transpose(1, 2, 0)
    np.testing.assert_array_equal(npefficient.create_transform(32, **how)(photo), right)


@needs_timm
def test_one_channel_as_timms_loader_has_it(photo):
    """timm's datasets convert to "L" for a network with one channel, and its transform does the rest."""
    config = {"input_size": (1, 32, 40), "mean": (0.5,), "std": (0.25,), "interpolation": "bicubic"}
    right = timm.data.create_transform(**config)(photo.convert("L")).numpy().transpose(1, 2, 0)
    got = npefficient.create_transform(**config)(photo)
    assert got.shape == (32, 40, 1)
    np.testing.assert_array_equal(got, right)


def test_a_model_of_one_channel_takes_photos(photo, tmp_path):
    """Through the model, and through a transform with the model's settings."""
    photo.save(tmp_path / "photo.png")
    model = create("lite0", in_chans=1, num_classes=3, pretrained_cfg_overlay={"input_size": (3, 32, 32)})
    x = model.transform(tmp_path / "photo.png")
    assert x.shape == (32, 32, 1) and model(x[None]).shape == (1, 3) and len(model.classify(photo)) == 3
    transform = npefficient.create_transform(**npefficient.resolve_data_config(model=model))
    np.testing.assert_array_equal(transform(photo), x)
    features = create("lite0", in_chans=1, features_only=True, pretrained_cfg_overlay={"input_size": (3, 32, 32)})
    np.testing.assert_array_equal(features.transform(photo), x)


def test_a_model_of_four_channels_takes_arrays_alone(photo):
    model = create("lite0", in_chans=4, num_classes=3)
    with pytest.raises(ArgumentError, match="with 4 input channels can't take photos"):
        model.transform(photo)


# --- no pictures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["engine", "reference"])
@pytest.mark.parametrize("options", [{"num_classes": 7}, {"num_classes": 0}, {"num_classes": 0, "global_pool": ""},
                                     {"num_classes": 3, "global_pool": "catavgmax"}],
                         ids=["classes", "features", "map", "catavgmax"])
def test_no_pictures_give_no_outputs(options, backend):
    """As in timm: the shapes are those for one picture, with a batch of 0."""
    model, layers = create("lite0", backend=backend, **options), ["conv_stem", "blocks.2.1.bn3", "blocks.6", "bn2"]
    for threads in (1, 3):
        model = npefficient.create_model("lite0", backend=backend, num_threads=threads, **options)
        none = X[:0]
        assert model(none).shape == (0, *model(X).shape[1:]) and model(none).dtype == np.float32
        for name, array in model.activations(none, layers).items():
            assert array.shape == (0, *model.activations(X, [name])[name].shape[1:])
        assert model.forward_head(model.forward_features(none)).shape == model(none).shape
        last, maps = model.forward_intermediates(none)
        assert len(last) == 0 and [array.shape[3] for array in maps] == model.feature_info.channels()


@needs_timm
def test_no_pictures_give_no_outputs_in_timm():
    theirs = timm.create_model("tf_efficientnet_lite0", num_classes=7).eval()
    batch = npefficient.transform_batch([])
    with torch.no_grad():
        right = theirs(torch.from_numpy(batch).permute(0, 3, 1, 2))
    assert create("lite0", num_classes=7)(batch).shape == tuple(right.shape) == (0, 7)
