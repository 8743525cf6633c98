"""Model.classify: photos in every form, and the warning for random weights."""
import io
import tempfile

import numpy as np
import pytest
from official import OFFICIAL, create

from npefficient import demo
from npefficient.errors import ArgumentError, ImageError
from npefficient.network.parameters import RANDOM_CLASSIFIER

# --- photos ----------------------------------------------------------------------------------------------------------


def test_photos_in_every_form(photo, tmp_path):
    path = tmp_path / "photo.png"
    photo.save(path)
    data, model = path.read_bytes(), create("lite0", num_classes=4)
    expected, answer = model.transform(photo), model.classify(photo)
    spooled = tempfile.SpooledTemporaryFile()
    spooled.write(data)
    spooled.seek(0)
    with open(path, "rb") as file, spooled:
        for form in (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), file, spooled,
                     np.asarray(photo)):
            np.testing.assert_array_equal(model.transform(form), expected)
            if hasattr(form, "seek"):
                form.seek(0)
            assert model.classify(form) == answer
    with pytest.raises(ImageError, match="not an image"):
        model.classify(b"no photo at all")
    for other in (3, [path], None):
        with pytest.raises(ArgumentError, match="photo .*: it must be a path or a binary file object"):
            model.transform(other)


# --- random classifiers ----------------------------------------------------------------------------------------------


def test_a_random_classifier_is_said(fetched, photo):
    """The repr, the notebook's table and a warning of `classify` say that the weights are random."""
    for model in (create("lite0", True, num_classes=5), create("lite0", True)):
        if model.num_classes == 1000:
            assert model.source.random == "" and "RANDOM" not in repr(model)
            model.reset_classifier(5)
        assert repr(model) == ("Model(tf_efficientnet_lite0, 5 classes, 224x224x3, weights from official.pth, RANDOM "
                               "classifier, engine)")
        assert "RANDOM classifier" in model._repr_html_() and model.source.random == "classifier"
        with pytest.warns(UserWarning, match="RANDOM classifier.*can't tell classes apart; use trained"):
            model.classify(photo)
        model.reset_classifier(0)
        assert "RANDOM" not in repr(model) and model.source == OFFICIAL
        model.reset_classifier(1000)
        assert "RANDOM classifier" in repr(model)
        model.set_classifier(np.zeros((2, 1280)), np.zeros(2))
        assert "RANDOM" not in repr(model) and model.source.random == ""


def test_random_weights_are_said(photo):
    model = create("lite0", num_classes=5)
    with pytest.warns(UserWarning, match=r"RANDOM weights \(seed 0\), engine\): random weights can't tell classes"):
        model.classify(photo)
    model.set_classifier(np.zeros((2, 1280)), np.zeros(2))
    assert model.source.random == "weights" and "RANDOM weights (seed 0, custom classifier)" in repr(model)


def test_trained_weights_warn_of_nothing(recwarn):
    create(checkpoint_path=demo.weights_path()).classify(demo.digits()[0])
    assert list(recwarn) == []


def test_a_random_classifier_is_still_one_in_its_file(fetched, tmp_path):
    create("lite0", True, num_classes=5).save(tmp_path / "five.h5")
    model = create(checkpoint_path=tmp_path / "five.h5")
    assert "weights from official.pth, RANDOM classifier" in repr(model)
    assert model.source.kind == "torch-zip" + RANDOM_CLASSIFIER
