"""How the network is found in a checkpoint: wrappers, prefixes, and what is stored beside the weights."""
import io

import checkpoints as by_hand
import numpy as np
import pytest
from checkpoints import call, dictionary, number, program, storage, tensor, text, tuple_of
from foreign_names import theirs
from live import needs_timm, timm, torch

from npefficient.commands import main
from npefficient.errors import WeightsError
from npefficient.weights.weight_file import read_weights
from weights_convert import convert, read_checkpoint
from weights_convert.state_dict import WRAPPERS, find_network

NETWORK = by_hand.network()
T = tensor(storage(), (4,))
STATE, OTHER = dictionary({"x": T}), dictionary({"other": T})


def read(tmp_path, entries, **how):
    path = tmp_path / "model.pth"
    path.write_bytes(by_hand.zip_file(program(dictionary(entries))))
    return read_checkpoint(path, **how)


# --- the key ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("entries, wrapper", [
    ({"state_dict_ema": STATE, "model_ema": OTHER, "state_dict": OTHER, "model": OTHER}, "state_dict_ema"),
    ({"model": OTHER, "state_dict": OTHER, "model_ema": STATE}, "model_ema"),
    ({"model": OTHER, "state_dict": STATE}, "state_dict"),
    ({"model": STATE, "epoch": number(3)}, "model"),
    ({"state_dict_ema": b"N", "model_ema": b"N", "state_dict": STATE}, "state_dict"),
    ({"x": T}, ""),
], ids=["ema_first", "model_ema", "state_dict", "model", "ema_none", "bare"])
def test_wrappers_in_timms_order(tmp_path, entries, wrapper):
    checkpoint = read(tmp_path, entries)
    assert (list(checkpoint.tensors), checkpoint.wrapper) == (["x"], wrapper)


@pytest.mark.parametrize("wrapper", ["model_state_dict", "net", "module", "ema", "params"])
def test_other_scripts_wrappers(tmp_path, wrapper):
    """`model` is a string here, not a dictionary."""
    checkpoint = read(tmp_path, {"epoch": number(3), "model": text("lite0"), wrapper: STATE})
    assert (list(checkpoint.tensors), checkpoint.wrapper, checkpoint.warnings) == (["x"], wrapper, ())


def test_key_chooses_the_entry(tmp_path):
    entries = {"state_dict": OTHER, "teacher": STATE}
    assert list(read(tmp_path, entries, key="teacher").tensors) == ["x"]
    assert list(read(tmp_path, {"x": T}, key="").tensors) == ["x"]
    with pytest.raises(WeightsError, match="no entry 'student' .--key.: its entries are 'state_dict', 'teacher'"):
        read(tmp_path, entries, key="student")
    with pytest.raises(WeightsError, match="its entry 'epoch' is 3, not a dictionary of tensors"):
        read(tmp_path, {"epoch": number(3), "model": STATE}, key="epoch")


@pytest.mark.parametrize("entries, more", [
    ({"model": STATE, "ema": OTHER}, "'ema'"), ({"net": STATE, "params": OTHER}, "'params'"),
    ({"state_dict_ema": STATE, "state_dict": OTHER}, ""), ({"model_ema": STATE, "model": OTHER}, ""),
], ids=["ema", "params", "timms_average", "timms_other_average"])
def test_a_choice_that_is_not_timms_is_said(tmp_path, entries, more):
    warnings = read(tmp_path, entries).warnings
    assert len(warnings) == bool(more)
    assert not more or f"may hold weights: {more}. " in warnings[0] and "--key NAME" in warnings[0]


def test_the_refusal_names_what_was_looked_for(tmp_path):
    with pytest.raises(WeightsError, match="'generator', 'epoch'.*--key NAME") as caught:
        read(tmp_path, {"generator": STATE, "epoch": number(3)})
    assert all(f"'{wrapper}'" in str(caught.value) for wrapper in WRAPPERS)


