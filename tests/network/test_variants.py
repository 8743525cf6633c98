"""Names of models: timm's names and our short ones, wildcards, and what is suggested for an unknown name."""
import pytest
from live import needs_timm, timm

from npefficient.errors import ArgumentError
from npefficient.network.architecture import build
from npefficient.network.variants import VARIANTS, canonical_name, list_models


@needs_timm
@pytest.mark.parametrize("pattern", ["*", "tf_efficientnet_lite*", "*lite[0-2]", "*lite?", "*lite[!04]", "tf_*_lite4",
                                     "tf_efficientnet_lite3", "*_b0", "TF_*", "efficientnet_lite0", "no such name"])
def test_list_models_equals_timm(pattern):
    assert list_models(pattern) == [name for name in timm.list_models(pattern) if name in VARIANTS]


@pytest.mark.parametrize("pattern, expected", [
    pytest.param("lite*", [0, 1, 2, 3, 4], id="short"),
    pytest.param("lite[13]", [1, 3], id="short_set"),
    pytest.param("lite2", [2], id="short_name"),
    pytest.param("tf_efficientnet_lite4", [4], id="full_name"),
    pytest.param("", [0, 1, 2, 3, 4], id="empty"),
    pytest.param(None, [0, 1, 2, 3, 4], id="none"),
    pytest.param(["lite2", "*3", ""], [2, 3], id="several"),
])
def test_list_models_short_names(pattern, expected):
    assert list_models(pattern) == [f"tf_efficientnet_lite{i}" for i in expected]
    assert list_models() == list(VARIANTS)


@pytest.mark.parametrize("name", ["lite3", "tf_efficientnet_lite3", "tf_efficientnet_lite3.in1k", "lite3.in1k"])
def test_canonical_name(name):
    assert canonical_name(name) == build(name).name == "tf_efficientnet_lite3"


@pytest.mark.parametrize("name, nearest", [
    ("lite5", "lite[0-4]"), ("LITE4", "lite4"), ("tf_efficientnet_lite", "tf_efficientnet_lite[0-4]"),
    ("tf_efficientnet_lite2.ap_in1k", "tf_efficientnet_lite2"), ("tf-efficientnet-lite1", "tf_efficientnet_lite1"),
    ("tf_efficientnet_b0", "tf_efficientnet_lite0"),
])
def test_canonical_name_unknown(name, nearest):
    with pytest.raises(ArgumentError, match=rf"unknown model {name!r}: .* \(did you mean '{nearest}'\?\)$"):
        canonical_name(name)


@pytest.mark.parametrize("name", ["", "resnet50", 0, None])
def test_canonical_name_suggests_only_what_is_near(name):
    with pytest.raises(ArgumentError, match=f"^unknown model {name!r}: known are lite0 to lite4$"):
        canonical_name(name)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite0.ra_in1k", "efficientnet_lite4"])
def test_canonical_name_look_alike(name):
    port = "tf_" + name.split(".")[0]
    with pytest.raises(ArgumentError, match=f"model '{name}' is timm's own training .*: use '{port}'$"):
        canonical_name(name)
