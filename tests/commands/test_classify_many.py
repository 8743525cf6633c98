"""`npefficient classify` for many photos: what it prints and writes."""
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from job_rows import forms, read
from PIL import Image
from small import save_photos, small_model, small_weights

from npefficient.weights.weight_file import write_weights

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    """A folder of ten photos and two files that are no photos."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    save_photos(folder, 6)
    save_photos(folder / "more", 4, ".jpg")
    (folder / "00003b.png").write_text("no photo")
    (folder / "more" / "empty.webp").touch()
    return folder


def names(folder):
    return [str(folder / name) for name in (
        "00000.png", "00001.png", "00002.png", "00003.png", "00003b.png", "00004.png", "00005.png", "more/00000.jpg",
        "more/00001.jpg", "more/00002.jpg", "more/00003.jpg", "more/empty.webp")]


# --- printed ---------------------------------------------------------------------------------------------------------


def test_folder_prints_as_its_photos_do(classify, folder):
    code, out, err = classify(folder, "--topk", 2)
    assert (code, out, err) == classify(*names(folder), "--topk", 2)
    assert code == 1 and "2 of 12 photos could not be read" in err and out.count("class ") == 20


@pytest.mark.parametrize("argument", ["folder", "glob", "list", "-"])
def test_json_of_several_is_that_of_each(classify, folder, monkeypatch, argument):
    _, expected, _ = classify(*names(folder), "--json")
    text = "".join(f"{name}\n" for name in names(folder))
    (folder / "list.txt").write_text(text)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    photos = {"folder": folder, "glob": f"{folder}/**", "list": folder / "list.txt", "-": "-"}[argument]
    code, out, err = classify(photos, "--json", "--workers", 3, "--batch-size", 2)
    assert code == 1 and sorted(out.splitlines()) == sorted(expected.splitlines())
    assert out == expected or argument == "glob"  # what `**` finds comes in another order


@pytest.mark.parametrize("more", [[], ["--workers", 1]], ids=["one by one", "several"])
@pytest.mark.filterwarnings("always:.*random weights:UserWarning")
def test_json_has_the_rows_of_a_jsonl_file(classify, folder, tmp_path, more):
    target = tmp_path / "rows.jsonl"
    assert classify(folder, "--output", target)[0] == 1
    code, out, err = classify(*names(folder), "--json", *more)
    assert err.count("RANDOM weights (seed 0), engine): random weights can't tell classes apart") == 1
    assert code == 1 and [json.loads(line) for line in out.splitlines()] == read(target)
    assert sum(row["error"] is not None for row in read(target)) == 2


@pytest.mark.parametrize("more", [[], ["--output", "out.csv"]], ids=["printed", "written"])
def test_folder_that_can_not_be_listed_is_said_and_the_exit_code_is_1(classify, tmp_path, monkeypatch, more,
                                                                      unlistable):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p" / "lost+found").mkdir(parents=True)
    save_photos(tmp_path / "p", 2)
    (tmp_path / "p" / "1.heic").touch()
    unlistable("p/lost+found")
    code, out, err = classify("p", *more)
    assert code == 1 and (out.count("class 4") == 2 or "out.csv: 2 rows" in out)
    assert "npefficient: error: folder 'p/lost+found': it can't be listed (Permission denied)" in err
    assert "npefficient: left out of 'p': 1 .heic, which Pillow can't read" in err


@pytest.mark.parametrize("more", [[], ["--workers", "1"], ["--output", "out.jsonl"]], ids=["one", "many", "written"])
def test_a_limit_of_pixels(classify, tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    save_photos(tmp_path, 1)
    code, out, err = classify("00000.png", "--max-pixels", 399, *more)
    text = "photo '00000.png': 20 x 20 pixels, and at most 399 are allowed; "
    assert code == 1 and text in (read(tmp_path / "out.jsonl")[0]["error"] if "--output" in more else err)
    assert classify("00000.png", "--max-pixels", 400, *more, *(["--force"] if "--output" in more else []))[0] == 0


def test_demo_writes_its_own_pictures(command, tmp_path, nothing_at_hand):
    assert command("classify", "--demo", "--output", tmp_path / "out.jsonl")[0] == 0
    rows = read(tmp_path / "out.jsonl")
    assert [Path(row["photo"]).stem for row in rows] == [row["classes"][0]["label"] for row in rows]
    assert len(rows) == 10 and all(len(row["classes"]) == 1 for row in rows)


def test_names_that_are_no_utf8_are_escaped(classify, folder):
    name = os.path.join(os.fsencode(folder), b"\xe9.png")
    os.rename(folder / "00000.png", name)
    for arguments in ([os.fsdecode(name)], [f"{folder}/*.png"]):
        code, out, err = classify(*arguments)
        assert "\\udce9.png" in out and "Traceback" not in err
    code, _, _ = classify(folder, "--output", folder / "out.csv")
    assert sum(row["photo"].endswith("/\\udce9.png") for row in read(folder / "out.csv")) == 1


# --- written ---------------------------------------------------------------------------------------------------------


@forms
def test_output_has_what_the_model_says(classify, folder, tmp_path, suffix):
    path, model = tmp_path / f"out{suffix}", small_model()
    code, out, err = classify(folder, "--output", path, "--topk", 3)
    assert code == 1 and out.endswith(f"\nwrote {path}: 12 rows\n")
    assert "12 of 12 photos (100%)" in err and "2 of 12 photos could not be read" in err
    rows = read(path)
    assert [row["photo"] for row in rows] == names(folder)
    assert [row["photo"] for row in rows if row["error"]] == [names(folder)[4], names(folder)[11]]
    assert "not an image" in rows[4]["error"] and rows[4]["classes"] == []
    for row in rows[:4]:
        assert [(c["label"], c["probability"]) for c in row["classes"]] == model.classify(row["photo"], 3)
        assert [model.labels[c["class"]] for c in row["classes"]] == [c["label"] for c in row["classes"]]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".h5"])
def test_embeddings_are_the_pooled_features(classify, folder, tmp_path, suffix):
    path, model = tmp_path / f"out{suffix}", small_model()
    classify(folder, "--output", path, "--embeddings")
    for row in read(path):
        if row["error"] is None:
            x = model.transform(row["photo"])[None]
            expected = model.activations(x, ["global_pool"])["global_pool"][0]
            assert np.float32(row["embedding"]).tobytes() == expected.tobytes()
        else:
            assert row["embedding"] is None


def test_workers_and_batches_change_nothing(classify, folder, tmp_path):
    how = [(), ("--workers", 1), ("--workers", 5, "--batch-size", 3), ("--threads", 1, "--batch-size", 50)]
    for i, arguments in enumerate(how):
        classify(folder, "--output", tmp_path / f"{i}.jsonl", *arguments)
    assert len({(tmp_path / f"{i}.jsonl").read_bytes() for i in range(len(how))}) == 1


def test_a_good_folder_ends_well(classify, tmp_path):
    save_photos(tmp_path, 3)
    code, out, err = classify(tmp_path, "--output", tmp_path / "out.parquet")
    assert code == 0 and len(read(tmp_path / "out.parquet")) == 3 and "could not" not in err


def test_fast_decode_says_what_it_costs(classify, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    for i in range(6):
        Image.fromarray(np.roll(pixels, i)).resize((480, 320)).save(tmp_path / f"{i}.jpg")
    code, _, err = classify(tmp_path, "--output", tmp_path / "a.jsonl", "--fast-decode")
    assert code == 0 and "--fast-decode: on the first 4 photos the logits change by at most 0." in err
    assert "(the largest is " in err and " of them keep their most probable class" in err
    classify(tmp_path, "--output", tmp_path / "b.jsonl")
    fast, full = read(tmp_path / "a.jsonl"), read(tmp_path / "b.jsonl")
    assert [row["photo"] for row in fast] == [row["photo"] for row in full] and fast != full
    code, _, err = classify(tmp_path, "--output", tmp_path / "b.jsonl", "--fast-decode", "--resume")
    assert code == 1 and "was begun with fast_decode False, and now True" in err


@pytest.mark.parametrize("arguments, message", [
    (("--output", "none/o.csv"), "none/o.csv': its directory does not exist"),
    (("none/*.jpg", "--output", "o.csv"), "glob 'none/*.jpg': no photo matches"),
], ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "")
def test_wrong_wishes_leave_no_file(classify, folder, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = classify(folder, *arguments)
    assert code == 1 and err.startswith("npefficient: error: ") and message in err and "wrote" not in out
    assert os.listdir(tmp_path) == ["photos"]


def test_nothing_on_standard_input_leaves_no_file(classify, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    code, _, err = classify("-", "--output", tmp_path / "out.csv")
    assert code == 1 and "standard input: it names no photo" in err and os.listdir(tmp_path) == []


def test_without_weights_of_their_own_rows_tell_models_apart(command, classify, folder, tmp_path):
    """Resuming with other weights of the same architecture is refused."""
    write_weights(tmp_path / "other.h5", small_weights(seed=1))
    write_weights(tmp_path / "same.h5", small_weights())
    classify(folder, "--output", tmp_path / "o.csv")
    for name, code, message in (("other.h5", 1, "was begun with weights that came from 'seed 0', and now 'seed 1'"),
                                ("same.h5", 1, "2 of 12 photos could not be read")):
        got, _, err = command("classify", folder, "--weights", tmp_path / name, "--output", tmp_path / "o.csv",
                              "--resume")
        assert got == code and message in err


def test_a_finished_file_has_nothing_to_resume(classify, folder, tmp_path):
    (folder / "00003b.png").unlink()
    (folder / "more" / "empty.webp").unlink()
    classify(folder, "--output", tmp_path / "o.csv")
    before = (tmp_path / "o.csv").read_bytes()
    code, out, err = classify(folder, "--output", tmp_path / "o.csv", "--resume")
    assert code == 0 and out.splitlines()[-1].endswith("o.csv already has 10 rows, one for each photo")
    assert err == "" and (tmp_path / "o.csv").read_bytes() == before


def test_no_cell_of_a_csv_is_a_formula(classify, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_photos(tmp_path, 2)
    os.rename("00000.png", "=1+1.png")
    os.rename("00001.png", "'-1.png")
    photos = ("=1+1.png", "'-1.png", "@none.png")
    classify(*photos[:2], "--output", "o.csv")
    classify(*photos, "--output", "o.csv", "--resume")
    cells = [line.split(",")[0] for line in (tmp_path / "o.csv").read_text().splitlines()[1:]]
    assert cells == ["'=1+1.png", "''-1.png", "'@none.png"]
    classify(*photos, "--output", "o.csv", "--resume")  # names are compared as they are, not as cells
    assert (tmp_path / "o.csv").read_text().count("\n") == 4


def test_one_class_of_each_is_in_straight_columns(classify, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "twelve12.png", "a_longer_name.png"):
        save_photos(tmp_path, 1)
        os.rename("00000.png", name)
    for arguments in ((".",), sorted(os.listdir())):
        _, out, _ = classify(*arguments, "--topk", 1)
        lines = out.splitlines()[1:]
        assert len(lines) == 3 and len({line.index("%") for line in lines}) == 1, "the shares end in one column"
        assert all(" " in line[line.index(".png") :line.index("%")] for line in lines)
