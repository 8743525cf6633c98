"""Numbers, names and maps in words."""
import numpy as np
import pytest

from npefficient.display.wording import count, duration, labels, percent, pixels, says, signed, size, where
from npefficient.explanation.evidence import ClassMap


@pytest.mark.parametrize("word, value, expected", [
    (count, 0, "0"), (count, 999, "999"), (count, 1000, "1 k"), (count, 12_345_678, "12.3 M"),
    (count, 999_400, "999 k"), (count, 999_999, "1,000 k"), (count, 3_940_000_000, "3.94 G"),
    (count, 5_000_000_000_000, "5,000 G"),
    (duration, 0.00766, "7.66 ms"), (duration, 0.0001, "0.1 ms"), (duration, 0.0000814, "81.4 µs"),
    (percent, 0.93475, "93.5 %"), (percent, 1.0, "100.0 %"), (signed, -1.234, "−1.23"), (signed, 0.0, "0.00"),
    (size, (224, 112, 3), "224 × 112 × 3"), (pixels, (480, 640, 3), "640 × 480"), (pixels, (480, 640), "640 × 480"),
], ids=lambda value: getattr(value, "__name__", str(value)))
def test_number_in_words(word, value, expected):
    assert word(value) == expected


def class_map(values):
    values = np.float32(values)
    return ClassMap(3, "tench, Tinca tinca", 0.5, float(values.mean()) + 0.25, 0.25, values)


@pytest.mark.parametrize("hot, place", [((0, 0), "top left"), ((1, 1), "middle centre"), ((2, 1), "bottom centre"),
                                        ((1, 2), "middle right")], ids=lambda value: str(value))
def test_where_names_the_strongest_place(hot, place):
    values = np.full((3, 3), -1.0)
    values[hot] = 2
    assert where(class_map(values)).startswith("Class activation map of tench, Tinca tinca: ")
    assert where(class_map(values)).endswith(f" the strongest evidence is at the {place}.")


def test_where_nothing_speaks_for_a_class():
    assert where(class_map([[-1, -2]])).endswith("the photo has no evidence for it.")
    assert where(class_map([[1]])).endswith("at the middle centre.")


def test_says_the_sum():
    assert says(class_map([[-1, 2]])) == (
        "tench, Tinca tinca, 50.0 %. The map runs from −1.00 to 2.00; its mean 0.50 plus the bias 0.25 is the logit "
        "0.75.")


def test_labels_of_blocks():
    assert [labels(name) for name in ("conv_stem", "blocks.3.10", "conv_head", "global_pool", "classifier")] == [
        ("Stem", "stem"), ("Stage 3", "3.10"), ("Head", "head"), ("Head", "pool"), ("Head", "classes")]
