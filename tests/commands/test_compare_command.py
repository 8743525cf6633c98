"""`npefficient compare`: its output, and diff's exit codes."""
import json
from dataclasses import replace

import numpy as np
import pytest
from changed_weights import CHANGED, changed, five_classes, one_ulp
from PIL import Image

import weights_convert
from npefficient.network.architecture import build
from npefficient.network.parameters import random_weights
from npefficient.weights.weight_file import write_weights


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weight files of six networks, a photo, and a text named notes.h5."""
    weights, place = five_classes(), tmp_path_factory.mktemp("compare")
    made = {"same": replace(weights, source=replace(weights.source, name="copy")),
            "a": weights, "ulp": changed(weights, CHANGED, one_ulp), "seven": random_weights(build("lite0", 7)),
            "lite1": random_weights(build("lite1", 5)), "scaled": changed(weights, CHANGED, lambda array: 1.5 * array)}
    for name, each in made.items():
        write_weights(place / f"{name}.h5", each)
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 60, 3), np.uint8)).save(place / "photo.png")
    (place / "notes.h5").write_text("not a weight file")
    return place


@pytest.fixture
def compared(command, files, monkeypatch):
    """compared("a.h5", ...) -> (exit code, stdout, stderr) of `npefficient compare`, where the files are."""
    monkeypatch.chdir(files)
    return lambda *arguments: command("compare", *arguments)


def test_compare_same(compared):
    code, out, err = compared("a.h5", "same.h5", "photo.png")
    assert (code, err) == (0, "") and "tensor " not in out and "|" not in out
    assert out.splitlines()[-1] == "the same: all 247 tensors, architecture, preprocessing and labels"
    assert "seed 0 (random)" in out and "copy (random)" in out


def test_compare_names_the_tensor_and_the_place(compared):
    code, out, _ = compared("a.h5", "ulp.h5")
    row = next(line for line in out.splitlines() if line.startswith(CHANGED))
    assert code == 1 and " 3 0 1 1 " in row and row.split()[-1] != row.split()[-2]
    assert out.splitlines()[-1].startswith(f"1 of 247 tensors differ, the largest is {CHANGED} (relative ")
    assert compared("a.h5", "ulp.h5", "--tolerance", "1e-6")[0] == 0


def test_compare_shows_ten_tensors_or_all(compared):
    code, out, _ = compared("a.h5", "seven.h5")
    shown = [line for line in out.splitlines() if line.count("e-") + line.count("e+") >= 2]
    assert code == 1 and len(shown) == 0  # the same seed: only the classifier's shapes differ
    assert "\nclassifier.weight                 5 x 1280 | 7 x 1280\n" in out
    _, out, _ = compared("a.h5", "lite1.h5")
    assert "\nblocks.1.2.conv_pw.weight         only in B\n" in out and "more (--all shows them)" in out
    _, out, _ = compared("a.h5", "lite1.h5", "--all")
    assert "--all" not in out and out.count("\nblocks.2.1.") > 5 and out.count("only in B") > 50


def test_compare_with_a_photo(compared, tmp_path):
    code, out, _ = compared("a.h5", "scaled.h5", "photo.png", "--layers", "--json", tmp_path / "out.json")
    marked = [line.split()[0] for line in out.splitlines() if "they diverge here" in line]
    assert code == 1 and marked == ["blocks.2.0.conv_dw"]
    assert out.splitlines()[-1].endswith("; on the photo they diverge at blocks.2.0.conv_dw")
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["parting"] == "blocks.2.0.conv_dw" and report["same"] is False and len(report["top"]) == 2
    assert {"name": "variant", "a": "tf_efficientnet_lite0", "b": "tf_efficientnet_lite0", "counts": True} in report[
        "facts"]
    assert next(got for got in report["tensors"] if got["name"] == CHANGED)["relative"] == pytest.approx(1 / 3)


def test_compare_precisions(compared, tmp_path):
    code, out, err = compared("a.h5", "same.h5", "photo.png", "photo.png", "--precision", "int8", "--json",
                              tmp_path / "out.json")
    lines = out.splitlines()
    assert code == 1 and "2 of 2 photos" in err and lines[0].split() == ["a.h5", "same.h5", "in", "int8"]
    table = lines.index("layer                        error   by itself     largest")
    assert lines[table + 1].split()[:3] == ["conv_stem", "0.00%", "0.00%"]
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["precision"] == "int8" and found["same"] is True and found["photos"] == ["photo.png", "photo.png"]
    for line, layer in zip(lines[table + 1 :], found["deviation"]["layers"], strict=False):
        assert line.split()[:2] == [layer["name"], f"{layer['error'] / layer['spread']:.2%}"]
    assert found["deviation"]["layers"][-1]["name"] == "classifier"
    assert sum(line.startswith("photo.png  ") for line in lines) == 2
    assert lines[-2].startswith("the same: all 247 tensors")
    assert lines[-1].startswith("in int8, the error of classifier is ") and lines[-1].endswith("of 2 photos")
    assert compared("a.h5", "same.h5", "photo.png", "--precision", "int8", "--tolerance", "0.5")[0] == 0
    assert compared("a.h5", "ulp.h5", "photo.png", "--precision", "float32")[0] == 1
    assert compared("a.h5", "same.h5", "photo.png", "--precision", "float32")[0] == 0


def test_compare_precisions_on_photographs_of_the_package(compared):
    code, out, _ = compared("a.h5", "a.h5", "--precision", "int8", "--layers")
    names = [line.split()[0] for line in out.splitlines() if line]
    assert code == 1 and "blocks.2.0.conv_dw" in names and {"coffee.jpg", "astronaut.jpg"} <= set(names)


@pytest.mark.parametrize("arguments, message", [
    (("photo.png", "photo.png"), "more than one PHOTO: they are for --precision"),
    (("--layers",), "--layers without a PHOTO: name a photo"),
], ids=["photos", "layers"])
def test_compare_refuses(compared, arguments, message):
    code, _, err = compared("a.h5", "a.h5", *arguments)
    assert code == 2 and message in err


def test_compare_reads_checkpoints_and_official_weights(compared, official, tmp_path):
    weights_convert.export(official, tmp_path / "lite0.safetensors")
    code, out, err = compared("lite0", tmp_path / "lite0.safetensors")
    assert (code, err) == (0, "") and out.splitlines()[-1].startswith("the same: all 247 tensors")


@pytest.mark.parametrize("arguments, message", [
    (("a.h5", "none.h5"), "none.h5"),
    (("none/a", "a.h5"), "none/a"),
    (("lite9", "a.h5"), "'lite9'"),
    (("a.h5", "notes.h5"), "notes.h5"),
    (("a.h5", "a.h5", "none.png"), "none.png"),
    (("a.h5", "a.h5", "--json", "none/out.json"), "none/out.json"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_compare_trouble_is_2(compared, arguments, message):
    code, _, err = compared(*arguments)
    assert code == 2 and err.startswith("npefficient: error: ") and message in err
