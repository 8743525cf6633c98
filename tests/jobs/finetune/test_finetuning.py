"""Fine-tuning from Python: what is fitted, written and remarked on, and which folders are refused."""
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from class_photos import save_classes
from engines import assert_same_bits
from PIL import Image
from small import small_weights

from npefficient.errors import ArgumentError, WeightsError
from npefficient.images.image import open_image
from npefficient.jobs.finetune import embeddings, finetuning
from npefficient.jobs.finetune.finetuning import finetune
from npefficient.jobs.finetune.linear_classifier import fit
from npefficient.model.loading import load_weights
from npefficient.model.model import Model
from npefficient.network import architecture
from npefficient.network.parameters import random_weights
from npefficient.network.preprocessing import Preprocessing
from npefficient.network.quantization import quantize
from npefficient.network.quantized_reference import QuantizedNetwork
from npefficient.weights.weight_file import read_weights


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A cache for these tests; compiled code stays where it is."""
    monkeypatch.setattr(embeddings, "cache_directory", lambda: tmp_path / "cache")


SMALL = {"red": 12, "green": 14, "blue": 10}  # photos of each colour, which random weights tell apart


def test_a_second_run_computes_nothing_and_gives_the_same_file(tmp_path):
    save_classes(tmp_path / "photos", **SMALL)
    first = finetune(tmp_path / "photos", tmp_path / "1.h5", weights=small_weights())
    second = finetune(tmp_path / "photos", tmp_path / "2.h5", weights=small_weights(), workers=1, batch_size=3)
    assert (first.computed, second.computed) == (36, 0)
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()
    assert finetune(tmp_path / "photos", weights=small_weights(seed=1)).computed == 36
    assert finetune(tmp_path / "photos", weights=small_weights(), cache=False).computed == 36


@pytest.fixture
def lying(tmp_path):
    """Photos stored on their side, with the rotation in their EXIF data."""
    save_classes(tmp_path / "photos", **SMALL)
    for path in (tmp_path / "photos").glob("*/*.png"):
        exif = Image.Exif()
        exif[0x0112] = 6
        with Image.open(path) as photo:
            photo.load()
        photo.save(path, exif=exif)
    return tmp_path / "photos"


def test_exif_reaches_the_embeddings_and_their_cache(lying, tmp_path):
    """Embeddings of photos as they are stored are not used for the same photos turned upright."""
    plain, turned, again = (finetune(lying, tmp_path / f"{i}.h5", weights=small_weights(), exif=exif)
                            for i, exif in enumerate((False, True, True)))
    assert (plain.computed, turned.computed, again.computed) == (36, 36, 0)
    assert turned.weights.source.name.endswith(" photos of photos, turned by EXIF")
    assert plain.weights.source.name.endswith(" photos of photos")
    upright = Model(turned.weights, num_threads=1)
    x = np.stack([upright.transform(open_image(photo, exif=True))
                  for photo, chosen in zip(turned.photos, turned.validation) if chosen])
    assert np.array_equal(upright(x).argmax(1), turned.predictions)
    got, other = (made.weights.parameters["classifier.weight"] for made in (turned, plain))
    assert not np.array_equal(got, other)
    embeddings = upright.activations(np.stack([upright.transform(open_image(photo, exif=True))
                                               for photo in turned.photos]), ["global_pool"])["global_pool"]
    expected = fit(embeddings[~turned.validation], turned.classes[~turned.validation], turned.penalty)
    np.testing.assert_array_equal(got, expected.weight.astype(np.float32))


def test_the_seed_and_the_share_choose_the_validation_part(tmp_path):
    save_classes(tmp_path / "photos", **SMALL)
    first, same, seed, half = (finetune(tmp_path / "photos", weights=small_weights(), **how)
                               for how in ({}, {}, {"seed": 1}, {"val_split": 0.5}))
    assert (first.measured, same.measured, seed.measured, half.measured) == (7, 7, 7, 18)
    assert np.array_equal(first.validation, same.validation) and not np.array_equal(first.validation, seed.validation)
    assert [row["val"] for row in half.per_class()] == [5, 7, 6]
    assert [row["train"] for row in first.per_class()] == [8, 11, 10]


def test_refit_writes_what_has_seen_all_photos_and_reports_what_has_not(tmp_path):
    save_classes(tmp_path / "photos", **SMALL)
    plain, refit = (finetune(tmp_path / "photos", tmp_path / f"{wish}.h5", weights=small_weights(), refit=wish)
                    for wish in (False, True))
    assert np.array_equal(plain.predictions, refit.predictions) and refit.refit
    x = refit.model().activations(np.stack([refit.model().transform(p) for p in refit.photos]), ["global_pool"])
    expected = fit(x["global_pool"], refit.classes, refit.penalty)
    got = read_weights(tmp_path / "True.h5").parameters["classifier.weight"]
    np.testing.assert_array_equal(got, expected.weight.astype(np.float32))
    assert not np.array_equal(got, plain.weights.parameters["classifier.weight"])
    assert "fitted to 36 photos" in refit.weights.source.name and "fitted to 29 photos" in plain.weights.source.name


def test_a_finetuned_file_is_a_base_like_any_other(tmp_path):
    save_classes(tmp_path / "photos", **SMALL)
    finetune(tmp_path / "photos", tmp_path / "1.h5", weights=small_weights())
    again = finetune(tmp_path / "photos", tmp_path / "2.h5", weights=tmp_path / "1.h5")
    assert again.computed == 0  # the network below the last layer is the same
    assert load_weights(tmp_path / "2.h5").parameters["classifier.weight"].shape == (3, 1280)
    sources = [finetune(tmp_path / "photos", weights=base, seed=7).weights.source
               for base in (small_weights(), tmp_path / "1.h5")]
    assert len({(one.photos, one.classifier_photos) for one in sources}) == 1  # the first classifier is replaced
    assert sources[0].photos == b"" and len(sources[0].classifier_photos) == 29 * 8


def test_two_classes_have_opposite_rows(tmp_path):
    save_classes(tmp_path, a=10, b=10)
    got = finetune(tmp_path, weights=small_weights())
    assert got.confusion.shape == (2, 2) and got.accuracy == 1.0
    rows = got.weights.parameters["classifier.weight"]
    assert np.array_equal(rows[0], -rows[1])


def test_unreadable_photos_are_left_out_and_listed(tmp_path):
    save_classes(tmp_path, **SMALL)
    (tmp_path / "red" / "03.png").write_text("no picture")
    (tmp_path / "x.png").write_text("beside the classes")
    said = []
    got = finetune(tmp_path, weights=small_weights(), say=said.append)
    assert [photo.name for photo, _ in got.bad] == ["03.png"] and "not an image" in got.bad[0][1]
    assert said == got.warnings == ["photos outside the class folders, which belong to no class and are left out: 1"]
    figures = got.figures()
    assert figures["unreadable"][0]["photo"].endswith("03.png") and figures["photos"] == len(got.photos) == 35


def test_few_photos_are_warned_of(tmp_path):
    save_classes(tmp_path, a=2, b=9, c=10, d=3, e=4)
    got = finetune(tmp_path, weights=small_weights())
    assert got.warnings == ["fewer than 10 photos of 'a', 'b', 'd' and 1 more: there is little to learn from, and "
                            "their accuracy is hardly known"]


def test_a_regression_that_does_not_converge_is_warned_of(tmp_path, monkeypatch):
    save_classes(tmp_path, **SMALL)
    monkeypatch.setattr("npefficient.jobs.finetune.linear_classifier.ITERATIONS", 2)
    assert "did not converge within 2 iterations" in finetune(tmp_path, weights=small_weights()).warnings[0]


def test_without_a_home_the_embeddings_are_not_kept(tmp_path, monkeypatch):
    def homeless():
        raise ArgumentError("no place to keep files")

    save_classes(tmp_path, **SMALL)
    monkeypatch.setattr(embeddings, "cache_directory", homeless)
    assert finetune(tmp_path, weights=small_weights()).warnings == ["embeddings are not kept: no place to keep files"]


# What can't be used is said before the network runs


@pytest.mark.parametrize("counts, text", [
    ({}, "it has no sub-folders"), ({"a": 5}, "one class only, 'a'"),
    ({"a": 5, "b": 1}, "class 'b' has one photo only"), ({"a": 5, "b": 0}, "class 'b' has no photo: it needs one"),
    ({"a\x1b[31m": 2, "b": 2}, r"a\\x1b\[31m': its name becomes a label"),
    ({"a\n": 2, "b": 2}, r"a\\n': its name"), ({" ": 2, "b": 2}, "/ ': its name"),
], ids=["none", "one", "one_photo", "empty", "escape", "newline", "blank"])
def test_folders_of_no_use(tmp_path, monkeypatch, counts, text):
    monkeypatch.setattr(finetuning, "embed", None)
    with pytest.raises(ArgumentError, match=text):
        finetune(save_classes(tmp_path, **counts), weights=small_weights())


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_a_folder_whose_name_is_no_utf8(tmp_path):
    save_classes(tmp_path, a=2, b=2)
    (tmp_path / "b").rename(tmp_path / "\udce9")
    with pytest.raises(ArgumentError, match=r"\\udce9': its name becomes a label, .* UTF-8"):
        finetune(tmp_path, weights=small_weights())


def test_a_class_that_can_not_be_read(tmp_path):
    save_classes(tmp_path, a=3, b=3)
    for name in ("00.png", "02.png"):
        (tmp_path / "b" / name).write_text("no picture")
    with pytest.raises(ArgumentError, match="class 'b': 1 of its 3 photos .* first error: .*b/00.png': not an image"):
        finetune(tmp_path, weights=small_weights())


@pytest.mark.parametrize("how, text", [
    ({"val_split": 0}, "val_split 0: "), ({"val_split": 1.0}, "val_split 1.0: "),
    ({"val_split": "0.2"}, "val_split '0.2'"), ({"val_split": float("nan")}, "val_split nan"),
    ({"seed": -1}, "seed -1: "), ({"seed": 0.5}, "seed 0.5"),
    ({"seed": True}, "seed True"), ({"workers": 0}, "workers 0"), ({"batch_size": 0}, "batch_size 0"),
    ({"model": "lite1"}, "model 'lite1' from 'seed 0', which is tf_efficientnet_lite0"),
], ids=lambda value: str(value))
def test_arguments_that_break_a_rule(tmp_path, how, text):
    save_classes(tmp_path, a=2, b=2)
    with pytest.raises(ArgumentError, match=text):
        finetune(tmp_path, weights=small_weights(), **how)


def test_a_model_that_there_is_not(tmp_path):
    with pytest.raises(ArgumentError, match="unknown model 'lite9'"):
        finetune(save_classes(tmp_path, a=2, b=2), model="lite9")


@pytest.mark.parametrize("wishes, text", [
    ({"in_chans": 4}, "4 input channels can't take photos"),
    ({"global_pool": "", "num_classes": 0}, "pool ''"),
], ids=["four_channels", "no_pool"])
def test_weights_of_no_use(tmp_path, wishes, text):
    weights = random_weights(architecture.build("lite0", **({"num_classes": 5} | wishes)))
    with pytest.raises(ArgumentError, match=f"with .*{text}"):
        finetune(save_classes(tmp_path, a=2, b=2), weights=weights)


@pytest.mark.parametrize("pool", ["max", "avgmax", "catavgmax"])
def test_finetune_keeps_the_pool(tmp_path, pool):
    save_classes(tmp_path / "photos", **SMALL)
    weights = random_weights(architecture.build("lite0", 5, global_pool=pool))
    got = finetune(tmp_path / "photos", tmp_path / "m.h5", weights=dataclasses.replace(
        weights, preprocessing=Preprocessing((32, 32))))
    model = Model(read_weights(tmp_path / "m.h5"))
    x = np.stack([model.transform(photo) for photo, chosen in zip(got.photos, got.validation) if chosen])
    assert model.architecture.global_pool == pool and np.array_equal(model(x).argmax(1), got.predictions)


@pytest.mark.parametrize("pool", ["avg", "avgmax"])
def test_finetune_in_int8(tmp_path, pool):
    """Fitted to the features of the int8 network, and measured with its logits; the file holds floats."""
    save_classes(tmp_path / "photos", **SMALL)
    weights = random_weights(architecture.build("lite0", 5, global_pool=pool))
    weights = dataclasses.replace(weights, preprocessing=Preprocessing((32, 32)))
    got = finetune(tmp_path / "photos", tmp_path / "m.h5", weights=weights, precision="int8")
    assert got.precision == got.figures()["precision"] == "int8" and got.model().precision == "int8"
    written = read_weights(tmp_path / "m.h5")
    assert written.source.name.endswith(", classifier fitted in int8 to 29 photos of photos")
    plain = QuantizedNetwork(quantize(written))
    x = np.stack([got.model().transform(photo) for photo in got.photos])
    outputs = plain.outputs(x, ["global_pool", "classifier"])
    assert_same_bits(got.model()(x), outputs["classifier"])
    assert np.array_equal(outputs["classifier"][got.validation].argmax(1), got.predictions)
    fitted = fit(outputs["global_pool"][~got.validation], got.classes[~got.validation], got.penalty)
    np.testing.assert_array_equal(written.parameters["classifier.weight"], fitted.weight.astype(np.float32))
    body = {name for name in weights.parameters if not name.startswith("classifier.")}
    assert all(np.array_equal(written.parameters[name], weights.parameters[name]) for name in body)


def test_precisions_do_not_share_embeddings(tmp_path):
    save_classes(tmp_path / "photos", **SMALL)
    runs = [finetune(tmp_path / "photos", weights=small_weights(), precision=precision)
            for precision in ("float32", "int8", "int8", "float32")]
    assert [run.computed for run in runs] == [36, 36, 0, 0]
    floats, int8 = (run.weights.parameters["classifier.weight"] for run in runs[:2])
    assert not np.array_equal(floats, int8)
    with pytest.raises(ArgumentError, match="precision 'int4': "):
        finetune(tmp_path / "photos", weights=small_weights(), precision="int4")


def test_a_file_that_exists_stays(tmp_path, monkeypatch):
    save_classes(tmp_path / "photos", **SMALL)
    (tmp_path / "mine.h5").write_bytes(b"old")
    with monkeypatch.context() as context, pytest.raises(ArgumentError, match=r"mine\.h5' exists already"):
        context.setattr(finetuning, "embed", None)
        finetune(tmp_path / "photos", tmp_path / "mine.h5", weights=small_weights())
    assert (tmp_path / "mine.h5").read_bytes() == b"old"
    finetune(tmp_path / "photos", tmp_path / "mine.h5", weights=small_weights(), force=True)
    assert read_weights(tmp_path / "mine.h5").labels == ("blue", "green", "red")


# The checks before success is claimed can fail


def test_a_fold_that_went_wrong_is_noticed(tmp_path, monkeypatch):
    save_classes(tmp_path, **SMALL)
    honest = finetuning._with_classifier

    def wrong(*arguments):
        made = honest(*arguments)
        bias = made.parameters["classifier.bias"] + np.float32(1)
        return dataclasses.replace(made, parameters=made.parameters | {"classifier.bias": bias})

    monkeypatch.setattr(finetuning, "_with_classifier", wrong)
    with pytest.raises(WeightsError, match="is too coarse in float32: its logits change by 1"):
        finetune(tmp_path, weights=small_weights())


def test_a_file_that_answers_otherwise_is_noticed(tmp_path, monkeypatch):
    save_classes(tmp_path / "photos", **SMALL)
    monkeypatch.setattr("npefficient.weights.weight_file.write_weights",
                        lambda path, made, force: Path(path).write_bytes(b""))
    monkeypatch.setattr("npefficient.weights.weight_file.read_weights", lambda path: small_weights(3))
    with pytest.raises(WeightsError, match=r"mine\.h5': read back, it gives logits that differ"):
        finetune(tmp_path / "photos", tmp_path / "mine.h5", weights=small_weights())
