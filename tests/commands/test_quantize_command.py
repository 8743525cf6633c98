"""`npefficient quantize`, and what each subcommand does with a file of int8 weights."""
import json

import pytest
from small import save_photos, small_weights

from npefficient.commands import classify_ray
from npefficient.demo import weights_path
from npefficient.model.loading import load_weights
from npefficient.network.quantization import quantize
from npefficient.weights.quantized_file import read_stored, write_quantized

NEEDS_FLOAT32 = ("weight file 'int8.h5': it holds int8 weights, from which those in float32 can't be recovered: name "
                 "the float32 file that it was made from")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "int8.h5"
    write_quantized(path, quantize(small_weights()))
    return path


@pytest.fixture
def place(stored, tmp_path, monkeypatch):
    """The working directory: int8.h5, and photos/ with a folder for each of two classes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "int8.h5").write_bytes(stored.read_bytes())
    for name in ("0", "1"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        save_photos(tmp_path / "photos" / name, 2)
    return tmp_path


def test_quantize(command, small, place):
    code, out, err = command("quantize", small, "out.h5")
    size = (place / "out.h5").stat().st_size
    assert (code, err) == (0, "") and out.splitlines() == [
        f"read     {small}: tf_efficientnet_lite0, 5 classes, 3 input channels",
        "rounded  48 layers to int8; conv_stem and blocks.0.0.conv_dw stay in float32",
        f"wrote    out.h5, {size:,} bytes, read back and compared",
        "next     npefficient classify PHOTO --weights out.h5"]
    assert (place / "out.h5").read_bytes() == (place / "int8.h5").read_bytes()


def test_quantize_overwrites_on_demand(command, small, place):
    (place / "out.h5").write_bytes(b"old")
    code, out, err = command("quantize", small, "out.h5")
    assert (code, out) == (1, "") and "'out.h5' exists already" in err and (place / "out.h5").read_bytes() == b"old"
    assert command("quantize", small, "out.h5", "--force")[0] == 0
    assert (place / "out.h5").read_bytes() == (place / "int8.h5").read_bytes()


def test_quantize_takes_a_model_by_name(command, official, tmp_path):
    code, out, _ = command("quantize", "lite0", tmp_path / "out.h5")
    assert code == 0 and out.startswith("read     lite0: tf_efficientnet_lite0, 1,000 classes, 3 input channels\n")
    assert 4_800_000 < (tmp_path / "out.h5").stat().st_size < official.stat().st_size / 3.8


def test_quantize_takes_the_embedded_model(command, tmp_path):
    """By its name, like every command; a file or folder of this name comes first."""
    target = tmp_path / "digits-int8.h5"
    code, out, err = command("quantize", "digits", target)
    assert (code, err) == (0, "") and out.startswith("read     digits: tf_efficientnet_lite0, 10 classes, 3 input chan")
    expected = quantize(load_weights(weights_path()))
    assert read_stored(target).layers["classifier"].weight.tobytes() == expected.layers["classifier"].weight.tobytes()


@pytest.mark.parametrize("arguments, shown", [
    (["info", "digits"], "weights from     train_digits.py"), (["compare", "digits", "digits"], "classes         10  "),
    (["export", "digits", "{}/out.safetensors"], "read     digits: tf_efficientnet_lite0, 10 classes"),
], ids=lambda value: value[0] if isinstance(value, list) else None)
def test_other_commands_take_the_embedded_model(command, tmp_path, arguments, shown):
    code, out, err = command(*(argument.format(tmp_path) for argument in arguments))
    assert (code, err) == (0, "") and shown in out


@pytest.mark.parametrize("arguments, code, message", [
    (["lite9", "out.h5"], 1, "unknown model 'lite9'"), (["none.pth", "out.h5"], 1, "none.pth': there is no such file"),
    (["int8.h5", "out.h5"], 1, NEEDS_FLOAT32), (["lite0"], 2, "the following arguments are required: OUT.h5"),
    (["lite0", "out.pth"], 2, "'out.pth': its name must end in .h5"),
])
def test_quantize_refuses(command, place, official, arguments, code, message):
    got, out, err = command("quantize", *arguments)
    assert (got, out) == (code, "") and message in err
    assert not (place / "out.h5").exists()


@pytest.mark.parametrize("arguments, code, message", [
    (["export", "int8.h5", "out.safetensors"], 1, NEEDS_FLOAT32),
    (["convert", "int8.h5", "out.h5"], 1, "checkpoint 'int8.h5': it is an HDF5 file, not a checkpoint: a weight file "
                                          "(.h5) needs no conversion"),
    (["compare", "int8.h5", "int8.h5"], 2, NEEDS_FLOAT32),
    (["finetune", "photos", "-o", "out.h5", "--weights", "int8.h5"], 1, NEEDS_FLOAT32),
    (["classify", "photos/0/00000.png", "--weights", "int8.h5", "--precision", "float32"], 1,
     "precision 'float32': these weights are int8, and float32 can't be recovered from them; use those that they were "
     "made from (seed 0)"),
], ids=lambda value: value[0] if isinstance(value, list) else None)
def test_what_needs_float32_refuses_the_file(command, place, arguments, code, message):
    before = sorted(place.rglob("*"))
    got, _, err = command(*arguments)
    assert got == code and message in err
    assert sorted(place.rglob("*")) == before


def test_info(command, place):
    code, out, _ = command("info", "int8.h5")
    size = (place / "int8.h5").stat().st_size
    assert code == 0 and out.startswith("tf_efficientnet_lite0: 5 classes, 3 input channels, at 32 x 32\n")
    assert out.endswith(f"""
