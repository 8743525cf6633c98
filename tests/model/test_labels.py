"""The class names are timm's, in timm's order."""
import subprocess
import sys

import pytest
from live import needs_timm

from npefficient.labels import imagenet_labels, imagenet_synsets


@needs_timm
def test_labels_equal_timm():
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    assert list(imagenet_labels()) == info.label_descriptions()
    assert list(imagenet_synsets()) == info.label_names()


@pytest.mark.parametrize("index, synset, label", [
    pytest.param(0, "n01440764", "tench, Tinca tinca", id="first"),
    pytest.param(207, "n02099601", "golden retriever", id="dog"),
    pytest.param(281, "n02123045", "tabby, tabby cat", id="cat"),
    pytest.param(999, "n15075141", "toilet tissue, toilet paper, bathroom tissue", id="last"),
])
def test_labels_known(index, synset, label):
    assert (imagenet_synsets()[index], imagenet_labels()[index]) == (synset, label)


def test_labels_form():
    assert len(imagenet_labels()) == len(imagenet_synsets()) == len(set(imagenet_synsets())) == 1000
    assert list(imagenet_synsets()) == sorted(imagenet_synsets()), "ImageNet orders its classes by synset id"
    assert all(s[0] == "n" and len(s) == 9 and s[1:].isdigit() for s in imagenet_synsets())
    assert all(label and label == label.strip() and label.isascii() for label in imagenet_labels())


def test_labels_shared_name():
    twice = {label for label in imagenet_labels() if imagenet_labels().count(label) > 1}
    assert twice == {"crane"}, "the bird, 134, and the machine, 517"
    assert [i for i, label in enumerate(imagenet_labels()) if label == "crane"] == [134, 517]


def test_labels_read_once():
    assert imagenet_labels() is imagenet_labels()
    assert imagenet_synsets() is imagenet_synsets()


def test_labels_read_when_asked():
    code = "import sys, npefficient.labels as labels; print(labels._table.cache_info().currsize, 'PIL' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "0 False\n"
