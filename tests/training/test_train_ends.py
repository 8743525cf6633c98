"""Runs that stop early, with frozen stages, and what is drawn at their end."""
import sys

import numpy as np
import pytest
from PIL import Image
from small import small_weights
from training_runs import photos, same, stopping, train

from npefficient.errors import ArgumentError
from npefficient.training import run_pictures
from npefficient.training.freeze import trained
from npefficient.training.learner import Learner
from npefficient.training.run_files import Epoch
from npefficient.training.run_pictures import draw_curves

# Nothing changes the accuracy, as the learning rate is next to nothing.
STALE = dict(epochs=9, lr=1e-12, warmup_epochs=0, model_ema=False, freeze="9", opt="sgd", patience=2)


@pytest.fixture
def folder(tmp_path):
    photos(tmp_path)
    return tmp_path


def test_a_run_without_a_better_epoch_stops(folder, capsys):
    result = train(folder, **STALE, progress=True)
    last = len(result.epochs)
    assert last == result.best.epoch + 2 < 9
    assert f"stopped after epoch {last} of 9, as none since epoch {last - 2} was better\n" in capsys.readouterr().err


@pytest.mark.parametrize("updates", [3, 5])
def test_a_run_that_was_interrupted_stops_at_the_same_epoch(folder, monkeypatch, updates):
    def stop():
        raise KeyboardInterrupt

    whole = train(folder, "whole.h5", **STALE)
    with monkeypatch.context() as patched:
        patched.setattr(Learner, "compute", stopping(updates, stop))
        with pytest.raises(KeyboardInterrupt):
            train(folder, **STALE)
    assert same(train(folder, resume=True, **STALE), whole)


@pytest.mark.parametrize("freeze", ["3", "9"])
def test_frozen_stages_stay_and_the_others_change(folder, freeze):
    base = small_weights()
    result = train(folder, freeze=freeze, model_ema=False, epochs=2)
    part = trained(base.architecture, freeze)
    changed = {name for name, array in base.parameters.items()
               if not np.array_equal(array, result.weights.parameters[name])}
    assert all(name in part.parameters or name.rpartition(".")[0] not in part.frozen_norms and "bn" in name
               for name in changed)
    assert {name for name in part.parameters if base.parameters[name].ndim > 1} <= changed


def test_frozen_stages_have_the_same_bits_for_any_number_of_threads(folder):
    one, other = (train(folder, f"{threads}.h5", freeze="4", epochs=2, num_threads=threads) for threads in (1, 2))
    assert same(one, other)


def test_frozen_batch_norms_stay_and_a_resumed_run_has_the_same_bits(folder, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    options, base = dict(freeze_bn=True, epochs=2), small_weights()
    whole = train(folder, "whole.h5", **options)
    changed = {name for name, array in base.parameters.items()
               if not np.array_equal(array, whole.weights.parameters[name])}
    assert changed == {f"{conv.name}.weight" for conv in base.architecture.convs} | {
        "classifier.weight", "classifier.bias"}
    with monkeypatch.context() as patched:
        patched.setattr(Learner, "compute", stopping(3, stop))
        with pytest.raises(KeyboardInterrupt):
            train(folder, **options)
    with pytest.raises(ArgumentError, match="was begun with freeze_bn True, and now False"):
        train(folder, resume=True, epochs=2)
    assert same(train(folder, resume=True, num_threads=2, **options), whole)


def test_without_matplotlib_there_are_no_pictures_and_a_hint(folder, monkeypatch):
    said = []
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = train(folder, epochs=1, warmup_epochs=0, say=said.append)
    assert result.pictures == () and "drawing a picture needs matplotlib: python -m pip install matplotlib" in said[-1]
    assert not list(folder.glob("*.png"))


def test_letters_without_a_font_are_told(folder, monkeypatch):
    said = []
    monkeypatch.setattr(run_pictures, "draw_confusion", lambda confusion, labels, path, force: [labels[1]])
    train(folder, epochs=1, warmup_epochs=0, say=said.append)
    assert said[-1].startswith("warning: m-confusion.png has escapes for letters that no installed font has, in ")
    assert "green" in said[-1]


def test_curves_of_one_epoch_and_of_many(tmp_path):
    for count in (1, 60):
        path = tmp_path / f"{count}.png"
        draw_curves([Epoch(i + 1, 0.1, 2.0 / (i + 1), 2.2 / (i + 1), 1 - 0.9 / (i + 1), 30, 9.0)
                     for i in range(count)], path)
        with Image.open(path) as picture:
            assert picture.format == "PNG" and picture.size == (1350, 540)
            assert len(picture.convert("RGB").getcolors(2**24)) > 20
