"""--precision int8: other logits, the same interface, and rows of one precision in one file."""
import json

import numpy as np
import pytest

import npefficient
from npefficient import demo
from npefficient.network.quantization import quantize
from npefficient.network.quantized_reference import QuantizedNetwork


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two pictures in the working directory."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for i in range(2):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 30, 3), np.uint8)).save(f"{i}.png")
    return tmp_path


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_photo_and_many_have_the_same_probabilities(command, place):
    code, alone, _ = command("classify", "0.png", "--model", "digits", "--precision", "int8", "--json")
    assert code == 0
    code, out, _ = command("classify", "0.png", "1.png", "--model", "digits", "--precision", "int8", "--output",
                           "int8.jsonl")
    assert code == 0 and ", int8)" in out
    expected = {found["label"]: found["probability"] for found in json.loads(alone)["classes"]}
    found = {one["label"]: one["probability"] for one in rows(place / "int8.jsonl")[0]["classes"]}
    assert found == pytest.approx(expected)
    command("classify", "0.png", "1.png", "--model", "digits", "--output", "float.jsonl")
    floats = {one["label"]: one["probability"] for one in rows(place / "float.jsonl")[0]["classes"]}
    assert floats != found


def test_embeddings_are_the_pooled_features_of_the_int8_network(command, place):
    command("classify", "0.png", "1.png", "--model", "digits", "--precision", "int8", "--output", "rows.jsonl",
            "--embeddings")
    weights = npefficient.load_weights(demo.weights_path())
    network, model = QuantizedNetwork(quantize(weights)), npefficient.Model(weights)
    for row in rows(place / "rows.jsonl"):
        (expected,) = network.outputs(model.transform(row["photo"])[None], ["global_pool"])["global_pool"]
        assert np.float32(row["embedding"]).tobytes() == expected.tobytes()
    for more in (("--workers", "1"), ("--workers", "3", "--batch-size", "2"), ("--threads", "1")):
        command("classify", "0.png", "1.png", "--model", "digits", "--precision", "int8", "--output", "again.jsonl",
                "--embeddings", "--force", *more)
        assert (place / "again.jsonl").read_bytes() == (place / "rows.jsonl").read_bytes()


@pytest.mark.parametrize("first, second", [("float32", "int8"), ("int8", "float32")])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", ".h5"])
def test_rows_of_different_precisions_do_not_mix(command, place, suffix, first, second):
    output = "classify", "--model", "digits", "--output", f"rows{suffix}"
    command(*output, "0.png", "--precision", first)
    code, _, err = command(*output, "0.png", "1.png", "--resume", "--precision", second)
    assert code == 1 and f"was begun with precision '{first}', and now '{second}'" in err
    assert command(*output, "0.png", "1.png", "--resume", "--precision", first)[0] == 0


def test_unknown_precision(command, place):
    code, _, err = command("classify", "0.png", "--model", "digits", "--precision", "int4")
    assert code == 2 and "invalid choice: 'int4'" in err
