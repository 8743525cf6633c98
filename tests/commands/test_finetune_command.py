"""`npefficient finetune`: its output and files, and errors that are found before any work."""
import json
import sys

import pytest
from class_photos import save_classes
from PIL import Image

from npefficient.errors import ArgumentError
from npefficient.jobs.finetune import embeddings
from npefficient.jobs.finetune.finetuning import finetune
from npefficient.weights.weight_file import read_weights


@pytest.fixture
def base(small, tmp_path, monkeypatch):
    """A weight file to start from, with an empty cache of embeddings."""
    monkeypatch.setattr(embeddings, "cache_directory", lambda: tmp_path / "cache")
    return small


@pytest.fixture
def photos(tmp_path):
    return save_classes(tmp_path / "photos", red=12, green=14, blue=10)


def test_finetune_and_classify(command, base, photos, tmp_path):
    mine, picture, figures = tmp_path / "mine.h5", tmp_path / "confusion.png", tmp_path / "figures.json"
    code, out, err = command("finetune", photos, "-o", mine, "--weights", base, "--report", picture, "--json", figures)
    lines = out.splitlines()
    assert code == 0 and lines[0] == "36 photos of 3 classes: 36 through the network, 0 from the cache"
    table = [line.split() for line in lines[3:7]]
    assert table[0] == ["class", "train", "val", "correct", "accuracy"]
    assert [row[:3] for row in table[1:]] == [["blue", "8", "2"], ["green", "11", "3"], ["red", "10", "2"]]
    assert lines[8] == "accuracy 7 of 7, 100.00% (64.57% to 100.00%)"
    assert lines[-3:] == [f"wrote {figures}: all figures", f"wrote {picture}: the confusion matrix",
                          f"wrote {mine}: tf_efficientnet_lite0 with 3 classes, in timm's order for such folders"]
    assert "36 of 36 photos" in err
    found = json.loads(figures.read_text())
    losses = {trial["penalty"]: trial["loss"] for trial in found["trials"]}
    ends = {max(losses): "; nothing stronger was tried", min(losses): "; nothing weaker was tried"}
    assert lines[1] == (
        f"regularisation: {found['penalty']:g}, with the lowest held-out loss ({min(losses.values()):.3f}) of 6 "
        f"strengths from 10 to 0.0001{ends.get(found['penalty'], '')}")
    assert (found["val"], found["correct"], found["accuracy"], found["computed"]) == (7, 7, 1.0, 36)
    assert [row["label"] for row in found["classes"]] == ["blue", "green", "red"]
    assert sum(map(sum, found["confusion"])) == 7 and found["unreadable"] == []
    with Image.open(picture) as image:
        assert image.format == "PNG"
    code, out, _ = command("classify", photos / "red" / "00.png", "--weights", mine, "--topk", 1, "--json")
    assert code == 0 and json.loads(out)["classes"][0]["label"] == "red"


def test_a_second_run_is_said_to_be_quick(command, base, photos, tmp_path):
    arguments = ("finetune", photos, "-o", tmp_path / "mine.h5", "--weights", base)
    command(*arguments)
    code, out, err = command(*arguments, "--force", "--refit")
    assert code == 0 and out.startswith("36 photos of 3 classes: 0 through the network, 36 from the cache")
    assert "before the final fit to all photos" in out and err == ""
    _, out, _ = command(*arguments, "--force", "--no-cache")
    assert out.startswith("36 photos of 3 classes: 36 through the network, 0 from")


def test_finetune_and_classify_in_int8(command, base, photos, tmp_path):
    mine, figures = tmp_path / "mine.h5", tmp_path / "figures.json"
    code, out, _ = command("finetune", photos, "-o", mine, "--weights", base, "--json", figures, "--precision", "int8")
    assert code == 0 and out.splitlines()[-1].startswith(f"wrote {mine}: tf_efficientnet_lite0 with 3 classes, in")
    assert out.endswith(" for such folders; use it with --precision int8\n")
    found = json.loads(figures.read_text())
    assert (found["precision"], found["accuracy"], found["computed"]) == ("int8", 1.0, 36)
    assert "classifier fitted in int8 to " in found["source"]
    code, out, _ = command("classify", photos / "red" / "00.png", "--weights", mine, "--precision", "int8", "--json")
    assert code == 0 and json.loads(out)["classes"][0]["label"] == "red"


