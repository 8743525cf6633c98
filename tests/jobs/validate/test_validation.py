"""Validation compared with timm's own loop over the same files, and counts checked by hand."""
import dataclasses
import functools

import numpy as np
import pytest
from class_photos import save_classes
from live import calibrated, needs_timm, timm, torch
from small import small_model, small_weights

from npefficient.errors import ArgumentError
from npefficient.images.image import open_image
from npefficient.images.tensorflow import tf_transform
from npefficient.jobs.finetune.finetuning import finetune
from npefficient.jobs.validate.labelled_photos import ClassNames
from npefficient.jobs.validate.validation import Validation, validate
from npefficient.model.model import Model, create_model
from npefficient.network import architecture, variants
from npefficient.network.parameters import Source, random_weights
from npefficient.network.preprocessing import Preprocessing

CLASSES = 6


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Six classes, named "0" to "5" as timm sorts them, of three photos each."""
    return save_classes(tmp_path_factory.mktemp("photos"), **{str(i): 3 for i in range(CLASSES)})


@functools.cache
def timm_model():
    return calibrated("lite0", CLASSES)


@functools.cache
def our_model(size=64):
    """The same weights as timm's model."""
    parameters = {name: tensor.numpy() for name, tensor in timm_model().state_dict().items()}
    weights = random_weights(architecture.build("lite0", CLASSES))
    return Model(dataclasses.replace(weights, parameters=parameters, preprocessing=Preprocessing((size, size))),
                 num_threads=1)


@needs_timm
@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")  # timm's
def test_validate_is_timms_own_loop(photos):
    """timm's validate.py in short: its ImageFolder, its transform, its top-k."""
    from timm.data import create_dataset, create_transform

    dataset = create_dataset("", str(photos))
    dataset.transform = create_transform((3, 64, 64), interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3,
                                         crop_pct=0.875)
    rows, targets, paths = [], [], [path for path, _ in dataset.reader.samples]
    for x, target in torch.utils.data.DataLoader(dataset, batch_size=4):
        with torch.no_grad():
            rows.append(timm_model()(x))
        targets.append(target)
    logits, target = torch.cat(rows), torch.cat(targets)
    top1, top5 = timm.utils.accuracy(logits, target, topk=(1, 5))
    got = validate(our_model(), photos, batch_size=4, workers=2)
    assert [str(photo) for photo in got.photos] == paths and got.classes.tolist() == target.tolist()
    assert got.predictions.tolist() == logits.argmax(1).tolist() and len(set(got.predictions.tolist())) > 1
    assert got.among5.tolist() == [t in row for t, row in zip(target, logits.topk(5).indices)]
    assert (got.top1, got.top5) == (round(float(top1) * 18 / 100), round(float(top5) * 18 / 100)) and got.bad == []


@functools.cache
def small_model_of(classes):
    return Model(small_weights(classes), num_threads=1)


def answers(model, photos, transform=None):
    """Logits of each photo, one by one."""
    return np.stack([model((transform or model.transform)(open_image(photo))[None])[0] for photo in photos])


def test_validate_counts(photos):
    model = Model(dataclasses.replace(small_weights(CLASSES), labels=tuple("012345")), num_threads=1)
    got = validate(model, photos)
    logits = answers(model, got.photos)
    assert got.predictions.tolist() == logits.argmax(1).tolist()
    assert got.top1 == sum(logits.argmax(1) == got.classes)
    assert got.top5 == sum(c in np.argsort(-row)[:5] for c, row in zip(got.classes, logits))
    assert got.published is None and got.warnings == []


def test_validate_with_tensorflows_preprocessing(photos):
    model = small_model_of(CLASSES)
    got = validate(model, photos, preprocess="tf")
    assert got.predictions.tolist() == answers(
        model, got.photos, lambda image: tf_transform(image, model.preprocessing)).argmax(1).tolist()
    photo = open_image(got.photos[0])
    assert not np.array_equal(model.transform(photo), tf_transform(photo, model.preprocessing))


