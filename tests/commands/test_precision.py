"""--precision int8: other logits, the same interface, and rows of one precision in one file."""
import json

import pytest


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two pictures in the working directory."""
    import numpy as np
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


def test_rows_of_different_precisions_do_not_mix(command, place):
    command("classify", "0.png", "--model", "digits", "--output", "rows.jsonl")
    code, _, err = command("classify", "0.png", "1.png", "--model", "digits", "--output", "rows.jsonl", "--resume",
                           "--precision", "int8")
    assert code == 1 and "was begun with precision 'float32', and now 'int8'" in err


def test_unknown_precision(command, place):
    code, _, err = command("classify", "0.png", "--model", "digits", "--precision", "int4")
    assert code == 2 and "invalid choice: 'int4'" in err
