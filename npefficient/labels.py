"""The names of the 1000 ImageNet classes, in the order of the network's outputs.

`data/imagenet_classes.txt` has a line per class: the WordNet synset id, a tab, the names of the synset. They are facts
of ImageNet (ILSVRC 2012) and WordNet 3.0, taken from timm 1.0 `data/_info/imagenet_synsets.txt` and
`imagenet_synset_to_lemma.txt`; `tests/model/test_labels.py` compares every line with timm.
"""
import functools
from pathlib import Path


def imagenet_labels() -> tuple[str, ...]:
    """The 1000 class names by class index, such as "tench, Tinca tinca"; two classes may share a name ("crane")."""
    return _table()[1]


def imagenet_synsets() -> tuple[str, ...]:
    """The 1000 WordNet synset ids by class index, such as "n01440764"; each occurs once."""
    return _table()[0]


@functools.cache
def _table() -> tuple[tuple[str, ...], ...]:
    text = (Path(__file__).parent / "data" / "imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(zip(*(line.split("\t") for line in text.splitlines())))