def test_bad_photos_are_left_out(tmp_path):
    save_classes(tmp_path, **{"0": 2, "3": 2})
    (tmp_path / "3" / "00.png").write_text("no picture")
    got = validate(small_model(), tmp_path)
    assert [photo.relative_to(tmp_path).as_posix() for photo in got.photos] == ["0/00.png", "0/01.png", "3/01.png"]
    assert got.classes.tolist() == [0, 0, 3] and got.bad[0][0] == tmp_path / "3" / "00.png"
    assert "not an image" in got.bad[0][1]


def test_photos_that_are_all_bad(tmp_path):
    save_classes(tmp_path, **{"0": 1})
    (tmp_path / "0" / "00.png").write_text("no picture")
    got = validate(small_model(), tmp_path)
    assert got.photos == [] and got.top1 == got.top5 == 0 and len(got.bad) == 1 and got.per_class() == []
    assert got.figures()["top1"] == {"correct": 0, "accuracy": None, "interval": [0.0, 1.0]}


def test_a_file_of_labels(tmp_path):
    save_classes(tmp_path, photos=3)
    (tmp_path / "labels.txt").write_text("5\n1\n2\n")
    said = []
    how = {"labels_file": tmp_path / "labels.txt", "say": said.append}
    got = validate(small_model(), tmp_path / "photos", labels_base=1, **how)
    assert got.classes.tolist() == [4, 0, 1] and said == []
    (tmp_path / "labels.txt").write_text("02.png,3\n")
    got = validate(small_model(), tmp_path / "photos", **how)
    assert got.classes.tolist() == [3] and said == got.warnings and "left out: 2" in said[0]


def test_photos_that_the_classifier_was_fitted_to_are_said(tmp_path):
    """Copies count too; photos held out and new ones cause no warning."""
    save_classes(tmp_path / "photos", red=10, blue=10)
    fitted = finetune(tmp_path / "photos", tmp_path / "mine.h5", weights=small_weights(), cache=False)
    refit = finetune(tmp_path / "photos", weights=small_weights(), cache=False, refit=True)
    for label in ("red", "blue"):
        for part in ("new", "copies"):
            (tmp_path / part / label).mkdir(parents=True)
    for photo, label, held_out in zip(fitted.photos, np.take(fitted.labels, fitted.classes), fitted.validation):
        part = "new" if held_out else "copies"
        (tmp_path / part / label / f"copy of {photo.name}").write_bytes(photo.read_bytes())
    model, said = create_model(checkpoint_path=tmp_path / "mine.h5", num_threads=1), []
    for folder, count in (("photos", 16), ("copies", 16), ("new", 0)):
        got = validate(model, tmp_path / folder, say=said.append)
        assert got.fitted_to == got.figures()["fitted_to"] == count
        assert said == got.warnings and len(said) == bool(count)
        said.clear()
    assert validate(refit.model(1), tmp_path / "new").warnings == [
        "warning: these weights were fitted to 4 of these 4 photos: the figures are too high for new photos; validate "
        "on photos that they have not seen"]
    model.set_classifier(model.classifier.weight, model.classifier.bias, model.labels)
    assert validate(model, tmp_path / "photos").fitted_to == 0  # nobody knows what it was fitted to


def result(classes, predictions, among5, labels="abcdef", base=0):
    return Validation(ClassNames(tuple(labels), base), [f"{i}.png" for i in range(len(classes))], np.array(classes),
                      np.array(predictions), None if among5 is None else np.array(among5), [], None, [], [])


def test_counts_per_class_by_hand():
    got = result([0, 0, 0, 5, 2], [0, 1, 0, 5, 0], [True, True, True, True, False])
    assert (got.top1, got.top5) == (3, 4)
    assert got.per_class() == [
        {"class": 0, "synset": None, "label": "a", "photos": 3, "top1": 2, "top5": 3},
        {"class": 2, "synset": None, "label": "c", "photos": 1, "top1": 0, "top5": 0},
        {"class": 5, "synset": None, "label": "f", "photos": 1, "top1": 1, "top5": 1}]
    figures = got.figures()
    assert figures["top1"]["accuracy"] == 0.6 and figures["top5"]["correct"] == 4
    assert figures["top1"]["interval"] == pytest.approx([0.2307, 0.8824], abs=1e-4)


