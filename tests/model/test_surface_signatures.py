"""What has a name of timm's is the same throughout: arguments, defaults, members."""
import inspect
from operator import attrgetter
from types import MappingProxyType

import pytest
from live import needs_timm, timm

import npefficient

pytestmark = needs_timm

EFFICIENTNET = "models.efficientnet.EfficientNet"
PAIRS = {  # ours -> timm's
    **{name: name for name in ("create_model", "list_models", "list_pretrained", "get_pretrained_cfg", "is_model",
                              "is_model_pretrained")},
    **{name: f"data.{name}" for name in ("resolve_data_config", "resolve_model_data_config", "create_transform")},
    **{f"Model.{name}": f"{EFFICIENTNET}.{name}" for name in (
        "eval", "forward", "forward_features", "forward_head", "forward_intermediates", "reset_classifier",
        "get_classifier", "set_grad_checkpointing", "train", "requires_grad_", "cpu", "float", "load_state_dict")},
    **{f"FeatureInfo.{name}": f"models.FeatureInfo.{name}" for name in (
        "get", "get_dicts", "channels", "reduction", "module_name", "__len__")},
}
ONLY_OURS = {"create_model": {
    "num_classes", "in_chans", "global_pool", "features_only", "out_indices",  # timm passes them on to the network
    "num_threads", "backend", "precision",
}}
OTHER_DEFAULTS = {  # -> (ours, timm's)
    "create_model": {"model_name": (None, inspect.Parameter.empty)},  # a weight file knows it
    "Model.forward_intermediates": {"output_fmt": ("NHWC", "NCHW")},
}


def parameters(function):
    return {p.name: p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD}


def unlike(own, timms, only_ours=frozenset(), defaults=MappingProxyType({})) -> list[str]:
    """The differences that a caller who knows timm's function would stumble over, in words."""
    own, timms = parameters(own), parameters(timms)
    problems = [f"{name} is none of timm's" for name in own if name not in timms and name not in only_ours]
    for name in own:
        both = own[name].default, timms[name].default if name in timms else own[name].default
        if both[0] != both[1] and both != defaults.get(name):
            problems.append(f"{name} defaults to {both[0]!r}, in timm to {both[1]!r}")
    return problems


@pytest.mark.parametrize("name", PAIRS)
def test_signature_is_timms(name):
    own, timms = attrgetter(name)(npefficient), attrgetter(PAIRS[name])(timm)
    assert unlike(own, timms, ONLY_OURS.get(name, set()), OTHER_DEFAULTS.get(name, {})) == []


def test_unlike_can_fail():
    def own(x, wrong=1, y=2, z=3):
        pass

    def timms(x, y=5, z=4, more=()):
        pass

    found = ["wrong is none of timm's", "y defaults to 2, in timm to 5", "z defaults to 3, in timm to 4"]
    assert unlike(own, timms) == found
    assert unlike(own, timms, {"wrong"}, {"y": (2, 5), "z": (3, 5)}) == found[2:]


@pytest.mark.parametrize("name", [name for name in PAIRS if name.startswith(("Model.", "FeatureInfo."))])
def test_arguments_come_in_timms_order(name):
    """Arguments given by position mean the same as in timm, as far as we have them."""
    ours_, theirs = list(parameters(attrgetter(name)(npefficient))), list(parameters(attrgetter(PAIRS[name])(timm)))
    assert ours_ == theirs[:len(ours_)]


def test_functions_begin_in_timms_order():
    """Arguments given by position mean the same as in timm; all others are keyword-only."""
    for name, count in (("create_model", 2), ("resolve_data_config", 5), ("resolve_model_data_config", 5),
                        ("create_transform", 2), ("list_models", 6), ("list_pretrained", 2), ("is_model", 1),
                        ("is_model_pretrained", 1), ("get_pretrained_cfg", 1)):
        ours_, theirs = list(parameters(getattr(npefficient, name))), list(parameters(attrgetter(PAIRS[name])(timm)))
        assert ours_[:count] == theirs[:count]
        behind = list(parameters(getattr(npefficient, name)).values())[count:]
        assert {p.kind for p in behind} <= {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("name", ["num_classes", "num_features", "head_hidden_size", "in_chans",
                                  "feature_info", "pretrained_cfg", "default_cfg"])
def test_members_are_timms(name):
    ours_ = getattr(npefficient.create_model("lite0", num_classes=5), name)
    theirs = getattr(timm.create_model("tf_efficientnet_lite0", num_classes=5), name)
    if isinstance(theirs, int):
        assert ours_ == theirs
    elif name == "feature_info":
        assert [{**d, "index": i} for i, d in enumerate(theirs)] == list(ours_)
    else:
        assert {"input_size", "interpolation", "mean", "std", "crop_pct", "num_classes"} <= ours_.keys() & theirs.keys()


def test_pretrained_cfg_has_timms_fields():
    ours_ = set(npefficient.PretrainedCfg.__dataclass_fields__)
    assert ours_ <= set(timm.models.PretrainedCfg.__dataclass_fields__)