file             int8.h5, {size:,} bytes, float32, int8
weights from     seed 0 (random)
quantised        48 layers in int8; conv_stem, blocks.0.0.conv_dw in float32
labels           none in the file; numbers are used: class 0, class 1, class 2, class 3, class 4
checksums        all hold
""")
    data = bytearray((place / "int8.h5").read_bytes())
    data[len(data) // 2] ^= 1
    (place / "int8.h5").write_bytes(data)
    code, out, err = command("info", "int8.h5")
    assert (code, out) == (1, "") and "weight file 'int8.h5': " in err and "does not match its checksum" in err


def test_classify_one_and_many(command, small, place):
    photo, float32, int8 = "photos/0/00000.png", ("--weights", small, "--precision", "int8"), ("--weights", "int8.h5")
    code, out, _ = command("classify", photo, *int8)
    assert code == 0 and "seed 0), engine, int8)" in out
    assert command("classify", photo, *int8, "--json")[1] == command("classify", photo, *float32, "--json")[1]
    assert command("classify", "photos", *int8, "--output", "a.jsonl")[0] == 0
    assert command("classify", "photos", *float32, "--output", "b.jsonl")[0] == 0
    assert (place / "a.jsonl").read_bytes() == (place / "b.jsonl").read_bytes()
    assert json.loads((place / ".a.jsonl.settings.json").read_text())["precision"] == "int8"
    assert "nothing to do" in command("classify", "photos", *int8, "--output", "a.jsonl", "--resume")[1]
    code, _, err = command("classify", "photos", "--weights", small, "--output", "a.jsonl", "--resume")
    assert code == 1 and "precision 'int8', and now 'float32'" in err


def test_classify_on_ray_passes_the_weights_on(command, place, monkeypatch):
    """tests/jobs/test_distributed.py runs Ray."""
    def classify(photos, weights, output, **how):
        assert weights.parameters["classifier.scale"].shape == (5,) and how["precision"] is None
        return len(photos), 0

    monkeypatch.setattr(classify_ray, "check_job", lambda *arguments, **how: (None, "local"))
    monkeypatch.setattr(classify_ray, "classify", classify)
    code, out, err = command("classify", "photos", "--weights", "int8.h5", "--engine", "ray", "--output", "rows")
    assert (code, out) == (0, "wrote rows: 4 rows\n"), err


def test_validate(command, small, place):
    for name, options in (("a", ("--weights", "int8.h5")), ("b", ("--weights", small, "--precision", "int8"))):
        code, out, err = command("validate", "photos", *options, "--json", f"{name}.json")
        assert code == 0 and "engine, int8)" in out, err
    assert json.loads((place / "a.json").read_text())["precision"] == "int8"
    assert (place / "a.json").read_bytes() == (place / "b.json").read_bytes()


def test_stored_file_is_what_the_tests_take_it_for(stored):
    assert len(read_stored(stored).layers) == 48
