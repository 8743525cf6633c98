"""What a notebook shows for a result as a cell's last line: one line, however large it is and whatever it names."""
import dataclasses

import numpy as np
import pytest
from class_photos import save_classes
from explanations import HOSTILE, digit, digits, renamed
from page_reader import Reader
from small import save_photos, small_model, small_weights

import npefficient
from npefficient.jobs.comparison import compare
from npefficient.model.model import Model
from npefficient.network import architecture
from npefficient.network.parameters import Source, random_weights

LONGEST = 500  # characters, as many as some lines have


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    photos = save_classes(tmp_path_factory.mktemp("classes") / "photos", red=12, green=14, blue=10)
    return npefficient.finetune(photos, weights=small_weights(), cache=False)


def in_a_line(thing) -> str:
    text = repr(thing)
    assert len(text) < LONGEST and len(text.splitlines()) == 1 and text.isprintable()
    return text


def test_finetune_result(finetuned):
    assert in_a_line(finetuned) == (
        f"FinetuneResult(3 classes, 36 photos, accuracy {finetuned.correct} of 7, {finetuned.accuracy:.2%} "
        f"({finetuned.interval[0]:.2%} to {finetuned.interval[1]:.2%}))")
    read = Reader(finetuned._repr_html_())
    assert repr(finetuned) in read.text and len(read.all("tr")) == 4
    assert all(f"{row['label']} {row['train']} {row['val']} {row['correct']}" in read.text for row in
               finetuned.per_class())


def test_finetune_result_with_many_classes_and_hostile_labels(finetuned):
    twenty = range(20)
    many = dataclasses.replace(
        finetuned, labels=tuple(f"<script>{i}" + "x" * 10_000 for i in range(60)),
        classes=np.concatenate([finetuned.classes + 3 * i for i in twenty]),
        predictions=np.tile(finetuned.predictions, 20),
        photos=finetuned.photos * 20, confusion=np.kron(np.eye(20, dtype=int), finetuned.confusion))
    html = many._repr_html_()
    assert not Reader(html).all("script") and len(html) < 100_000 and "and 10 more classes" in html


def test_weights_and_architecture():
    assert in_a_line(random_weights(architecture.build("lite0"))) == (
        "Weights(tf_efficientnet_lite0, 1,000 classes, 3 input channels, from seed 0)")
    assert in_a_line(architecture.build("lite1", 1, 1, "max")) == (
        "Architecture(tf_efficientnet_lite1, 1 class, 1 input channel, global_pool='max')")


def test_outcomes_of_a_stream(tmp_path):
    save_photos(tmp_path, 1)
    good, bad = npefficient.stream(small_model(), [str(tmp_path / "00000.png"), "none\x1b.png"],
                                   outputs=("classifier", "global_pool"))
    assert in_a_line(good) == f"Outcome('{tmp_path}/00000.png', classifier (5,), global_pool (1280,))"
    assert in_a_line(bad).startswith("Outcome('none\\x1b.png', error=") and "no such file" in repr(bad)


def test_validation(tmp_path):
    save_classes(tmp_path / "photos", **{"0": 2, "1": 3})
    got = npefficient.validate(small_model(), tmp_path / "photos")
    assert in_a_line(got).startswith(f"Validation(top-1 {got.top1} of 5, ") and "top-5 5 of 5" in repr(got)


def test_comparison():
    got = compare(small_weights(), small_weights(seed=1))
    assert in_a_line(got) == f"Comparison(different: {len(got.differing)} of 247 tensors differ, 0 settings)"
    assert in_a_line(compare(small_weights(), small_weights())).startswith("Comparison(the same: 0 of ")


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_names_stay_in_a_line(name):
    made = renamed(digit("three"), name, name)
    in_a_line(made)
    in_a_line(made.classes[0])
    in_a_line(made.blocks[3])
    weights = dataclasses.replace(small_weights(), source=Source(name, "", "torch-zip"))
    in_a_line(weights)
    in_a_line(Model(weights, num_threads=1))


def test_models():
    assert in_a_line(digits()) == ("Model(tf_efficientnet_lite0, 10 classes, 64x64x3, weights from train_digits.py, "
                                   "engine)")
    in_a_line(npefficient.create_model("lite0", features_only=True))
