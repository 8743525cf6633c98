"""`npefficient validate`: output, files, exit codes, and errors that are found before any work."""
import csv
import json

import pytest
from class_photos import save_classes
from PIL import Image
from small import small_weights

from npefficient.images.image import open_image
from npefficient.jobs.accuracy import describe
from npefficient.jobs.validate import validation
from npefficient.model.model import Model
from npefficient.weights.weight_file import write_weights


@pytest.fixture
def photos(tmp_path):
    return save_classes(tmp_path / "photos", **{"0": 3, "2": 2, "4": 4})


def test_validate_prints_and_writes_its_counts(command, small, photos, tmp_path):
    code, out, err = command("validate", photos, "--weights", small, "--csv", tmp_path / "c.csv",
                             "--json", tmp_path / "f.json")
    expected = validation.validate(Model(small_weights(), num_threads=1), photos)
    assert code == 0 and "9 of 9 photos" in err and "error" not in err
    assert out.splitlines() == [
        repr(Model(small_weights())), f"top-1  {describe(expected.top1, 9)}",
        f"top-5  {describe(9, 9)}", f"wrote {tmp_path / 'c.csv'}: 3 classes",
        f"wrote {tmp_path / 'f.json'}: all figures"]
    with open(tmp_path / "c.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["label"], row["photos"], row["top5"]) for row in rows] == [
        ("0", "class 0", "3", "3"), ("2", "class 2", "2", "2"), ("4", "class 4", "4", "4")]
    assert sum(int(row["top1"]) for row in rows) == expected.top1 and rows[0]["synset"] == ""
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["top1"]["correct"] == expected.top1 and figures["photos"] == 9 and figures["published"] is None
    assert figures["model"] == "tf_efficientnet_lite0" and figures["input_size"] == [32, 32]
    assert figures["preprocess"] == "timm" and figures["directory"] == str(photos)


def test_bad_photos_are_named_counted_and_the_exit_code_is_1(command, small, photos):
    (photos / "4" / "01.png").write_text("no picture")
    code, out, err = command("validate", photos, "--weights", small)
    assert code == 1 and "top-1" in out and " of 8, " in out
    assert f"npefficient: error: photo '{photos}/4/01.png': not an image" in err
    assert err.splitlines()[-1] == "npefficient: 1 of 9 photos could not be read"


def test_without_a_photo_that_can_be_read_there_is_no_accuracy(command, small, tmp_path):
    save_classes(tmp_path / "bad", **{"0": 1})
    (tmp_path / "bad" / "0" / "00.png").write_text("no picture")
    code, out, err = command("validate", tmp_path / "bad", "--weights", small)
    assert code == 1 and "top-1" not in out and err.splitlines()[-1] == "npefficient: 1 of 1 photo could not be read"


def test_a_folder_that_is_missing_is_said_before_any_work(command, monkeypatch):
    monkeypatch.setattr("npefficient.model.model.create_model", None)
    code, out, err = command("validate", "none")
    assert code == 1 and out == ""
    assert err == "npefficient: error: folder 'none': there is no such folder; check the path\n"


def test_exif_and_a_limit_of_pixels(command, small, photos, tmp_path):
    """One photo is stored on its side; the limit excludes all of them."""
    with Image.open(photos / "4" / "01.png") as photo:
        exif = photo.getexif()
        exif[0x0112] = 6
        photo.save(photos / "4" / "01.png", exif=exif)
    expected = {exif: validation.validate(Model(small_weights(), num_threads=1), photos, exif=exif).predictions
                for exif in (False, True)}
    model, place = Model(small_weights(), num_threads=1), 6
    for exif in (False, True):
        upright = model.transform(open_image(photos / "4" / "01.png", exif=exif))
        assert expected[exif][place] == model(upright[None]).argmax()
    code, _, err = command("validate", photos, "--weights", small, "--exif", "--json", tmp_path / "f.json")
    figures = json.loads((tmp_path / "f.json").read_text())
    assert code == 0 and figures["exif"] is True and figures["max_pixels"] is None
    assert figures["top1"]["correct"] == sum(expected[True] == [0] * 3 + [2] * 2 + [4] * 4)
    code, _, err = command("validate", photos, "--weights", small, "--max-pixels", 575)
    assert code == 1 and err.count("24 x 24 pixels, and at most 575 are allowed; ") == 9