def test_safetensors_has_no_entries(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(by_hand.save({"x": np.zeros(2, "f4")}, "safetensors"))
    with pytest.raises(WeightsError, match="a safetensors file has no entries, so 'model'"):
        read_checkpoint(tmp_path / "x.safetensors", key="model")


# --- other values beside tensors -------------------------------------------------------------------------------------

def test_numbers_and_texts_beside_the_tensors_are_left_out(tmp_path):
    scalar = call("numpy.core.multiarray", "scalar", call("numpy", "dtype", text("f8"), b"\x89", b"\x88"), text("x"))
    got = read(tmp_path, {"x": T, "epoch": number(3), "note": text("best"), "none": b"N", "accuracy": scalar})
    assert list(got.tensors) == ["x"]
    assert got.warnings == ("not part of the network and left out: 'epoch', 'note', 'none' and 1 more",)


@pytest.mark.parametrize("module, name", [("numpy.core.multiarray", "_reconstruct"),
                                          ("numpy._core.multiarray", "_reconstruct"),
                                          ("numpy._core.numeric", "_frombuffer")])
def test_numpy_arrays_are_called_by_their_name(tmp_path, module, name):
    array = call(module, name, tuple_of(number(1)))
    with pytest.raises(WeightsError, match="it contains NumPy arrays, not torch tensors .'w'.: .*torch.from_numpy"):
        read(tmp_path, {"w": array, "x": T})


@needs_timm
@pytest.mark.parametrize("protocol, largest, message", [
    (2, 1 << 16, "its entry 'state_dict' contains NumPy arrays, not torch tensors"),
    (2, 1 << 30, "the limit is 1048576; if it is a NumPy array, save torch tensors"),
    (5, 1 << 16, "its entry 'state_dict' contains NumPy arrays, not torch tensors"),
], ids=["small", "large", "protocol_5"])
def test_numpy_arrays_saved_by_torch(tmp_path, protocol, largest, message):
    """A pickle stores each as one string; those of a whole network exceed the limit."""
    arrays = {name: array for name, array in NETWORK.items() if array.nbytes < largest}
    torch.save({"state_dict": arrays}, tmp_path / "model.pth", pickle_protocol=protocol)
    with pytest.raises(WeightsError, match=f"{message}.*torch.from_numpy"):
        convert(tmp_path / "model.pth")


# --- the prefix of the names -----------------------------------------------------------------------------------------

PREFIXES = ["", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "module.module.", "model.", "net.",
            "backbone.", "timm_model.", "model.backbone.body.", "blocks.", "0."]


@pytest.mark.parametrize("names", [dict, theirs], ids=["timm", "efficientnet_pytorch"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix_is_found(prefix, names):
    network = names(NETWORK)
    got, found, warnings = find_network({prefix + name: array for name, array in network.items()})
    assert found == prefix and warnings == [] and list(got) == list(network)
    assert all(got[name] is array for name, array in network.items())


def test_prefix_of_a_network_without_counts_and_classifier():
    bare = {name: array for name, array in NETWORK.items() if "tracked" not in name and "classifier" not in name}
    got, prefix, _ = find_network({f"encoder.{name}": array for name, array in bare.items()})
    assert prefix == "encoder." and list(got) == list(bare)


def test_what_is_outside_the_prefix_is_left_out():
    """A loss with its own weights, the counter of an average, counters of a profiler."""
    more = {"n_averaged": 0, "criterion.weight": 1, "module.total_ops": 2, "module.conv_stem.total_params": 3}
    got, prefix, warnings = find_network({f"module.{name}": array for name, array in NETWORK.items()} | more)
    assert prefix == "module." and list(got) == list(NETWORK)
    assert warnings == ["not part of the network and left out: 'n_averaged', 'criterion.weight', 'module.total_ops' "
                        "and 1 more"]


def test_without_a_prefix_only_counters_are_left_out():
    got, prefix, warnings = find_network(NETWORK | {"total_ops": 0, "bn1.total_params": 1, "aux.weight": 2})
    assert prefix == "" and list(got) == [*NETWORK, "aux.weight"]  # which is refused as unexpected
    assert warnings == ["not part of the network and left out: 'total_ops', 'bn1.total_params'"]


TWO = {f"{prefix}{name}": (prefix, array) for prefix in ("student.", "teacher.") for name, array in NETWORK.items()}


def test_two_networks_are_a_choice():
    with pytest.raises(WeightsError, match="it contains 2 networks, with the prefixes 'student.', 'teacher.': .*--pre"):
        find_network(TWO)
    got, prefix, warnings = find_network(TWO, "teacher.")
    assert prefix == "teacher." and list(got) == list(NETWORK) and {owner for owner, _ in got.values()} == {"teacher."}
    assert "not part of the network and left out: 'student.conv_stem.weight'" in warnings[0]


def test_the_network_without_a_prefix_beside_another():
    both = NETWORK | {f"ema.{name}": array for name, array in NETWORK.items()}
    with pytest.raises(WeightsError, match="with the prefixes '', 'ema.'"):
        find_network(both)
    got, _, _ = find_network(both, "")
    assert list(got) == list(NETWORK)


def test_prefix_that_nothing_has():
    with pytest.raises(WeightsError, match="none of its names begins with 'model.' .--prefix.: they are 'conv_stem"):
        find_network(NETWORK, "model.")


def test_one_tensor_with_and_without_the_prefix():
    names = {f"module.{name}": array for name, array in NETWORK.items()} | {"bn1.bias": 0}
    with pytest.raises(WeightsError, match="the tensor 'bn1.bias' appears twice, once with the prefix 'module.'"):
        find_network(names)


@pytest.mark.parametrize("name", ["." * 100_000, "a." * 100_000 + "weight", "blocks." * 20_000 + "bn1.bias", ""],
                         ids=["dots", "long", "repeated", "empty"])
def test_odd_names_have_no_prefix(name):
    got, prefix, _ = find_network({name: 0})
    assert (list(got), prefix) == ([name], "")


def test_another_network_has_no_prefix():
    """A ResNet has bn1 and bn2 in each of its blocks."""
    names = [f"layer{i}.{j}.bn{k}.{leaf}" for i in range(4) for j in range(6) for k in (1, 2)
             for leaf in ("weight", "bias", "running_mean", "running_var")]
    got, prefix, warnings = find_network(dict.fromkeys(names, 0))
    assert (list(got), prefix, warnings) == (names, "", [])


# --- as a whole ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("form, wrapper, prefix", [("zip", "model_state_dict", "model.backbone."),
                                                   ("legacy", "net", "module.module."), ("safetensors", "", "net.")])
def test_a_wrapped_checkpoint_converts(tmp_path, capsys, form, wrapper, prefix):
    source = tmp_path / "tf_efficientnet_lite0.ckpt"
    source.write_bytes(by_hand.save(NETWORK, form, wrapper=wrapper, prefix=prefix))
    assert main(["convert", str(source)]) == 0
    output = capsys.readouterr()
    assert f"\nnames    of timm, with the prefix '{prefix}'\n" in output.out and output.err == ""
    assert (f"entry '{wrapper}'" in output.out) is bool(wrapper)
    got = read_weights(source.with_suffix(".h5")).parameters
    assert all(got[name].tobytes() == array.tobytes() for name, array in NETWORK.items())


def test_key_and_prefix_of_the_command(tmp_path, capsys):
    source = tmp_path / "tf_efficientnet_lite0.pth"
    two = {name: array for name, (_, array) in TWO.items()}
    source.write_bytes(by_hand.save(two, "zip", wrapper="run"))
    assert main(["convert", str(source), "--key", "run"]) == 1
    assert "choose one with --prefix TEXT" in capsys.readouterr().err
    assert main(["convert", str(source), "--key", "run", "--prefix", "teacher."]) == 0
    output = capsys.readouterr()
    assert "with the prefix 'teacher.'" in output.out
    assert "npefficient: warning: not part of the network and left out: 'student.conv_stem.weight'" in output.err


@needs_timm
def test_what_torch_and_thop_make_of_a_model(tmp_path):
    """A torch AveragedModel of a parallel model with thop's counters: all of these are in its state_dict."""
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0", num_classes=2)
    expected = {name: array.clone() for name, array in model.state_dict().items()}
    for module in model.modules():
        module.register_buffer("total_ops", torch.zeros(1, dtype=torch.float64))
        module.register_buffer("total_params", torch.zeros(1, dtype=torch.float64))
    averaged = torch.optim.swa_utils.AveragedModel(torch.nn.DataParallel(model))
    file = io.BytesIO()
    torch.save({"epoch": 3, "model_state_dict": averaged.state_dict()}, file)
    (tmp_path / "tf_efficientnet_lite0.pth").write_bytes(file.getvalue())
    done = convert(tmp_path / "tf_efficientnet_lite0.pth")
    assert done.prefix == "module.module." and done.wrapper == "model_state_dict"
    assert len(done.warnings) == 1 and "'n_averaged', 'module.module.total_ops'" in done.warnings[0]
    assert all(np.array_equal(done.weights.parameters[name], array) for name, array in expected.items())
