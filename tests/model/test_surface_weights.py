"""Other classifiers, channels and pools for the same weights, against timm: in memory, by name and through files."""
import functools
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from engines import assert_same_bits
from live import calibrated, needs_timm, timm, torch
from maps import assert_map
from surface import ODD, VARIANTS, call, hooked, model, nchw, ours, pixels, timm_model, weight_file

import npefficient
import weights_convert
from npefficient.commands import main
from npefficient.errors import ArgumentError, WeightsError
from npefficient.weights.adapt import adapt_stem
from npefficient.weights.weight_file import read_weights

pytestmark = needs_timm


def fresh(variant="lite0", **options):
    """A new model, which the test may change."""
    return npefficient.create_model(checkpoint_path=weight_file(variant), num_threads=1, **options)


# --- reset_classifier ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["engine", "reference"])
@pytest.mark.parametrize("num_classes, pool", [
    (0, None), (10, None), (1000, None), (0, ""), (0, "max"), (7, "avgmax"), (10, "catavgmax"), (0, "catavgmax"),
], ids=lambda value: None if value is None else repr(value))
def test_reset_classifier_has_timms_shapes(num_classes, pool, backend):
    m, timms, x = fresh(backend=backend), timm_model("lite0", 3), pixels(2, ODD)
    before = m.forward_features(x)
    m.reset_classifier(num_classes, pool)
    timms.reset_classifier(num_classes, pool)
    right = ours(call(timms.eval(), nchw(x)))
    assert m.num_classes == timms.num_classes == num_classes and m.num_features == timms.num_features
    if num_classes or pool != "":
        assert m.head_hidden_size == timms.head_hidden_size
    assert m(x).shape == right.shape and len(m.labels) == num_classes
    assert m.architecture.global_pool == timms.global_pool.pool_type
    assert_same_bits(m.forward_features(x), before)
    assert_same_bits(m.forward_head(before), m(x))
    state = timms.state_dict()
    assert set(m.architecture.parameters()) == set(state)
    for name, shape in m.architecture.parameters().items():
        assert tuple(state[name].shape) == shape, name
    if not num_classes:  # nothing random is left: the values are timm's too
        assert_map(m(x), right, m.architecture, "bn2")


def test_reset_classifier_again_and_again():
    """Earlier classifiers leave no trace, and maps that the engine never computes are still available."""
    m, x = fresh(), pixels(1, ODD)
    for num_classes, pool in ((5, "max"), (0, ""), (0, "avg"), (4, "catavgmax"), (3, "avg")):
        m.reset_classifier(num_classes, pool)
    once = fresh()
    once.reset_classifier(3)
    assert_same_bits(m(x), once(x))
    assert_same_bits(m.activations(x, ["conv_stem"])["conv_stem"], once.activations(x, ["conv_stem"])["conv_stem"])
    assert m.labels == ("class 0", "class 1", "class 2") and m.num_threads == once.num_threads == 1
    assert repr(m) == repr(once) and "3 classes" in repr(m)


def test_reset_classifier_makes_another_one_of_the_same_size():
    m, x = fresh(), pixels(1, ODD)
    before = m(x)
    m.reset_classifier(1000)
    assert m(x).shape == before.shape and np.abs(m(x) - before).max() > 0.1


@pytest.mark.parametrize("arguments, message", [
    ((-1,), "num_classes -1: it must be a whole number of at least 0"),
    ((2.5,), "num_classes 2.5: it must be a whole number"),
    ((True,), "num_classes True: it must be a whole number"),
    ((2, ""), "global_pool '' with 2 classes: a classifier needs pooled features"),
    ((2, "sum"), "global_pool 'sum': it must be one of 'avg', 'max', 'avgmax', 'catavgmax', ''"),
], ids=repr)
def test_reset_classifier_refuses_and_changes_nothing(arguments, message):
    m, x = model("lite0"), pixels(1, ODD)
    before = m(x), repr(m)
    with pytest.raises(ArgumentError, match=message):
        m.reset_classifier(*arguments)
    assert repr(m) == before[1]
    assert_same_bits(m(x), before[0])


@pytest.mark.parametrize("backend", ["engine", "reference"])
def test_reset_classifier_notices_another_file(tmp_path, backend):
    path = shutil.copy(weight_file("lite0"), tmp_path / "w.h5")
    m, x = npefficient.create_model(checkpoint_path=path, backend=backend, num_threads=1), pixels(1, ODD)
    before = m(x)
    shutil.copy(weight_file("lite1"), path)
    with pytest.raises(WeightsError, match="weights of '.*w.h5' have changed since this model was"):
        m.reset_classifier(5)
    assert_same_bits(m(x), before)


