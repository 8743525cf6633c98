"""Every name of timm's is decided here: it works the same, has no effect, or is an error that names a remedy."""
import importlib
import inspect
import re

import numpy as np
import pytest
from live import needs_timm, timm, torch
from PIL import Image

import npefficient
from npefficient.errors import ArgumentError, MissingError
from npefficient.model import timm_names
from npefficient.model.timm_names import ABSENT, ABSENT_OF_FEATURES, AS_IT_IS, INSTEAD, NO_EFFECT, check_options

X = np.random.default_rng(0).uniform(-1, 1, (1, 9, 9, 3)).astype(np.float32)
PACKAGE = {  # timm's names -> ours, or why there is none
    "same": {"create_model", "get_pretrained_cfg", "is_model", "is_model_pretrained", "list_models", "list_pretrained"},
    "of its registry": {"get_pretrained_cfg_value", "list_modules", "model_entrypoint"},
    "of torch's compilers": {"is_exportable", "is_scriptable", "set_exportable", "set_scriptable"},
    "modules": {"data", "layers", "models", "utils", "version"},
}


@pytest.fixture(scope="module")
def model():
    return npefficient.create_model("lite0", num_classes=5, num_threads=1)


@pytest.fixture(scope="module")
def features():
    return npefficient.create_model("lite0", features_only=True, num_threads=1)


def public(thing) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def arguments(function) -> set[str]:
    return {p.name for p in inspect.signature(function).parameters.values() if p.kind not in (p.VAR_KEYWORD,
                                                                                               p.VAR_POSITIONAL)}


# --- completeness ----------------------------------------------------------------------------------------------------


@needs_timm
def test_every_argument_of_create_model_is_decided():
    """Its own, those of the functions that it passes them on to, and those for batch norms."""
    known = arguments(timm.create_model) | arguments(timm.models.efficientnet.EfficientNet.__init__) - {"self"}
    known |= arguments(timm.models.build_model_with_cfg) - {"model_cls", "variant"}
    known |= {"bn_eps", "bn_momentum", "features_only", "out_indices", "feature_cls", "pruned"}
    assert known - decided("create_model") == set()
    assert decided("create_model") - known == {"num_threads", "backend", "precision", "img_size"}


@needs_timm
def test_every_argument_of_create_transform_is_decided():
    assert arguments(timm.data.create_transform) == decided("create_transform")


def decided(function: str) -> set[str]:
    """All arguments that the function takes or has an answer for; none has two answers."""
    ours, tables = arguments(getattr(npefficient, function)), (NO_EFFECT[function], set(INSTEAD[function]))
    assert sum(map(len, (ours, *tables))) == len(ours.union(*tables))
    assert AS_IT_IS[function].keys() <= tables[1]
    return ours.union(*tables)


@needs_timm
@pytest.mark.parametrize("options", [{}, {"features_only": True}], ids=["whole", "features_only"])
def test_every_attribute_of_a_model_is_decided(options, model, features):
    with torch.device("meta"):
        theirs = public(timm.create_model("tf_efficientnet_lite0", **options))
    ours, absent = (features, ABSENT_OF_FEATURES) if options else (model, ABSENT)
    assert theirs - public(ours) - absent.keys() == set()
    assert not public(ours) & absent.keys()


@needs_timm
def test_every_absent_name_is_one_of_timms():
    with torch.device("meta"):
        whole, part = (timm.create_model("tf_efficientnet_lite0", features_only=f) for f in (False, True))
    assert ABSENT_OF_FEATURES.keys() - public(whole) - public(part) == set()


@needs_timm
def test_every_name_of_the_package_is_decided():
    names, decided = public(timm), set().union(*PACKAGE.values())
    modules = {name for name in names if inspect.ismodule(getattr(timm, name))}  # more appear as they are imported
    assert names - modules <= decided <= names
    assert PACKAGE["same"] <= set(npefficient.__all__)
    assert {"create_transform", "resolve_data_config", "resolve_model_data_config"} <= set(npefficient.__all__)


# --- the page --------------------------------------------------------------------------------------------------------


def page() -> dict[str, tuple[set[str], dict[str, set[str]]]]:
    """Each item of the page: its head -> (names in backticks, function -> arguments in its parentheses)."""
    items, item = {}, r"^- \*\*([\w ]+)\*\*[:,](.*?)(?=^- |^`tests)"
    for head, text in re.findall(item, timm_names.__doc__, re.DOTALL | re.MULTILINE):
        quoted = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]
        calls = dict(code.removesuffix(")").split("(") for code in quoted if "(" in code)
        items[head] = {code for code in quoted if "(" not in code}, {f: set(a.split(", ")) for f, a in calls.items()}
    return items


def test_page_has_four_items():
    assert list(page()) == ["Same", "Different", "No effect", "Absent"]
    names = [name for names, _ in page().values() for name in names]
    assert len(names) == len(set(names)) > 40, "a name stands in one item alone"


