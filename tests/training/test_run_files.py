"""The state that a run goes on from: damaged and hostile files are refused, before they take memory or change a file.

And what a run can't write: the file that it starts from.
"""
import os
import pickle
import shutil

import numpy as np
import pytest
from small import small_weights
from training_runs import photos, same, stopping, train

from npefficient.errors import ArgumentError, WeightsError
from npefficient.training import learner, run_files
from npefficient.training import train as training
from npefficient.training.learner import Learner
from npefficient.training.run_files import RunFiles, check_run_files
from npefficient.weights.weight_file import write_weights

STATE = ".m.h5.state.npz"
LINE = np.array([[1, 1e-3, 2.0, 1.5, 0.5, 9, 80.0]])  # of the table


def interrupt(*arguments, **more):
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with a run that was interrupted in its first update."""
    folder = tmp_path_factory.mktemp("begun")
    photos(folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Learner, "compute", stopping(0, interrupt))
        with pytest.raises(KeyboardInterrupt, match="kept at its start"):
            train(folder)
    return folder


@pytest.fixture
def arrays(begun, tmp_path):
    """The arrays of its state, which is as it was once the test is over."""
    shutil.copy(begun / STATE, tmp_path / "kept.npz")
    with np.load(begun / STATE) as stored:
        yield dict(stored)
    shutil.copy(tmp_path / "kept.npz", begun / STATE)


class Hostile:
    def __reduce__(self):
        return os._exit, (99,)


@pytest.mark.parametrize("changes, message", [
    (dict(place=[-1, 0, 0, 0]), "this run is never after epoch -1 with 0 updates"),
    (dict(place=[0, 1, 0, 0]), "never after batch 1 of epoch 1"),  # an update takes two
    (dict(place=[0, 99, 0, 0]), "never after batch 99"), (dict(place=[0, 0, 5, 0]), "at its start with 5 updates"),
    (dict(place=[1, 0, 2, 0]), "never after epoch 1"),  # without a line of the table
    (dict(place=[1e300, 0, 0, 0]), "never after epoch 1000"), (dict(place=[np.nan, 0, 0, 0]), "ValueError"),
    (dict(place=[0, 0, 0]), "ValueError"), (dict(place=np.array(["0", "0", "0", "0.0"])), "numbers of dtype <U3"),
    (dict(place=None), "KeyError: 'place"), (dict(epochs=np.zeros((1, 7), complex)), "numbers of dtype complex128"),
    (dict(place=[0, 0, 0, np.nan]), "ValueError: place"), (dict(place=[0.5, 0, 0, 0]), "ValueError: place"),
    (dict(epochs=[[1, 0.1, 1, 1, np.nan, 6, 9]]), "ValueError: epoch 1: Epoch.epoch=1, lr=0.1"),
    (dict(epochs=[[1, 0.1, 1, 1, 2, 6, 9]]), "epoch 1: "), (dict(epochs=[[1, 0.1, 1, np.inf, 0, 6, 9]]), "epoch 1: "),
    (dict(epochs=[[2, 0.1, 1, 1, 0, 6, 9]]), "epoch 1: "), (dict(epochs=[[1, 0.1, 1, 1, 0, 0, 9]]), "epoch 1: "),
    (dict(best_sha256=None), "KeyError: 'best_sha256'"),  # of a version that did not keep it
    (dict(best_sha256=np.zeros(32, np.uint8)), "best_sha256 of 32 bytes"),  # before the first epoch is over
    (dict(settings=np.frombuffer(b"[1]", np.uint8)), "TypeError"),
    (dict(settings=np.frombuffer(b"[" * 99_999, np.uint8)), "RecursionError"),
    (dict(place=np.array([Hostile()], object)), "Object arrays cannot be loaded"),
    (dict(bomb=np.zeros(1 << 16)), r"ValueError: \d[\d,]+ bytes"),
])
def test_a_hostile_state_is_refused(begun, arrays, monkeypatch, changes, message):
    monkeypatch.setattr(run_files, "MOST", 1 << 18)
    changed = {name: np.array(value, float) if isinstance(value, list) else value for name, value in changes.items()}
    np.savez_compressed(begun / STATE, **{name: array for name, array in (arrays | changed).items()
                                          if array is not None})
    with pytest.raises(WeightsError, match=f"state.npz' is damaged .*{message}.* begin anew with --force"):
        train(begun, resume=True)


def test_settings_without_an_end_are_not_read(begun, arrays, monkeypatch):
    monkeypatch.setattr(run_files, "MOST", 1 << 16)
    np.savez_compressed(begun / STATE, **{**arrays, "settings": np.full(1 << 17, 32, np.uint8)})
    with pytest.raises(WeightsError, match="damaged .ValueError: settings of 131,200 bytes"):
        train(begun, resume=True)


@pytest.mark.parametrize("data", [b"", b"text", pickle.dumps(Hostile())], ids=["empty", "text", "pickle"])
def test_what_is_no_state_is_refused(begun, arrays, data):
    (begun / STATE).write_bytes(data)
    with pytest.raises(WeightsError, match="state.npz' is damaged .BadZipFile: File is not a zip file"):
        train(begun, resume=True)


def test_the_best_weights_have_to_be_there(begun, arrays):
    np.savez(begun / STATE, **{**arrays, "place": np.array([1.0, 0, 2, 0]), "epochs": LINE,
                                "best_sha256": np.zeros(32, np.uint8)})
    with pytest.raises(ArgumentError, match="m.h5' is missing, which had the weights of epoch 1, the best so far: put"):
        train(begun, resume=True)


@pytest.mark.parametrize("start", ["m.h5", "m-last.h5"])
def test_a_run_does_not_overwrite_what_it_starts_from(tmp_path, start):
    (tmp_path / start).write_bytes(b"weights")
    with pytest.raises(ArgumentError, match=f"{start}' is what the run starts from, .*; name another file to write"):
        train(tmp_path, weights=tmp_path / "." / start, force=True)
    assert (tmp_path / start).read_bytes() == b"weights"
    check_run_files(tmp_path / "n.h5", tmp_path / start, resume=False, force=False)
    check_run_files(tmp_path / "n.h5", small_weights(), resume=False, force=False)


def test_too_many_pixels_for_the_memory(begun, monkeypatch):
    def full(*arguments):
        raise MemoryError

    monkeypatch.setattr(learner, "TrainingEngine", full)
    with pytest.raises(ArgumentError, match="batch-size 8 for pictures of 32 x 32 pixels: there is not enough memory; "
                                            "use a smaller batch-size"):
        train(begun, force=True)
    assert (begun / STATE).exists()


def test_an_interrupt_says_that_the_run_is_kept_until_its_very_end(tmp_path, monkeypatch):
    photos(tmp_path)
    short = dict(epochs=1, warmup_epochs=0)
    with monkeypatch.context() as patched:
        patched.setattr(Learner, "compute", stopping(1, interrupt))
        patched.setattr(RunFiles, "save", at_second_call(RunFiles.save))
        with pytest.raises(KeyboardInterrupt, match="the run is kept at its start; the same command with --resume"):
            train(tmp_path, **short)  # interrupted once more while it saves the state
    with monkeypatch.context() as patched:
        patched.setattr(training, "draw", interrupt)
        with pytest.raises(KeyboardInterrupt, match="the run is kept after epoch 1; the same command with --resume"):
            train(tmp_path, resume=True, **short)
    ended = train(tmp_path, resume=True, **short)
    assert same(ended, train(tmp_path, "whole.h5", **short)) and not (tmp_path / STATE).exists()


def test_other_best_weights_at_the_end_are_refused(tmp_path, monkeypatch):
    photos(tmp_path)
    short, best = dict(epochs=1, warmup_epochs=0), tmp_path / "m.h5"
    with monkeypatch.context() as patched:
        patched.setattr(training, "draw", interrupt)
        with pytest.raises(KeyboardInterrupt, match="kept after epoch 1"):
            train(tmp_path, **short)
    kept, last = best.read_bytes(), (tmp_path / "m-last.h5").read_bytes()
    for name in ("m.h5", "m-last.h5"):
        write_weights(tmp_path / name, small_weights(), force=True)  # of another job
    said = []
    with pytest.raises(ArgumentError, match="m.h5' has other weights than this run wrote to it after epoch 1, the "
                                            "best: put those back, or begin anew with --force"):
        train(tmp_path, resume=True, say=said.append, **short)
    assert said == ["the run is kept after epoch 1; once that is fixed, the same command with --resume continues"]
    best.write_bytes(kept)
    ended = train(tmp_path, resume=True, **short)
    assert best.read_bytes() == kept and (tmp_path / "m-last.h5").read_bytes() == last
    assert same(ended, train(tmp_path, "whole.h5", **short))


@pytest.mark.parametrize("name", ["m.h5", "m-last.h5"])
def test_weights_that_are_newer_than_the_state_are_written_again(tmp_path, monkeypatch, name):
    photos(tmp_path)
    short = dict(epochs=2, warmup_epochs=0)
    with monkeypatch.context() as patched:
        patched.setattr(RunFiles, "save", at_second_call(RunFiles.save))
        with pytest.raises(KeyboardInterrupt, match="kept at its start"):
            train(tmp_path, **short)
    write_weights(tmp_path / name, small_weights(), force=True)  # of another job
    whole = train(tmp_path, "whole.h5", resume=True, **short)  # none was begun
    assert same(train(tmp_path, resume=True, **short), whole)


def at_second_call(save):
    calls = []

    def saving(files, state):
        calls.append(1)
        return save(files, state) if len(calls) == 1 else interrupt()

    return saving