# --- other input channels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("in_chans", [1, 2, 3, 4, 6, 7])
def test_adapt_stem_is_timms(in_chans, dtype):
    weight = np.random.default_rng(0).normal(0, 0.3, (32, 3, 3, 3)).astype(dtype)
    kept = weight.copy()
    got = adapt_stem(weight, in_chans)
    right = timm.models.adapt_input_conv(in_chans, torch.from_numpy(weight.copy())).numpy()
    assert got.dtype == right.dtype == dtype and got.shape == right.shape == (32, in_chans, 3, 3)
    np.testing.assert_array_equal(got, right)
    np.testing.assert_array_equal(weight, kept)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache with stand-ins for the official weights of every variant: calibrated ones under their names."""
    directory = tmp_path_factory.mktemp("cache")
    (directory / "weights").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NPEFFICIENT_CACHE", str(directory))
        yield directory / "weights"


def placed(cache, variant):
    """The name of a variant whose weights are in the cache."""
    official = npefficient.network.variants.VARIANTS[f"tf_efficientnet_{variant}"].file
    stored = cache / Path(official).with_suffix(".h5")
    if not stored.exists():
        shutil.copy(weight_file(variant), stored)
    return f"tf_efficientnet_{variant}"


@functools.cache
def timm_pretrained(variant, **options):
    """timm's own `pretrained=True` on the same weights, so that it does the adapting."""
    state = calibrated(variant).state_dict()
    return timm.create_model(f"tf_efficientnet_{variant}", pretrained=True, pretrained_cfg_overlay={
        "state_dict": {name: tensor.clone() for name, tensor in state.items()}}, **options).eval()


@pytest.mark.parametrize("variant, in_chans", [*((v, 1) for v in VARIANTS), ("lite0", 2), ("lite0", 4), ("lite0", 6)])
def test_pretrained_with_other_channels(cache, variant, in_chans):
    m = npefficient.create_model(placed(cache, variant), pretrained=True, in_chans=in_chans, num_threads=2)
    timms, x = timm_pretrained(variant, in_chans=in_chans), pixels(1, ODD, in_chans)
    assert m.architecture.in_chans == in_chans and m.num_classes == 1000
    right = hooked(timms, x, ["conv_stem", "bn1", "bn2", "classifier"])
    for name, got in m.activations(x, right).items():
        assert_map(got, right[name], m.architecture, name)
    assert_map(m(x), right["classifier"], m.architecture, "classifier")


@pytest.mark.parametrize("backend", ["engine", "reference"])
@pytest.mark.parametrize("options", [
    {}, {"num_classes": 10}, {"num_classes": 0}, {"num_classes": 10, "global_pool": "catavgmax", "in_chans": 1},
    {"global_pool": "max"}, {"num_classes": 0, "global_pool": ""}, {"features_only": True},
    {"features_only": True, "out_indices": (1, 3), "in_chans": 4},
], ids=lambda options: "-".join(f"{name}={value}" for name, value in options.items()) or "as_it_is")
def test_pretrained_with_another_head(cache, options, backend):
    m = npefficient.create_model(placed(cache, "lite0"), pretrained=True, backend=backend, num_threads=2, **options)
    timms, x = timm_pretrained("lite0", **options), pixels(2, ODD, options.get("in_chans", 3))
    got, right = m(x), call(timms, nchw(x))
    if "features_only" in options:
        assert m.feature_info.module_name() == timms.feature_info.module_name()
        for a, b, name in zip(got, right, m.feature_info.module_name(), strict=True):
            assert_map(a, ours(b), m.architecture, name)
        return
    assert got.shape == ours(right).shape and m.num_classes == timms.num_classes
    if options.get("num_classes") == 10:  # both random
        assert m.labels == tuple(f"class {i}" for i in range(10))
        assert_map(m.forward_features(x), ours(call(timms.forward_features, nchw(x))), m.architecture, "bn2")
    else:
        assert_map(got, ours(right), m.architecture, "bn2")


def test_pretrained_with_another_number_of_classes_is_seeded(cache):
    x = pixels(1, ODD)
    once, again = (npefficient.create_model(placed(cache, "lite0"), pretrained=True, num_classes=10) for _ in range(2))
    assert_same_bits(once(x), again(x))
    assert np.abs(once(x)).max() > 0.1


def test_pretrained_pool_that_the_classifier_does_not_fit(cache):
    """timm makes the model and then can't load the weights."""
    with pytest.raises(RuntimeError, match="size mismatch for classifier.weight"):
        timm_pretrained("lite0", global_pool="catavgmax")
    with pytest.raises(ArgumentError, match="global_pool 'catavgmax' gives 2560 features: the classifier takes 1280"):
        npefficient.create_model(placed(cache, "lite0"), pretrained=True, global_pool="catavgmax")