@needs_timm
def test_page_tells_of_models_what_is_true(model):
    with torch.device("meta"):
        theirs = public(timm.create_model("tf_efficientnet_lite0"))
    for head, (names, _) in page().items():
        for name in (name.removeprefix("model.") for name in names if name.startswith("model.")):
            assert name in theirs or name == "set_classifier", name
            assert hasattr(model, name) != (head == "Absent") and (name in ABSENT) == (head == "Absent"), name
    different = {name for name in public(model) & theirs if name not in ABSENT}
    told = {name.removeprefix("model.") for head, (names, _) in page().items() if head != "Absent" for name in names}
    assert different - told == {"training"}


@needs_timm
def test_page_tells_of_functions_what_is_true():
    items = page()
    plain = {name for name in items["Same"][0] if not name.startswith("model.")}
    assert plain == {name for name in npefficient.__all__ if hasattr(timm, name) or hasattr(timm.data, name)} - {
        "create_model", "create_transform"}
    for function, theirs in (("create_model", timm.create_model), ("create_transform", timm.data.create_transform)):
        ours = arguments(getattr(npefficient, function))
        told = {head: calls.get(function, set()) for head, (_, calls) in items.items()}
        assert told["Same"] | told["Different"] == ours - {"num_threads", "backend", "precision", "is_training"}
        assert told["No effect"] <= NO_EFFECT[function] and told["Absent"] <= INSTEAD[function].keys()
        assert told["Different"] <= arguments(theirs)
    assert items["No effect"][1]["create_model"] == NO_EFFECT["create_model"]


# --- attributes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ABSENT)
def test_absent_names_say_what_to_do(name, model):
    assert not hasattr(model, name)
    with pytest.raises(MissingError, match=f"^Model.{name}: .+") as caught:
        getattr(model, name)
    assert isinstance(caught.value, AttributeError) and isinstance(caught.value, ArgumentError)
    with pytest.raises(MissingError, match=f"^Model.{name} can't be set: .+"):
        setattr(model, name, None)


def test_remedies_name_what_there_is(model, features):
    """Whatever a remedy names of a model, of its features or of the package exists."""
    for text in {remedy for table in (ABSENT_OF_FEATURES, *INSTEAD.values()) for remedy in table.values()}:
        for who, path in re.findall(r"\b(model|features|npefficient)\.([a-z_.]+[a-z])", text):
            found = {"model": model, "features": features, "npefficient": npefficient}[who]
            for part in path.split("."):
                found = getattr(found, part, None) or importlib.import_module(f"{found.__name__}.{part}")


@pytest.mark.parametrize("name", ["classifier", "global_pool", "num_classes", "labels", "training", "feature_info"])
def test_what_tells_of_a_model_can_not_be_set(name, model):
    before = model(X)
    with pytest.raises(MissingError, match=f"^Model.{name} can't be set: set_classifier and reset_classifier replace"):
        setattr(model, name, "max")
    np.testing.assert_array_equal(model(X), before)


def test_unknown_attributes_are_pythons_own_affair(model):
    with pytest.raises(AttributeError, match="'Model' object has no attribute 'clasify'") as caught:
        model.clasify
    assert not isinstance(caught.value, ArgumentError)


def test_what_changes_nothing_returns_the_model(model, features):
    for m in (model, features):
        for same in (m.eval(), m.train(False), m.cpu(), m.float(), m.requires_grad_(False), m.to("cpu"), m.to("cpu:0"),
                     m.to(dtype=np.float32), m.to(np.dtype(np.float32)), m.to(), m.to(device=None, non_blocking=True),
                     m.eval().cpu().float().train(mode=False)):
            assert same is m
        assert m.compile() is m.set_grad_checkpointing(False) is None and m.training is False
        assert m.default_cfg is m.pretrained_cfg and m.in_chans == 3
    np.testing.assert_array_equal(model.forward(X), model(X))
    for got, expected in zip(features.forward(X), features(X), strict=True):
        np.testing.assert_array_equal(got, expected)


@needs_timm
def test_to_takes_torchs_own_words(model):
    assert model.to(torch.device("cpu"), torch.float32, memory_format=torch.channels_last) is model
    for wanted in (torch.device("cuda"), torch.float16, torch.float64, torch.zeros(1)):
        with pytest.raises(ArgumentError, match=r"^to\(.*float32 or int8 on the CPU"):
            model.to(wanted)


@pytest.mark.parametrize("call, message", [
    (lambda m: m.train(), r"train\(\): a model is always in evaluation mode; .*npefficient.train trains"),
    (lambda m: m.train(mode=True), r"train\(\): a model is always in evaluation mode"),
    (lambda m: m.requires_grad_(), r"requires_grad_\(\): a model only infers; npefficient.train "),
    (lambda m: m.to("cuda"), r"to\('cuda'\): everything runs in float32 or int8 on the CPU"),
    (lambda m: m.to(np.float16), r"to\(.*float16.*\): everything runs in float32"),
    (lambda m: m.to(float), r"to\(.*float.*\): everything runs in float32"),  # torch's word for float64
], ids=["train", "train_mode", "gradients", "cuda", "half", "double"])
def test_what_would_change_something_is_refused(call, message, model, features):
    for m in (model, features):
        with pytest.raises(ArgumentError, match=message):
            call(m)


