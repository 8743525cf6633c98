"""Fine-tuning from end to end on the handwritten digits: accuracy, the file that is written, timm's logits for it."""
import dataclasses
import functools

import numpy as np
import pytest
from live import logits, needs_timm, timm
from programs import program
from tolerance import LOGITS, assert_close

from npefficient import create_model, demo
from npefficient.jobs.finetune import embeddings
from npefficient.jobs.finetune.finetuning import finetune
from npefficient.jobs.finetune.linear_classifier import PENALTIES
from npefficient.network import architecture
from npefficient.network.parameters import random_weights
from npefficient.network.preprocessing import Preprocessing
from npefficient.weights.weight_file import read_weights
from weights_convert import export

EACH = 24  # photos of a digit


@pytest.fixture(autouse=True)
def place(tmp_path_factory, monkeypatch):
    """One cache for all these tests; compiled code stays where it is."""
    monkeypatch.setattr(embeddings, "cache_directory", lambda: tmp_path_factory.getbasetemp() / "digits-cache")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The handwritten digits as photos: folder/zero/00.png .. folder/nine/23.png."""
    notebook = program("train_digits")
    folder, counts = tmp_path_factory.mktemp("digits"), dict.fromkeys(notebook.CLASSES, 0)
    for image, digit in zip(*notebook.held_out()):
        name = notebook.CLASSES[digit]
        if counts[name] < EACH:
            (folder / name).mkdir(exist_ok=True)
            notebook.enlarge(image).save(folder / name / f"{counts[name]:02}.png")
            counts[name] += 1
    assert set(counts.values()) == {EACH}
    return folder


@functools.cache
def untrained():
    """Random weights of another variant, for pictures of 64 x 64."""
    weights = random_weights(architecture.build("lite1", 7))
    return dataclasses.replace(weights, preprocessing=Preprocessing((64, 64), crop_pct=1.0))


@pytest.mark.parametrize("base, least", [("trained", 0.95), ("untrained", 0.4)])
def test_finetune_the_digits(digits, tmp_path, base, least):
    """A tenth would be chance, and four tenths of 50 photos are seven standard deviations above it.

    The trained network has learnt digits, if others: nearly all must be right.
    """
    weights = demo.weights_path() if base == "trained" else untrained()
    got = finetune(digits, tmp_path / "mine.h5", weights=weights)
    assert got.accuracy >= least and got.measured == 50 and len(got.photos) == 240
    assert got.interval[0] < got.accuracy <= got.interval[1] and got.bad == [] and got.warnings == []
    assert got.labels == tuple(sorted(got.labels)) and len(got.labels) == 10
    assert [trial.penalty for trial in got.trials] == list(PENALTIES)
    assert got.penalty == min(got.trials, key=lambda trial: trial.loss).penalty
    held_out = [photo for photo, chosen in zip(got.photos, got.validation) if chosen]
    right = got.classes[got.validation]
    assert got.correct == (got.predictions == right).sum()
    assert [photo.parent.name for photo in held_out] == [got.labels[i] for i in right]
    model = create_model(checkpoint_path=tmp_path / "mine.h5", num_threads=2)
    for photo, answer in zip(held_out, got.predictions):  # the file, photo by photo, says what was reported
        assert model.classify(photo, topk=1)[0][0] == got.labels[answer]


def test_the_file_is_the_base_with_another_last_layer(digits, tmp_path):
    got = finetune(digits, tmp_path / "mine.h5", weights=demo.weights_path())
    base, made = read_weights(demo.weights_path()), read_weights(tmp_path / "mine.h5")
    assert made.labels == got.labels and made.preprocessing == base.preprocessing
    assert made.architecture == architecture.build("lite0", 10)
    for name, array in base.parameters.items():
        if not name.startswith("classifier."):
            assert made.parameters[name].tobytes() == array.tobytes() and made.parameters[name].dtype == array.dtype
    assert made.parameters["classifier.weight"].dtype == np.float32
    assert made.source.kind == "finetuned" and made.source.sha256 == ""
    assert made.source.name == f"train_digits.py, classifier fitted to 190 photos of {digits.name}"
    assert all(got.weights.parameters[name].tobytes() == array.tobytes() for name, array in made.parameters.items())


@needs_timm
@pytest.mark.parametrize("base", ["trained", "untrained"])
def test_timm_gives_the_exported_file_the_same_logits(digits, tmp_path, base):
    import safetensors.torch

    weights = demo.weights_path() if base == "trained" else untrained()
    got = finetune(digits, tmp_path / "mine.h5", weights=weights)
    export(tmp_path / "mine.h5", tmp_path / "mine.safetensors")
    model = timm.create_model(got.weights.architecture.name, num_classes=10).eval()
    model.load_state_dict(safetensors.torch.load_file(tmp_path / "mine.safetensors"), strict=True)
    ours = got.model(num_threads=2)
    x = np.stack([ours.transform(photo) for photo in got.photos[::6]])
    expected = logits(model, x)
    assert_close(ours(x), expected, LOGITS)
    assert np.abs(expected).max() > 1