def test_fewer_than_five_classes_have_no_top5():
    got = result([0, 1], [0, 0], None, "abcd")
    assert got.top5 is None and got.figures()["top5"] is None and got.per_class()[0]["top5"] is None
    assert got.top1 == 1


def test_a_model_of_four_classes(tmp_path):
    save_classes(tmp_path, **{"0": 1, "3": 1})
    assert validate(small_model_of(4), tmp_path).top5 is None
    assert validate(small_model_of(5), tmp_path).top5 == 2  # one of five is among the five


@functools.cache
def like_official(**changes):
    """Random weights of 1000 classes that say they are the official ones."""
    weights = random_weights(architecture.build("lite0"))
    variant = variants.VARIANTS["tf_efficientnet_lite0"]
    source = Source(variant.file, variant.sha256_prefix + 56 * "0", "torch-legacy")
    return dataclasses.replace(weights, **({"source": source} | changes))


@pytest.mark.parametrize("make", [lambda: "lite0", lambda: create_model("lite0", features_only=True)])
def test_what_is_no_model_with_classes_is_refused(tmp_path, make):
    model = make()
    with pytest.raises(ArgumentError, match=f"model of type {type(model).__name__}: .* returns without features_only"):
        validate(model, tmp_path)


@pytest.mark.parametrize("changes, expected", [
    ({}, (0.7483, 0.9217)), ({"source": Source("x.pth", 64 * "0", "torch-zip")}, None),
    ({"source": Source("x.pth", "", "finetuned")}, None), ({"preprocessing": Preprocessing((192, 192))}, None),
], ids=["official", "others", "finetuned", "another_size"])
def test_the_published_figures_belong_to_the_official_weights(tmp_path, changes, expected):
    save_classes(tmp_path, n01440764=1, n15075141=1)
    got = validate(Model(like_official(**changes), num_threads=1), tmp_path)
    assert got.published == expected and got.classes.tolist() == [0, 999]
    assert [row["synset"] for row in got.per_class()] == ["n01440764", "n15075141"]
    assert got.figures()["published"] == (expected and {"top1": 0.7483, "top5": 0.9217})


@pytest.mark.parametrize("how, text", [
    ({"labels_base": 2}, "labels_base 2: it must be 0 or 1"), ({"preprocess": "torch"}, "preprocess 'torch': "),
    ({"workers": 0}, "workers 0"), ({"batch_size": 0}, "batch_size 0"),
], ids=["base", "preprocess", "workers", "batch"])
def test_validate_refuses(photos, how, text):
    with pytest.raises(ArgumentError, match=text):
        validate(small_model_of(CLASSES), photos, **how)


@pytest.mark.parametrize("wishes, how, text", [
    ({"num_classes": 0}, {}, "tf_efficientnet_lite0, .*needs a classifier"),
    ({"in_chans": 4}, {}, "4 input channels can't take photos"),
    ({"in_chans": 1}, {"preprocess": "tf"}, "tf_efficientnet_lite0, .*inputs of 3 channels; use timm's"),
], ids=["no_classes", "four_channels", "grey_as_tensorflow"])
def test_validate_refuses_weights_that_can_not_classify_photos(photos, wishes, how, text):
    model = Model(random_weights(architecture.build("lite0", **({"num_classes": 5} | wishes))), num_threads=1)
    with pytest.raises(ArgumentError, match=text):
        validate(model, photos, **how)


def test_validate_refuses_an_input_that_tensorflow_does_not_make(photos):
    weights = dataclasses.replace(small_weights(CLASSES), preprocessing=Preprocessing((32, 48)))
    with pytest.raises(ArgumentError, match="input of 32 x 48: .*square"):
        validate(Model(weights, num_threads=1), photos, preprocess="tf")