# --- through files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant, num_classes, pool", [
    ("lite0", 0, "avg"), ("lite4", 0, "avg"), ("lite0", 5, "max"), ("lite0", 5, "avgmax"), ("lite0", 5, "catavgmax"),
    ("lite1", 3, "catavgmax"), ("lite0", 0, "max"), ("lite0", 0, "catavgmax"), ("lite0", 0, ""),
], ids=lambda value: repr(value) if value == "" else None)
def test_from_timm_and_back(tmp_path, capsys, variant, num_classes, pool):
    """torch.save, `npefficient convert`, run, `npefficient export`, and strictly into timm again."""
    timms, x, name = timm_model(variant, num_classes, pool), pixels(1, ODD), f"tf_efficientnet_{variant}"
    checkpoint, weights, exported = (tmp_path / f"{name}.{end}" for end in ("pth", "h5", "safetensors"))
    torch.save(timms.state_dict(), checkpoint)
    if pool:
        assert main(["convert", str(checkpoint), "--global-pool", pool]) == 0
        output = capsys.readouterr()
        assert f"found    {name}: {num_classes} classes" in output.out
        assert ("no classifier: the model returns pooled features" in output.err) == (num_classes == 0)
        assert ("next     npefficient classify" in output.out) == (num_classes > 0)
    else:  # useful only in code
        weights_convert.convert(checkpoint, global_pool="")
    read = read_weights(weights)
    assert read.architecture == npefficient.network.architecture.build(variant, num_classes, 3, pool)
    m, right = npefficient.create_model(checkpoint_path=weights, num_threads=2), ours(call(timms, nchw(x)))
    assert m.architecture.global_pool == pool
    assert_map(m(x), right, m.architecture, "bn2")
    assert main(["export", str(weights), str(exported)]) == 0
    assert f"num_classes={num_classes}, in_chans=3, global_pool={pool!r}, checkpoint_path=" in capsys.readouterr().out
    back = timm.create_model(name, num_classes=num_classes, global_pool=pool, checkpoint_path=str(exported)).eval()
    state = timms.state_dict()
    assert back.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in back.state_dict().items())
    np.testing.assert_array_equal(ours(call(back, nchw(x))), right)


@pytest.fixture
def checkpoint(tmp_path):
    """get(num_classes, pool): a checkpoint of lite0 that names no pool."""
    def get(num_classes, pool="avg"):
        path = tmp_path / "tf_efficientnet_lite0.pth"
        torch.save(timm_model("lite0", num_classes, pool).state_dict(), path)
        return path

    return get


@pytest.mark.parametrize("pool", ["avg", "max", "avgmax", "catavgmax", ""], ids=repr)
def test_weight_file_names_a_pool_that_is_not_usual(tmp_path, checkpoint, pool):
    path = weights_convert.convert(checkpoint(0, pool), global_pool=pool).target
    with h5py.File(path) as file:
        assert file.attrs.get("global_pool", b"avg").decode() == pool
        assert ("global_pool" in file.attrs) == (pool != "avg")
    assert npefficient.create_model(checkpoint_path=path).architecture.global_pool == pool


def test_a_classifier_twice_as_wide_tells_its_pool(checkpoint):
    path = checkpoint(5, "catavgmax")
    assert weights_convert.convert(path).weights.architecture.global_pool == "catavgmax"
    assert npefficient.create_model(checkpoint_path=path).architecture.global_pool == "catavgmax"
    assert main(["convert", str(path), "--force", "--global-pool", "max"]) == 1
    for pool in ("avg", "max", "avgmax"):
        with pytest.raises(WeightsError, match=r"'classifier.weight' is \(5, 2560\) instead of \(5, 1280\)"):
            weights_convert.convert(path, global_pool=pool, force=True)
        with pytest.raises(ArgumentError, match=f"global_pool '{pool}' gives 1280 features: the classifier takes 2560"):
            npefficient.create_model(checkpoint_path=path, global_pool=pool)
    assert npefficient.create_model(checkpoint_path=path, num_classes=0, global_pool="max").head_hidden_size == 1280


def test_a_pool_that_can_not_be(checkpoint, capsys):
    path = checkpoint(5)
    with pytest.raises(WeightsError, match=r"'classifier.weight' is \(5, 1280\) instead of \(5, 2560\)"):
        weights_convert.convert(path, global_pool="catavgmax")
    with pytest.raises(ArgumentError, match="global_pool 'min': it must be one of"):
        weights_convert.convert(path, global_pool="min")
    with pytest.raises(ArgumentError, match="global_pool '' with 5 classes: a classifier needs pooled features"):
        weights_convert.convert(path, global_pool="")
    with pytest.raises(SystemExit, match="2"):
        main(["convert", str(path), "--global-pool", "min"])
    assert "invalid choice: 'min'" in capsys.readouterr().err
    assert not path.with_suffix(".h5").exists()


def test_a_checkpoint_without_classifier_warns_where_it_is_read_directly(checkpoint):
    with pytest.warns(UserWarning, match="the file has no classifier: the model returns pooled features"):
        m = npefficient.create_model(checkpoint_path=checkpoint(0), num_threads=1)
    assert m(pixels(1, ODD)).shape == (1, 1280)
    with pytest.raises(ArgumentError, match="tf_efficientnet_lite0 without a classifier can't name classes"):
        m.classify(np.zeros((9, 9, 3), np.uint8))
