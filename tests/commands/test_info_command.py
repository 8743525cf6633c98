"""`npefficient list` and `npefficient info`: what they show of models, weight files and checkpoints."""
import hashlib
from dataclasses import replace

import pytest

import npefficient
import weights_convert
from npefficient import hub
from npefficient.network import architecture
from npefficient.network.parameters import random_weights
from npefficient.weights.weight_file import write_weights


def test_list(command, nothing_at_hand):
    code, out, _ = command("list")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0 and [row[0] for row in rows[1:]] == list(architecture.VARIANTS)
    assert rows[1][1:] == ["224x224", "4,652,008", "0.39", "74.83%", "92.17%", "download,", "18.8", "MB"]


@pytest.mark.parametrize("kind", ["cache", "package", "download"])
def test_list_and_pretrained_cfg_say_where_the_weights_come_from(command, monkeypatch, kind):
    monkeypatch.setattr(hub, "origin", lambda name: hub.Origin(kind, f"the place of {name}"))
    _, out, _ = command("list", "lite1")
    assert out.splitlines()[1].split("%  ")[-1].split(",")[0] == kind
    expected = None if kind == "download" else "the place of tf_efficientnet_lite1"
    assert npefficient.get_pretrained_cfg("lite1").file == expected
    weights = random_weights(architecture.build("lite1"))
    official = replace(weights, source=replace(weights.source, sha256=architecture.VARIANTS[
        "tf_efficientnet_lite1"].sha256_prefix + "0" * 56, kind="torch-zip"))
    assert npefficient.Model(official, num_threads=1).pretrained_cfg["file"] == expected
    assert npefficient.Model(weights, num_threads=1).pretrained_cfg["file"] is None


def test_list_wildcard(command):
    code, out, _ = command("list", "*lite[34]")
    assert code == 0 and [line.split()[0] for line in out.splitlines()[1:]] == [
        "tf_efficientnet_lite3", "tf_efficientnet_lite4"]
    code, out, err = command("list", "resnet*")
    assert code == 1 and out == "" and "no model matches 'resnet*'" in err


@pytest.mark.parametrize("name", ["lite0", "lite2", "tf_efficientnet_lite4"])
@pytest.mark.parametrize("flag", [(), ("--layers",)], ids=["stages", "layers"])
def test_info_adds_up(command, name, flag):
    code, out, _ = command("info", name, *flag)
    network = architecture.build(name)
    table = out.split("\n\n")[1].splitlines()[1:]
    params, macs, share = ([line.split()[column] for line in table] for column in (-3, -2, -1))
    assert code == 0
    for column, expected in ((params, network.param_count()),
                             (macs, network.macs(*network.variant.preprocessing.input_size))):
        *rows, total = (int(figure.replace(",", "")) for figure in column)
        assert sum(rows) == total == expected
    assert abs(sum(float(s.rstrip("%")) for s in share[:-1]) - 100) < 1.5
    assert network.variant.file in out and f"{network.variant.top1} %" in out


@pytest.mark.parametrize("size, first", [("225", "113x113"), ("256x320", "128x160"), ("1", "1x1")])
def test_info_at_another_size(command, size, first):
    code, out, _ = command("info", "lite0", "--size", size)
    assert code == 0 and first in out


def test_info_of_a_file_and_of_a_damaged_one(command, ten, tmp_path):
    code, out, _ = command("info", ten)
    assert code == 0 and "10 classes" in out and "all hold" in out and "seed 0 (random)" in out
    data = bytearray(ten.read_bytes())
    data[len(data) // 2] ^= 1
    bad = tmp_path / "bad.h5"
    bad.write_bytes(data)
    code, out, err = command("info", bad)
    assert code == 1 and str(bad) in err and "checksum" in err


def test_unknown_model_names_the_nearest(command):
    code, _, err = command("info", "lite_0")
    assert code == 1 and err == ("npefficient: error: unknown model 'lite_0': known are lite0 to lite4 and digits "
                                 "(did you mean 'lite0'?)\n")


def test_info_of_a_folder_is_that_of_its_checkpoint(command, ten, tmp_path):
    weights_convert.export(ten, f"{tmp_path / 'hub'}/")
    checkpoint = tmp_path / "hub" / "model.safetensors"
    for name in (tmp_path / "hub", f"local-dir:{tmp_path / 'hub'}", checkpoint):
        code, out, _ = command("info", name)
        assert code == 0 and f"file             {checkpoint}, {checkpoint.stat().st_size:,} bytes, float32\n" in out


def test_info_says_whose_labels_are_taken(command, tmp_path):
    for classes, said in ((1000, "none in the file; ImageNet's class names are used: tench, Tinca tinca, "),
                          (3, "none in the file; numbers are used: class 0, class 1, class 2\n"),
                          (0, "none, since there are no classes\n")):
        write_weights(tmp_path / f"{classes}.h5", random_weights(architecture.build("lite0", classes)))
        assert f"labels           {said}" in command("info", tmp_path / f"{classes}.h5")[1]


def test_info_of_a_checkpoint(command, ten, tmp_path):
    weights_convert.export(ten, tmp_path / "model.safetensors")
    code, out, _ = command("info", tmp_path / "model.safetensors")
    assert code == 0 and out.startswith("tf_efficientnet_lite0: 10 classes, 3 input channels, at 224 x 224\n")
    digest = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert f"checkpoint       safetensors, sha256 {digest}" in out
    assert out.endswith(f"npefficient convert {tmp_path / 'model.safetensors'}\n")
    code, _, err = command("info", tmp_path / "none.pth")
    assert code == 1 and "none.pth': there is no such file" in err
