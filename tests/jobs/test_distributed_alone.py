"""The bridge to Ray without a cluster: the callable class on its own, and what is refused before Ray starts."""
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from small import small_weights

from npefficient.commands import main
from npefficient.errors import ArgumentError, NpefficientError
from npefficient.jobs import distributed
from npefficient.jobs.distributed import Classifier
from npefficient.network.quantization import quantize
from npefficient.network.quantized_reference import QuantizedNetwork

# Ray warns of its own defaults.
pytestmark = pytest.mark.filterwarnings(r"ignore:.* is deprecated:DeprecationWarning:ray\.data\.context")


def test_classifier_outside_of_ray(place):
    paths = np.array([str(place / "photos" / name) for name in ("photo.jpg", "empty.jpg", "none.png")], object)
    classifier = Classifier(place / "small.h5", topk=1)
    got = classifier({"path": paths}).to_pylist()
    assert [row["photo"] for row in got] == list(paths) and got[0]["probability_1"] > 0.2
    assert "the file is empty" in got[1]["error"] and "no such file" in got[2]["error"]
    data = np.array([(place / "photos" / "photo.jpg").read_bytes(), b""], object)
    assert classifier({"path": paths[:2], "bytes": data}).to_pylist() == got[:2]
    image = np.asarray(Image.open(paths[0]))
    assert classifier({"path": paths[:1], "image": image[None]}).to_pylist() == got[:1]


def test_classifier_in_int8(place):
    path = str(place / "photos" / "photo.jpg")
    classifier = Classifier(place / "small.h5", topk=1, embeddings=True, precision="int8")
    (row,) = classifier({"path": np.array([path], object)}).to_pylist()
    network = QuantizedNetwork(quantize(small_weights()))
    made = network.outputs(classifier.model.transform(path)[None], ["global_pool", "classifier"])
    assert np.float32(row["embedding"]).tobytes() == made["global_pool"][0].tobytes()
    assert row["class_1"] == made["classifier"][0].argmax()
    assert b'"precision": "int8"' in classifier.columns.metadata[b"npefficient"]


@pytest.mark.parametrize("batch, message", [
    ({"image": np.zeros((1, 4, 4, 3), np.uint8)}, "batch with image: it must have \"path\""),
    ({"path": ["a.png"], "image": np.zeros((1, 4, 4), np.uint8)}, "image of 'a.png': uint8 \\(4, 4\\)"),
    ({"path": ["a.png"], "image": np.zeros((1, 4, 4, 4), np.uint8)}, "image of 'a.png': uint8 \\(4, 4, 4\\)"),
    ({"path": ["a.png"], "image": np.zeros((1, 4, 4, 3), np.float32)}, "image of 'a.png': float32 \\(4, 4, 3\\)"),
], ids=["no_path", "grey", "alpha", "float"])
def test_classifier_refuses(place, batch, message):
    with pytest.raises(ArgumentError, match=message):
        Classifier(place / "small.h5")(batch)


def test_classifier_can_not_turn_what_is_decoded(place):
    batch = {"path": ["a.png"], "image": np.zeros((1, 4, 4, 3), np.uint8)}
    with pytest.raises(ArgumentError, match="images with {'exif': True, .*: they are decoded already"):
        Classifier(place / "small.h5", exif=True)(batch)


@pytest.mark.parametrize("photos, how, message", [
    ([], {}, "no photos"),
    (["a.png", "s3://bucket/b.png"], {}, "photos 'a.png' .. 's3://bucket/b.png': give paths or addresses"),
    (["a.png"], {"workers": 0}, "workers 0: it must be a whole number of at least 1"),
    (["a.png"], {"processors": True}, "processors True: it must be a whole number"),
    (["a.png"], {"address": "10.0.0.1:6379"}, "photo 'a.png': workers on other machines"),
    (["/a.png"], {"address": "nonsense"}, "address 'nonsense'"),
    (["a.png"], {"topk": 0}, "topk 0: it must be a whole number of at least 1"),
], ids=["none", "mixed", "workers", "processors", "relative", "address", "topk"])
def test_classify_refuses(tmp_path, photos, how, message):
    with pytest.raises(ArgumentError, match=message):
        distributed.classify(photos, small_weights(), str(tmp_path / "rows"), **how)
    assert not (tmp_path / "rows").exists()


def test_output_may_be_an_empty_directory(tmp_path):
    """A job that failed before its first row leaves an empty directory."""
    for output in (str(tmp_path), tmp_path.as_uri(), str(tmp_path / "none")):
        assert distributed._check_free(output) is None
    (tmp_path / "rows").mkdir()
    for output in (str(tmp_path), tmp_path.as_uri()):
        with pytest.raises(ArgumentError, match=f"output '{output}' exists already"):
            distributed._check_free(output)


@pytest.mark.parametrize("failure, error", [
    (Exception("The current node timed out"), NpefficientError), (RuntimeError("no sockets"), NpefficientError),
    (PermissionError(13, "Permission denied"), NpefficientError), (ConnectionError("nobody there"), ArgumentError),
], ids=["timeout", "runtime", "system", "address"])
def test_ray_that_does_not_start(failure, error):
    def init(**how):
        raise failure

    ray = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: None)
    with pytest.raises(error, match=f"address 'local'.*: .*{failure.args[-1]}"):
        distributed._connect(ray, "local", 1)


def test_subcommand_with_no_photo_and_with_a_directory_that_is_there(place, capsys, tmp_path):
    """Both errors come before the weights are read."""
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "one").touch()
    more = "--weights", "none.h5", "--engine", "ray", "--output"
    assert main(["classify", "phots", *more, str(tmp_path / "new")]) == 1
    assert "photo 'phots' does not exist: check the path" in capsys.readouterr().err
    assert main(["classify", str(place / "photos"), *more, str(tmp_path / "rows")]) == 1
    assert "rows' exists already" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_ray_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(ArgumentError, match="Ray Data is missing .*pip install .ray\\[data\\]"):
        distributed.classify(["a.png"], small_weights(), "rows")


@pytest.mark.parametrize("more, message", [
    (("--engine", "ray"), "--engine ray without --output"),
    (("--engine", "ray", "--output", "rows", "--resume"), "--resume with --engine ray"),
    (("--engine", "ray", "--output", "rows", "--batch-size", "4"), "--batch-size with --engine ray"),
    (("--address", "auto"), "--address 'auto' without --engine ray"),
], ids=["no_output", "resume", "batch", "address"])
def test_subcommand_refuses(place, capsys, more, message):
    with pytest.raises(SystemExit, match="2"):
        main(["classify", "a.png", "--weights", str(place / "small.h5"), *more])
    assert message in capsys.readouterr().err
