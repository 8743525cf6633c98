"""The table of names: where each output comes from, and the error for an unknown name."""
import numpy as np
import pytest

from npefficient.errors import ArgumentError
from npefficient.network import architecture, reference
from npefficient.network.layers import Layer, find_layers, named_layers
from npefficient.network.parameters import random_weights

NETWORK = architecture.build("lite0", 4)
SHORTCUT, NO_SHORTCUT = "blocks.2.1", "blocks.2.0"


class Noted:
    """A stand-in for the plain network that records which method is called."""

    def convolution(self, x, conv):
        return "convolution", conv.name, x

    def conv(self, x, conv):
        return "conv", conv.name, x


def way(name, network=NETWORK):
    """(source, None), or (source, (method of the plain network, convolution))."""
    layer = named_layers(network)[name]
    if layer.finish is None:
        return layer.source, None
    what, conv, x = layer.finish(Noted(), "input")
    assert x == "input"
    return layer.source, (what, conv)


@pytest.mark.parametrize("name, source, rest", [
    ("conv_stem", None, "convolution"),
    ("bn1", "conv_stem", None),
    ("bn1.act", "conv_stem", None),
    ("blocks.0.0.conv_dw", "conv_stem", "convolution"),
    ("blocks.0.0.bn1", "blocks.0.0.conv_dw", None),
    ("blocks.0.0.conv_pw", "blocks.0.0.conv_dw", "convolution"),
    ("blocks.0.0.bn2", "blocks.0.0.conv_pw", None),  # the "ds" block changes the width and has no shortcut
    ("blocks.0.0", "blocks.0.0.conv_pw", None),
    ("blocks.0", "blocks.0.0.conv_pw", None),
    ("blocks.1.0.conv_pw", "blocks.0.0.conv_pw", "convolution"),
    (f"{NO_SHORTCUT}.bn3", f"{NO_SHORTCUT}.conv_pwl", None),
    (f"{SHORTCUT}.conv_pw", f"{NO_SHORTCUT}.conv_pwl", "convolution"),
    (f"{SHORTCUT}.bn1", f"{SHORTCUT}.conv_pw", None),
    (f"{SHORTCUT}.conv_dw", f"{SHORTCUT}.conv_pw", "convolution"),
    (f"{SHORTCUT}.conv_pwl", f"{SHORTCUT}.conv_dw", "convolution"),
    (f"{SHORTCUT}.bn3", f"{SHORTCUT}.conv_dw", "conv"),  # the engine adds the shortcut in the same step
    (f"{SHORTCUT}.bn3.act", f"{SHORTCUT}.conv_dw", "conv"),
    (SHORTCUT, f"{SHORTCUT}.conv_pwl", None),
    ("blocks.2", "blocks.2.1.conv_pwl", None),
    ("blocks.6", "blocks.6.0.conv_pwl", None),
    ("conv_head", "blocks.6.0.conv_pwl", "convolution"),
    ("bn2", "conv_head", None),
    ("global_pool", "global_pool", None),
    ("classifier", "classifier", None),
])
def test_where_each_kind_comes_from(name, source, rest):
    conv = {f"{SHORTCUT}.bn3": f"{SHORTCUT}.conv_pwl"}.get(name.removesuffix(".act"), name)
    assert way(name) == (source, None if rest is None else (rest, conv))


def batch_norms(network):
    return {conv.bn: conv for conv in network.convs}


@pytest.mark.parametrize("short", [f"lite{i}" for i in range(5)])
def test_every_name_once_and_every_source_a_layer(short):
    network = architecture.build(short, 4)
    names, known = named_layers(network), {layer.name for layer in network.layers(9, 9)}
    convs = [conv.name for conv in network.convs]
    expected = {*convs, *batch_norms(network), *(f"{name}.act" for name in batch_norms(network)),
                *(block.name for block in network.blocks), *(f"blocks.{i}" for i in range(7)), "global_pool",
                "classifier"}
    assert set(names) == expected
    assert {layer.source for layer in names.values()} <= known | {None}
    assert [name for name, layer in names.items() if layer.source is None] == ["conv_stem"]
    for name in convs:
        what = way(name, network)[1]
        assert what == ("convolution", name)
    shortcuts = {block.convs[-1].bn for block in network.blocks if block.skip}
    assert {name for name in batch_norms(network) if way(name, network)[1]} == shortcuts


