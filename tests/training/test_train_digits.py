"""notebooks/train_digits.py: on a few digits, it writes what the package has, or says why not."""
import numpy as np
import pytest
from PIL import Image
from programs import program

from npefficient import demo
from npefficient.weights.weight_file import read_weights

EACH = 3  # digits of a class to train on
script = program("train_digits")


@pytest.fixture
def few(monkeypatch):
    """Thirty digits to train on, once; the held-out ones are the first of each class."""
    def first(images, labels, each):
        chosen = np.concatenate([np.flatnonzero(labels == digit)[:each] for digit in range(10)])
        return images[chosen], labels[chosen]

    training, held_out = script.split()
    parts = first(*training, EACH), first(*held_out, 1)
    monkeypatch.setattr(script, "split", lambda: parts)
    monkeypatch.setattr(script, "OPTIONS", script.OPTIONS | {"epochs": 1, "batch_size": 10})


def test_it_writes_the_file_and_the_pictures_of_the_package(few, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(script, "REQUIRED", 0.0)
    output, into = tmp_path / "mine.h5", tmp_path / "data"
    into.mkdir()
    script.main(["--output", str(output), "--into", str(into), "--threads", "2"])
    assert capsys.readouterr().out.startswith("held-out accuracy: float32 ")
    assert output.read_bytes() == (into / "digits.h5").read_bytes()
    weights, packaged = read_weights(output), read_weights(demo.weights_path())
    assert (weights.architecture, weights.labels, weights.preprocessing) == (
        packaged.architecture, packaged.labels, packaged.preprocessing)
    assert weights.source == packaged.source
    for name, array in weights.parameters.items():
        assert array.dtype == packaged.parameters[name].dtype, name
    assert weights.parameters["bn1.num_batches_tracked"] == 3
    assert [path.name for path in sorted((into / "digits").iterdir())] == sorted(p.name for p in demo.digits())
    for photo in demo.digits():
        assert np.array_equal(np.asarray(Image.open(into / "digits" / photo.name)), np.asarray(Image.open(photo)))


def test_nothing_is_written_below_the_required_accuracy(few, tmp_path):
    output = tmp_path / "mine.h5"
    with pytest.raises(SystemExit, match="is below 99%: nothing was written"):
        script.main(["--output", str(output), "--threads", "1"])
    assert not output.exists()


def test_threads_change_no_bit(few):
    one, two = (script.train(script.split(), num_threads=threads) for threads in (1, 2))
    assert one.labels == two.labels == script.CLASSES
    assert all(np.array_equal(array, two.parameters[name]) for name, array in one.parameters.items())


def test_accuracy_is_that_of_the_network_as_it_is_used(few):
    weights, (images, labels) = read_weights(demo.weights_path()), script.held_out()
    assert script.accuracy(weights, images, labels) == 1.0
    assert script.accuracy(weights, images, np.roll(labels, 1)) == 0.0
