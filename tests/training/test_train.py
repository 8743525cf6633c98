"""A training run: what it writes, what it refuses, and that neither threads nor a stop change a bit of it."""
import csv
import errno
import subprocess
from pathlib import Path

import numpy as np
import pytest
import training_runs
from fresh import PYTHON, environment
from small import small_weights
from training_runs import BATCHES, equal, photos, same, stopping, train

import npefficient
from npefficient.errors import ArgumentError, WeightsError
from npefficient.jobs.photo_marks import photo_marks
from npefficient.training import run
from npefficient.training.dataset import read_dataset
from npefficient.training.learner import Learner
from npefficient.training.recipes import Recipe
from npefficient.training.run_files import RunFiles

UPDATES = 2  # of an epoch: of two batches, and of the one that is left


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(folder with the photos, result of the whole run)."""
    folder = tmp_path_factory.mktemp("undisturbed")
    photos(folder)
    return folder, train(folder)


@pytest.fixture
def folder(tmp_path):
    photos(tmp_path)
    return tmp_path


def test_what_a_run_writes(undisturbed):
    folder, result = undisturbed
    assert sorted(path.name for path in folder.iterdir()) == [
        "m-confusion.png", "m-curves.png", "m-last.h5", "m.csv", "m.h5", "photos"]
    assert result.pictures == (folder / "m-curves.png", folder / "m-confusion.png")
    assert [epoch.epoch for epoch in result.epochs] == [1, 2, 3] and result.photos == 27
    recipe = Recipe(epochs=3, lr=1e-3, warmup_epochs=1)
    assert [epoch.lr for epoch in result.epochs] == [recipe.schedule(epoch) for epoch in range(3)]
    with open(folder / "m.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == [vars(e) for e in result.epochs]
    assert result.best == max(result.epochs, key=lambda epoch: (epoch.val_top1, -epoch.val_loss))
    assert result.weights.source.kind == "trained" and result.labels == ("blue", "green", "red")
    assert "trained on 27 photos of photos" in result.weights.source.name
    assert len(result.weights.source.photos) == 27 * 8
    last = npefficient.load_weights(folder / "m-last.h5")
    assert last.labels == result.labels and last.preprocessing == small_weights().preprocessing
    assert last.parameters["bn1.num_batches_tracked"] == 3 * BATCHES


def test_the_table_is_what_the_weights_give(undisturbed):
    folder, result = undisturbed
    model, chosen = result.model(1), read_dataset(folder / "photos", val_split=0.25, seed=42)
    logits = np.stack([model(model.transform(path)[None])[0] for path, _ in chosen.validation]).astype(np.float64)
    right = np.array([index for _, index in chosen.validation])
    loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(right)), right]
    assert result.best.val_top1 == (logits.argmax(1) == right).mean() and result.best.val_photos == len(right) == 9
    assert result.best.val_loss == pytest.approx(loss.mean(), rel=1e-6)
    assert result.confusion.tolist() == [[int(((logits.argmax(1) == answer) & (right == label)).sum())
                                          for answer in range(3)] for label in range(3)]


def test_neither_threads_nor_workers_change_a_bit(undisturbed, folder):
    assert same(train(folder, num_threads=2, workers=3), undisturbed[1])


def test_another_seed_changes_the_run(undisturbed, folder):
    assert not same(train(folder, seed=1), undisturbed[1])


# --- stopped and resumed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("updates", [1, UPDATES + 1])
def test_a_killed_run_is_resumed_to_the_bit(undisturbed, folder, updates):
    script = [*PYTHON, training_runs.__file__, folder, 1, updates]
    done = subprocess.run(list(map(str, script)), capture_output=True, text=True, timeout=240,
                          env=environment(PYTHONPATH=str(Path(npefficient.__file__).parents[1])))
    assert done.returncode == 9, done.stderr
    assert same(train(folder, resume=True, num_threads=2), undisturbed[1])


@pytest.mark.parametrize("updates", [0, 1, UPDATES, 3 * UPDATES - 1])
def test_an_interrupted_run_is_resumed_to_the_bit(undisturbed, folder, monkeypatch, updates):
    def stop():
        raise KeyboardInterrupt

    epoch, batch = divmod(updates, UPDATES)
    kept = f"after batch {2 * batch} of epoch {epoch + 1}" if batch else f"after epoch {epoch}" if epoch else "at its"
    with monkeypatch.context() as patched:
        patched.setattr(Learner, "compute", stopping(updates, stop))
        with pytest.raises(KeyboardInterrupt, match=f"the run is kept {kept}.*; the same command with --resume"):
            train(folder)
    assert same(train(folder, resume=True), undisturbed[1])


def test_an_error_keeps_the_run_and_says_so(undisturbed, folder, monkeypatch):
    def stop():
        raise RuntimeError("a fault")

    said = []
    with monkeypatch.context() as patched:
        patched.setattr(Learner, "compute", stopping(3, stop))
        with pytest.raises(RuntimeError, match="a fault"):
            train(folder, say=said.append)
    assert said[-1].startswith("the run is kept after batch 2 of epoch 2; once that is fixed")
    assert same(train(folder, resume=True), undisturbed[1])


def test_a_run_stopped_amid_a_change_goes_on_from_the_state_before(undisturbed, folder, monkeypatch):
    apply, done = Learner.apply, []

    def stop_amid(learner, update, lr):
        apply(learner, update, lr)
        done.append(1)
        if len(done) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Learner, "apply", stop_amid)
        with pytest.raises(KeyboardInterrupt, match="the run is kept after epoch 1;"):
            train(folder)
    assert same(train(folder, resume=True), undisturbed[1])


def test_a_full_disk_keeps_the_state_before(undisturbed, folder, monkeypatch):
    save, saves = RunFiles.save, []

    def until_full(files, state):
        saves.append(1)
        if len(saves) < 4:
            return save(files, state)
        with monkeypatch.context() as patched:
            patched.setattr(np, "savez", fail)
            save(files, state)

    def fail(*arguments, **arrays):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(run, "SAVE", 0.0)
        patched.setattr(RunFiles, "save", until_full)
        with pytest.raises(OSError, match="No space left on device; the run is kept after batch 3 of epoch 1") as full:
            train(folder)
    assert full.value.filename == str(folder / ".m.h5.state.npz")
    assert same(train(folder, resume=True), undisturbed[1])


def test_a_loss_that_is_not_finite_stops_with_the_place_and_the_remedy(folder):
    diverging = dict(lr=1000.0, warmup_epochs=0, weight_decay=10.0, opt="sgd", epochs=9)  # weights grow 10,000-fold
    with pytest.raises(WeightsError, match=r"epoch \d, batch \d, learning rate .*: .* finite. Use a lower lr") as told:
        train(folder, **diverging)
    assert "begin anew with --force" in str(told.value)
    with np.load(folder / ".m.h5.state.npz") as state:
        assert all(np.isfinite(array).all() for array in state.values())


# --- refused ---------------------------------------------------------------------------------------------------------


def test_a_second_run_with_the_same_output_is_refused(folder, monkeypatch):
    def again():
        with pytest.raises(ArgumentError, match="m.csv': another process is writing it"):
            train(folder, resume=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Learner, "compute", stopping(0, again))
        with pytest.raises(KeyboardInterrupt):
            train(folder)


def test_what_is_there_is_kept_without_resume_or_force(undisturbed):
    folder, result = undisturbed
    with pytest.raises(ArgumentError, match="m.h5' exists already: start again with --force"):
        train(folder)
    with pytest.raises(ArgumentError, match="m.h5' exists already: its run has ended .*state.npz' is missing.; start"):
        train(folder, resume=True)
    with pytest.raises(ArgumentError, match="resume and force"):
        train(folder, resume=True, force=True)
    assert equal(npefficient.load_weights(folder / "m.h5").parameters, result.weights.parameters)


@pytest.fixture
def begun(folder, monkeypatch):
    """A folder with a run that was interrupted."""
    def stop():
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Learner, "compute", stopping(1, stop))
        with pytest.raises(KeyboardInterrupt):
            train(folder)
    return folder


def test_a_run_is_not_resumed_with_other_settings(begun):
    with pytest.raises(ArgumentError, match="was begun with lr 0.001, and now 0.01: --resume needs the same"):
        train(begun, resume=True, lr=0.01)
    (begun / "photos" / "red" / "00.png").unlink()
    with pytest.raises(ArgumentError, match="photos to train on '27 .*, and now '26"):
        train(begun, resume=True)


def test_a_run_that_has_not_ended_can_be_resumed(begun):
    with pytest.raises(ArgumentError, match="m.csv' exists already: continue with --resume, start again with --force"):
        train(begun)


def test_a_damaged_state_is_named(begun):
    state = begun / ".m.h5.state.npz"
    data = bytearray(state.read_bytes())
    data[len(data) // 2] ^= 1
    state.write_bytes(data)
    with pytest.raises(WeightsError, match="state.npz' is damaged .* begin anew with --force"):
        train(begun, resume=True)


def test_force_begins_anew(begun, undisturbed):
    assert same(train(begun, force=True), undisturbed[1])


def test_a_folder_to_validate_on(folder):
    training_runs.save_classes(folder / "new", green=3, red=2)
    result = train(folder, val_dir=folder / "new", epochs=2)
    assert result.best.val_photos == 5 and result.photos == 36


def test_another_size_of_the_input(folder):
    result = train(folder, epochs=2, img_size=40, crop_pct=1.0)
    how = result.weights.preprocessing
    assert how == npefficient.load_weights(folder / "m-last.h5").preprocessing
    assert how.input_size == (40, 40) and how.crop_pct == 1.0


def test_going_on_from_a_run_with_other_photos_held_out_is_warned_of(undisturbed, folder):
    options, said = dict(weights=undisturbed[0] / "m.h5", epochs=1, warmup_epochs=0), []
    train(folder, seed=42, say=said.append, **options)
    assert said == []
    result = train(folder, seed=43, say=said.append, force=True, **options)
    assert len(result.weights.source.photos) == 35 * 8  # 27 of the run before, 8 of them held out now, and 8 new ones
    (text,) = result.warnings
    assert said == [text] and "were fitted to 8 of the 9 photos held out" in text


def test_a_start_with_other_classes_keeps_the_photos_that_it_has_seen(undisturbed, folder):
    """Its layers were trained on them, whatever becomes of its classifier."""
    training_runs.save_classes(folder / "photos", yellow=8)
    start = npefficient.load_weights(undisturbed[0] / "m.h5")
    result = train(folder, seed=43, weights=start, epochs=1, warmup_epochs=0)
    kept, known = (photo_marks([], weights.source.photos) for weights in (result.weights, start))
    assert len(known) == 27 * 8 and set(each(known)) < set(each(kept))
    assert "photos held out, so that the accuracy is too high; hold out photos that they" in result.warnings[-1]


def each(marks):
    return [marks[at:at + 8] for at in range(0, len(marks), 8)]


def test_an_epoch_that_is_resumed_in_its_validation_has_no_speed(undisturbed, folder, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run.Run, "validate", stop)
        with pytest.raises(KeyboardInterrupt):
            train(folder)
    result = train(folder, resume=True)
    first, *others = (epoch.images_per_second for epoch in result.epochs)
    assert np.isnan(first) and min(others) > 0 and same(result, undisturbed[1])