def test_names_come_in_the_order_of_execution():
    names = list(named_layers(NETWORK))
    assert names[:4] == ["conv_stem", "bn1", "bn1.act", "blocks.0.0.conv_dw"]
    assert names[-6:] == ["blocks.6", "conv_head", "bn2", "bn2.act", "global_pool", "classifier"]


@pytest.mark.parametrize("network, missing", [
    (architecture.build("lite0", 0), {"classifier"}),
    (architecture.build("lite0", 0, 3, ""), {"classifier", "global_pool"}),
], ids=["no_classifier", "no_pool"])
def test_a_head_that_is_left_out_has_no_names(network, missing):
    assert named_layers(NETWORK).keys() - named_layers(network).keys() == missing
    for name in missing:
        with pytest.raises(ArgumentError, match=f"layer '{name}': tf_efficientnet_lite0 has no layer of this name"):
            find_layers(network, [name])


def test_finish_by_hand():
    """A batch norm before a shortcut: its output in the plain network, before the shortcut is added."""
    weights = random_weights(NETWORK)
    plain = reference.Network(NETWORK, weights.parameters)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 9, 7, 3)).astype(np.float32)
    made = dict(plain.layers(x))
    layer = named_layers(NETWORK)[f"{SHORTCUT}.bn3"]
    without = layer.finish(plain, made[layer.source])
    np.testing.assert_array_equal(without + made[f"{NO_SHORTCUT}.conv_pwl"], made[f"{SHORTCUT}.conv_pwl"])
    raw = named_layers(NETWORK)["conv_stem"].finish(plain, x)
    scale, bias, mean, var = (weights.parameters[f"bn1.{leaf}"] for leaf in
                              ("weight", "bias", "running_mean", "running_var"))
    right = np.clip((raw - mean) / np.sqrt(var + np.float32(1e-3)) * scale + bias, 0, 6)
    np.testing.assert_allclose(made["conv_stem"], right, rtol=0, atol=1e-6)
    assert raw.min() < 0 and np.abs(raw - right).max() > 0.1


def test_find_layers_keeps_the_order_given():
    names = ["classifier", "bn1", "blocks.3"]
    assert list(find_layers(NETWORK, names)) == names
    assert list(find_layers(NETWORK, iter(names))) == names
    assert list(find_layers(NETWORK, dict.fromkeys(names))) == names
    assert find_layers(NETWORK, ["bn1"]) == {"bn1": Layer("conv_stem")}
    assert find_layers(NETWORK, ()) == {}


@pytest.mark.parametrize("names, message", [
    ("bn2", r"^layers 'bn2': give a list of names, such as \['bn2'\]$"),
    (b"bn2", r"^layers b'bn2': give a list of names, such as \['bn2'\]$"),
    (None, r"^layers None: give a list of names, such as \['bn2'\]$"),
    (3, r"^layers 3: give a list of names"),
    (["bn1", "block.2"], r"^layer 'block.2': tf_efficientnet_lite0 has no layer of this name \(did you mean "
                         r"'blocks.2'\?\); npefficient.network.layers.named_layers lists them all$"),
    (["blocks.2.9.conv_dw"], r"layer 'blocks.2.9.conv_dw': .*did you mean 'blocks.2.\d.conv_dw'"),
    (["BN1"], "layer 'BN1': .* has no layer of this name"),
    ([""], "layer '': .* has no layer of this name"),
    ([None], "layer None: .* has no layer of this name"),
    ([("bn1",)], r"layer \('bn1',\): .* has no layer of this name"),
    ([["bn1"]], r"layer \['bn1'\]: .* has no layer of this name"),
], ids=["text", "bytes", "none", "number", "near", "block", "case", "empty", "none_inside", "tuple", "list_inside"])
def test_find_layers_refuses(names, message):
    with pytest.raises(ArgumentError, match=message):
        find_layers(NETWORK, names)


def test_every_error_names_something_that_there_is():
    for name in ("global_pools", "classifer", "conv-stem", "blocks.7"):
        with pytest.raises(ArgumentError, match=f"^layer '{name}'") as caught:
            find_layers(NETWORK, [name])
        meant = str(caught.value).split("did you mean '")[1].split("'")[0]
        assert meant in named_layers(NETWORK)
