"""`npefficient convert` and `npefficient export` from the command line."""
import os
import subprocess
import sys
from pathlib import Path

import checkpoints as by_hand
import pytest

import npefficient
from npefficient.commands import main

ROOT = Path(npefficient.__file__).parents[1]


@pytest.fixture
def model(tmp_path):
    (tmp_path / "tf_efficientnet_lite0.pth").write_bytes(by_hand.save(by_hand.network(), "zip", wrapper="state_dict"))
    return tmp_path / "tf_efficientnet_lite0.pth"


def test_convert_says_what_it_found_and_what_to_do_next(model, capsys):
    assert main(["convert", str(model)]) == 0
    output = capsys.readouterr()
    target = model.with_suffix(".h5")
    for piece in ("torch-zip, entry 'state_dict'", f"{model.stat().st_size:,} bytes", "sha256 ",
                  "tf_efficientnet_lite0: 2 classes, 3 input channels, 296 tensors", "3,373,570 parameters",
                  f"{target}, {target.stat().st_size:,} bytes", f"npefficient classify PHOTO --weights {target}"):
        assert piece in output.out
    assert output.err == ""


def test_convert_options(model, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    args = ["convert", str(model), str(tmp_path / "out.h5"), "--labels", str(tmp_path / "names.txt"), "--variant",
            "lite0",
            "--input-size", "64", "--crop-pct", "1", "--interpolation", "bilinear", "--mean", "0", "0", "0"]
    assert main(args) == 0
    out = capsys.readouterr().out
    assert "64 x 64, crop_pct 1, bilinear, mean 0 0 0, std 0.5 0.5 0.5\nlabels   'cat', 'dog'\n" in out
    assert main(args) == 1
    assert "npefficient: error: " in (error := capsys.readouterr().err) and "exists already" in error
    assert main([*args, "--force"]) == 0


def test_convert_warns_on_stderr(tmp_path, capsys):
    (tmp_path / "model.pth").write_bytes(by_hand.save(by_hand.network(), "legacy"))
    assert main(["convert", str(tmp_path / "model.pth")]) == 0
    assert "npefficient: warning: it is unclear whether" in capsys.readouterr().err


@pytest.mark.parametrize("data, message", [
    (None, "there is no such file"), (b"Not Found\n", "a text file"), (b"<!doctype html>", "an HTML page"),
                                           (b"", "empty"),
], ids=["missing", "text", "html", "empty"])
def test_convert_reports_what_is_wrong(tmp_path, capsys, data, message):
    if data is not None:
        (tmp_path / "x.pth").write_bytes(data)
    assert main(["convert", str(tmp_path / "x.pth")]) == 1
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("npefficient: error: checkpoint") and message in output.err


def test_export_and_back(model, tmp_path, capsys):
    out = tmp_path / "tf_efficientnet_lite0.safetensors"
    assert main(["convert", str(model)]) == 0
    assert main(["export", str(model.with_suffix(".h5")), str(out)]) == 0
    assert f"{out}, 296 tensors, {out.stat().st_size:,} bytes" in capsys.readouterr().out
    assert main(["export", str(model.with_suffix(".h5")), str(out)]) == 1
    assert "exists already" in capsys.readouterr().err


def test_python_m_weights_convert_needs_neither_torch_nor_numba(model):
    """A whole conversion in a process where importing them fails."""
    program = ("import sys, runpy\nfor name in ('torch', 'numba', 'timm', 'safetensors'): sys.modules[name] = None\n"
               "sys.argv = ['weights_convert', *sys.argv[1:]]\nrunpy.run_module('weights_convert', "
               "run_name='__main__')")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program, str(model)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "found    tf_efficientnet_lite0" in done.stdout, done.stderr


def test_export_takes_a_model_by_name(command, official, tmp_path):
    code, out, _ = command("export", "lite0", tmp_path / "out.safetensors")
    assert code == 0 and "read     lite0: tf_efficientnet_lite0, 1,000 classes, 3 input channels\n" in out
    assert (tmp_path / "out.safetensors").stat().st_size > 18_000_000
