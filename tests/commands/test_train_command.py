"""`npefficient train`: its output and files, its options, and errors that are found before any work."""
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from class_photos import save_classes
from fresh import ROOT

from npefficient.training.recipe_files import recipe_text
from npefficient.training.recipes import Recipe
from npefficient.weights.weight_file import read_weights

RUN = ("--epochs", 2, "--batch-size", 8, "--warmup-epochs", 0, "--lr", "1e-3", "--threads", 1)


@pytest.fixture
def photos(tmp_path):
    return save_classes(tmp_path / "photos", red=12, green=12, blue=12)


def test_train_and_classify(command, small, photos, tmp_path):
    mine = tmp_path / "mine.h5"
    code, out, err = command("train", photos, "-o", mine, "--from", small, *RUN, "--model-ema", "--mixup", "0.2")
    assert code == 0
    accuracy, best, last, table, curves, confusion = out.splitlines()
    assert accuracy.startswith("accuracy ") and " of 6, " in accuracy and ", after epoch " in accuracy
    assert best.startswith(f"wrote {mine}: tf_efficientnet_lite0 with 3 classes, after epoch ")
    assert last == f"wrote {tmp_path}/mine-last.h5: the weights after the last epoch"
    assert table == f"wrote {tmp_path}/mine.csv: a line for each epoch"
    assert curves == f"wrote {tmp_path}/mine-curves.png: the losses and the accuracy"
    assert confusion == f"wrote {tmp_path}/mine-confusion.png: the confusion matrix"
    assert "epoch 2 of 2: learning rate 0.0005, loss " in err and "48 of 48 photos (100%)" in err and ", loss " in err
    assert (tmp_path / "mine.csv").read_text().count("\n") == 3
    code, out, _ = command("classify", photos / "red" / "00.png", "--weights", mine, "--topk", 1)
    assert code == 0 and any(label in out for label in ("red", "green", "blue"))
    code, _, err = command("train", photos, "-o", mine, "--from", small, *RUN)
    assert code == 1 and "mine.h5' exists already: start again with --force" in err


def test_a_file_may_have_the_name_of_a_model(command, small, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(small, "lite0")
    assert command("train", photos, "-o", "mine.h5", "--from", "lite0", *RUN)[0] == 0
    assert read_weights("mine.h5").preprocessing.input_size == (32, 32)


def test_the_options_reach_the_recipe(command, tmp_path):
    code, out, err = command("train", "--print-recipe", "--recipe", "efficientnet", "--lr", "0.5", "--no-model-ema",
                             "--scale", "0.3", "0.9", "--clip-grad", "none", "--aa", "rand-m5", "--model-ema-warmup")
    lines = out.splitlines()
    assert code == 0 and err == ""
    assert {"lr = 0.5", "model-ema = false", "scale = 0.3 0.9", "clip-grad = none", "aa = rand-m5", "opt = rmsproptf",
            "model-ema-warmup = true", "epochs = 450"} <= set(lines)
    (tmp_path / "mine.txt").write_text(out)
    assert command("train", "--print-recipe", "--recipe", tmp_path / "mine.txt")[1] == out
    (tmp_path / "empty.txt").write_text("# timm's defaults\n")
    assert command("train", "--print-recipe", "--recipe", tmp_path / "empty.txt")[1] == recipe_text(Recipe())


@pytest.mark.parametrize("how, code", [("SIGINT", 130), ("SIGTERM", 143), ("SIGKILL", -9)])
def test_stopped_and_resumed_to_the_bit(command, small, photos, tmp_path, how, code):
    mine, whole = tmp_path / "mine.h5", tmp_path / "whole.h5"
    arguments = ("--from", small, *RUN[2:], "--epochs", 4)
    process = subprocess.Popen([sys.executable, "-m", "npefficient", "train", str(photos), "-o", str(mine),
                                *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT)})
    patience, table = time.monotonic() + 200, tmp_path / "mine.csv"
    while not table.exists() or table.read_bytes().count(b"\n") < 2:  # until the first epoch is over
        assert process.poll() is None and time.monotonic() < patience, process.communicate()
        time.sleep(0.005)
    process.send_signal(getattr(signal, how))
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    if how != "SIGKILL":
        assert "interrupted: the run is kept after " in err and "with --resume continues" in err
        assert "Traceback" not in err
    assert command("train", photos, "-o", mine, *arguments, "--resume")[0] == 0
    assert command("train", photos, "-o", whole, *arguments)[0] == 0
    for name in ("{}.h5", "{}-last.h5"):
        one, other = (read_weights(tmp_path / name.format(stem)).parameters for stem in ("mine", "whole"))
        assert all(one[key].tobytes() == other[key].tobytes() for key in other)


@pytest.mark.parametrize("arguments, code, text", [
    ((), 2, "required: PHOTOS_DIR, -o/--output"), (("p",), 2, "required: -o/--output"),
    (("p", "-o", "m.pth"), 2, "'m.pth': its name must end in .h5"), (("p", "-o", "m.h5", "--lr", "x"), 2, "lr 'x'"),
    (("p", "-o", "m.h5", "--opt", "adam"), 2, "opt 'adam': it must be one of sgd"),
    (("p", "-o", "m.h5", "--recipe", "none.txt"), 2, "neither a file nor a packaged recipe"),
    (("p", "-o", "m.h5", "--resume", "--force"), 2, "not allowed with"),
    (("p", "-o", "m.h5", "--val-dir", "v", "--val-split", "0.3"), 2, "not allowed with"),
    (("p", "-o", "m.h5", "--from", "resnet50"), 2, "unknown model 'resnet50'"),
    (("p", "-o", "none/m.h5"), 1, "its directory does not exist"), (("p", "-o", "m.h5"), 1, "there is no such folder"),
    (("p", "-o", "m.h5", "--resume"), 1, "there is no such folder"),
], ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_what_is_wrong_is_said_before_any_work(command, tmp_path, monkeypatch, arguments, code, text):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("npefficient.commands.train.compile_kernels", None)
    got, out, err = command("train", *arguments)
    assert got == code and out == "" and text in err and os.listdir() == []
    assert len(err.splitlines()) == code  # a usage error is below a usage of one line