def test_unreadable_photos_are_named_and_counted(command, base, photos, tmp_path):
    (photos / "red" / "05.png").write_text("no picture")
    (photos / "beside.jpg").write_text("beside the classes")
    code, out, err = command("finetune", photos, "-o", tmp_path / "mine.h5", "--weights", base)
    assert code == 0 and out.startswith("35 photos of 3 classes")
    assert f"npefficient: error: photo '{photos}/red/05.png': not an image" in err
    assert err.splitlines()[-1] == "npefficient: 1 of 36 photos could not be read and are left out"
    assert "npefficient: photos outside the class folders, which belong to no class and are left out: 1" in err


def test_the_options_reach_the_fit(command, base, photos, tmp_path):
    files = []
    for i, options in enumerate([(), ("--seed", 1), ("--val-split", "0.5"), ("--workers", 1), ("--threads", 1)]):
        files.append(tmp_path / f"{i}.h5")
        code, _, _ = command("finetune", photos, "-o", files[-1], "--weights", base, *options)
        assert code == 0
    plain, seed, half, workers, threads = (read_weights(path).parameters["classifier.bias"].tobytes() for path in files)
    assert plain == workers == threads and len({plain, seed, half}) == 3


@pytest.mark.parametrize("options, text", [
    (("--report", "none/c.png"), "none/c.png': its directory does not exist"), (("--json", "none/f"), "none/f'"),
], ids=lambda value: value[0] if isinstance(value, tuple) else None)
def test_options_of_no_use(command, base, photos, tmp_path, monkeypatch, options, text):
    monkeypatch.chdir(tmp_path)
    code, out, err = command("finetune", photos, "-o", "mine.h5", "--weights", base, *options)
    assert code == 1 and out == "" and err.startswith("npefficient: error: ") and text in err
    assert not (tmp_path / "mine.h5").exists()


@pytest.mark.parametrize("name, options", [
    ("red/c.png", ("--report", "photos/red/c.png")), ("red/f.json", ("--json", "photos/red/f.json")),
    ("blue/m.h5", ("-o", "photos/blue/m.h5")),
], ids=lambda value: value[0] if isinstance(value, tuple) else None)
def test_an_output_among_the_photos(command, before_any_work, photos, tmp_path, monkeypatch, name, options):
    monkeypatch.chdir(tmp_path)
    code, _, err = command("finetune", photos, "-o", "m.h5", "--weights", "x.h5", *options)
    assert code == 1 and f"photos/{name}': it is in a folder of photos of this run" in err


def test_an_output_among_the_photos_in_python(photos):
    with pytest.raises(ArgumentError, match="red/m.h5': it is in a folder of photos of this run"):
        finetune(photos, photos / "red" / "m.h5")


def test_nothing_is_overwritten_without_force(command, base, photos, tmp_path):
    for name in ("mine.h5", "c.png", "f.json"):
        path = tmp_path / name
        path.write_bytes(b"old")
        code, out, err = command("finetune", photos, "-o", tmp_path / "mine.h5", "--weights", base,
                                 "--report", tmp_path / "c.png", "--json", tmp_path / "f.json")
        assert code == 1 and out == "" and f"{path}' exists already" in err and path.read_bytes() == b"old"
        path.unlink()


def test_a_folder_that_is_missing(command, before_any_work):
    code, _, err = command("finetune", "none", "-o", "m.h5", "--weights", "x.h5")
    assert code == 1 and "folder 'none': there is no such folder" in err


@pytest.fixture
def before_any_work(monkeypatch):
    """Fail if any code is compiled or any photo is read."""
    monkeypatch.setattr("npefficient.commands.finetune.compile_kernels", None)


def test_an_extra_that_is_missing_is_said_before_any_work(command, before_any_work, photos, monkeypatch):
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "sklearn.linear_model", None)
        code, _, err = command("finetune", photos, "-o", "m.h5", "--weights", "x.h5")
        assert code == 1 and 'python -m pip install matplotlib scikit-learn' in err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = command("finetune", photos, "-o", "m.h5", "--weights", "x.h5", "--report", "c.png")
    assert code == 1 and 'matplotlib: python -m pip install matplotlib scikit-learn' in err


def test_letters_that_no_font_has_are_warned_of(command, base, photos, tmp_path):
    (photos / "red").rename(photos / "\U00013080")  # a hieroglyph
    code, _, err = command("finetune", photos, "-o", tmp_path / "m.h5", "--weights", base, "--report",
                           tmp_path / "c.png")
    assert code == 0 and f"npefficient: warning: {tmp_path / 'c.png'} has escapes for letters that no installed" in err


def test_finetune_the_embedded_model(command, base, photos, tmp_path):
    code, out, _ = command("finetune", photos, "-o", tmp_path / "mine.h5", "--model", "digits")
    assert code == 0 and "accuracy " in out
    made = read_weights(tmp_path / "mine.h5")
    assert made.preprocessing.input_size == (64, 64) and made.labels == ("blue", "green", "red")