def test_a_folder_that_can_not_be_listed_and_an_empty_one(command, small, photos, unlistable):
    (photos / "4" / "lost+found").mkdir()
    (photos / "1").mkdir()
    unlistable(photos / "4" / "lost+found")
    code, out, err = command("validate", photos, "--weights", small)
    assert code == 1 and " of 9, " in out and "class folders with no photo: '1'" in err
    assert f"npefficient: folder '{photos}/4/lost+found': it can't be listed (Permission denied)" in err


def test_a_labels_file(command, small, photos, tmp_path):
    (tmp_path / "labels.csv").write_text("0/00.png,1\n4/03.png,5\n")
    code, out, err = command("validate", photos, "--weights", small, "--labels-file", tmp_path / "labels.csv",
                             "--labels-base", 1)
    assert code == 0 and " of 2, " in out and "that the labels file does not name, left out: 7" in err
    code, out, err = command("validate", photos, "--weights", small, "--labels-file", tmp_path / "labels.csv")
    assert code == 1 and "classes '5': no index from 0 to 4" in err


def test_the_options_reach_the_work(command, small, photos, monkeypatch):
    seen, stream = [], validation.stream
    monkeypatch.setattr(validation, "stream", lambda *arguments, **how: seen.append(how) or stream(*arguments, **how))
    command("validate", photos, "--weights", small, "--workers", 3, "--batch-size", 4)
    command("validate", photos, "--weights", small, "--threads", 1, "--preprocess", "tf")
    assert (seen[0]["workers"], seen[0]["batch_size"], seen[0]["preprocess"]) == (3, 4, None)
    assert (seen[1]["workers"], seen[1]["batch_size"]) == (1, 1) and callable(seen[1]["preprocess"])


def test_four_classes_have_no_top5_line(command, photos, tmp_path):
    write_weights(tmp_path / "four.h5", small_weights(4))
    (photos / "4").rename(photos / "3")
    code, out, _ = command("validate", photos, "--weights", tmp_path / "four.h5")
    assert code == 0 and "top-1" in out and "top-5" not in out


def test_the_published_figures_stand_beside_the_official_weights(command, small, photos, monkeypatch):
    monkeypatch.setattr(validation, "_published", lambda model: (0.7483, 0.9217))
    _, out, _ = command("validate", photos, "--weights", small)
    lines = out.splitlines()
    assert lines[1].endswith("   published 74.83%") and lines[2].endswith("   published 92.17%")
    assert lines[3] == "published: timm 1.0 results-imagenet.csv, 50,000 photos, timm's preprocessing"


@pytest.mark.parametrize("options, text", [
    (("--csv", "none/c.csv"), "none/c.csv': its directory does not exist"), (("--json", "old"), "old' exists already"),
    (("--csv", "photos/4/c.csv"), "photos/4/c.csv': it is in a folder of photos of this run"),
    (("--labels-file", "none.txt"), "labels file 'none.txt'"),
    (("--labels-file", "elsewhere.txt"), "none of its photos exists: 'x/a.png', 'x/b.png'; names are relative"),
], ids=lambda value: value[0] if isinstance(value, tuple) else None)
def test_options_of_no_use(command, small, photos, tmp_path, monkeypatch, options, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").write_text("old")
    (tmp_path / "elsewhere.txt").write_text("x/a.png,1\nx/b.png,2\n")
    code, out, err = command("validate", photos, "--weights", small, *options)
    assert code == 1 and "top-1" not in out and "npefficient: error: " in err and text in err
    assert (tmp_path / "old").read_text() == "old"