# --- arguments -------------------------------------------------------------------------------------------------------


def test_arguments_for_training_have_no_effect(model):
    options = {name: 0.5 for name in NO_EFFECT["create_model"]} | AS_IT_IS["create_model"]
    again = npefficient.create_model("lite0", num_classes=5, num_threads=1, **options)
    np.testing.assert_array_equal(again(X), model(X))
    options = {name: 0.5 for name in NO_EFFECT["create_transform"]} | AS_IT_IS["create_transform"]
    assert npefficient.create_transform(32, **options) == npefficient.create_transform(32)
    for function in INSTEAD:
        check_options(function, dict.fromkeys(INSTEAD[function]))  # None counts as not given


@needs_timm
def test_arguments_for_training_have_no_effect_in_timm():
    """Arguments that we ignore change neither timm's output nor its pixels."""
    torch.manual_seed(0)
    plain = timm.create_model("tf_efficientnet_lite0", num_classes=5).eval()
    torch.manual_seed(0)
    options = {"drop_rate": 0.5, "drop_path_rate": 0.5, "bn_momentum": 0.5, "scriptable": True, "exportable": True,
               "no_jit": True}
    assert options.keys() == NO_EFFECT["create_model"]
    other = timm.create_model("tf_efficientnet_lite0", num_classes=5, **options, bn_eps=1e-3, pad_type="same",
                              output_stride=32, device="cpu", dtype=torch.float32, pruned=False).eval()
    x = torch.from_numpy(X).permute(0, 3, 1, 2)
    with torch.no_grad():
        assert torch.equal(plain(x), other(x))
    training = {"no_aug": False, "train_crop_mode": "rrc", "scale": (0.1, 0.2), "ratio": (0.5, 2), "hflip": 1.0,
                "vflip": 1.0, "color_jitter": 0.9, "color_jitter_prob": 1.0, "grayscale_prob": 1.0,
                "gaussian_blur_prob": 1.0, "auto_augment": "rand-m9", "re_prob": 1.0, "re_mode": "pixel",
                "re_count": 3, "re_num_splits": 2, "patch_size": 8, "max_seq_len": 9, "patchify_channels_last": False,
                "patchify_flatten": False}
    assert training.keys() == NO_EFFECT["create_transform"]
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    plain, other = (timm.data.create_transform(32, **how)(photo) for how in (
        {}, training | AS_IT_IS["create_transform"]))
    assert torch.equal(plain, other)


@pytest.mark.parametrize("function, options, message", [
    ("create_model", {"cache_dir": "x"}, r"create_model\(cache_dir='x'\) is not supported: .*NPEFFICIENT_CACHE"),
    ("create_model", {"device": "cuda"}, r"device='cuda'\) is not supported \(only 'cpu'\): everything runs in"),
    ("create_model", {"dtype": np.float16}, r"is not supported \(only 'float32'\)"),
    ("create_model", {"bn_eps": 1e-5}, r"bn_eps=1e-05\) is not supported \(only 0.001\): the layers are fixed, as in"),
    ("create_model", {"act_layer": "silu"}, "act_layer='silu'.*the layers are fixed, as in the official weights"),
    ("create_model", {"img_size": 64}, r"pretrained_cfg_overlay=\{'input_size': \(3, 64, 64\)\}"),
    ("create_model", {"drop_raet": 0.1}, "create_model has no argument 'drop_raet', neither here nor in timm"),
    ("create_model", {"unheard_of": None}, "create_model has no argument 'unheard_of'"),
    ("create_transform", {"tf_preprocessing": True}, r"\(only False\): npefficient.images.tensorflow.tf_transform"),
    ("create_transform", {"normalize": False}, r"normalize=False\) is not supported \(only True\): .*preview"),
    ("create_transform", {"use_prefetcher": True}, "npefficient.images.image.preview"),
    ("create_transform", {"crop_border_pixels": 4}, "crop the photo first"),
    ("create_transform", {"naflex": True}, "networks that take patches"),
    ("create_transform", {"separate": True}, "a model only infers; npefficient.train trains a network"),
    ("create_transform", {"hfilp": 0.1}, "create_transform has no argument 'hfilp'"),
], ids=lambda value: next(iter(value)) if isinstance(value, dict) else None)
def test_other_arguments_say_what_to_do(function, options, message):
    start = ("lite0",) if function == "create_model" else (32,)
    with pytest.raises(ArgumentError, match=message):
        getattr(npefficient, function)(*start, **options)
