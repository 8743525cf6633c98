"""Numbers, names and maps in words."""
import numpy as np
import pytest

from npefficient.display.wording import (
    channels,
    compares,
    kib,
    labels,
    millions,
    milliseconds,
    percent,
    pixels,
    says,
    says_difference,
    signed,
    square,
    times,
    where,
    where_occluded,
)
from npefficient.explanation.evidence import ClassMap
from npefficient.explanation.occlusion import Agreement


@pytest.mark.parametrize("word, value, expected", [
    (millions, 0, "0"), (millions, 1, "< 0.01 M"), (millions, 4999, "< 0.01 M"), (millions, 5000, "0.01 M"),
    (millions, 12_345_678, "12.35 M"), (millions, 3_940_000_000, "3,940.00 M"),
    (milliseconds, 0.00766, "7.660 ms"), (milliseconds, 0.0000814, "0.081 ms"),
    (kib, 5_133_120, "5,013 KiB"), (kib, 1536, "2 KiB"), (kib, 100, "< 1 KiB"),
    (percent, 0.93475, "93.5 %"), (percent, 1.0, "100.0 %"), (percent, 0.0, "0.0 %"), (percent, 4e-4, "< 0.1 %"),
    (percent, 1e-9, "< 0.1 %"), (percent, 6e-4, "0.1 %"), (percent, 0.99999, "> 99.9 %"), (percent, 1.004, "100.4 %"),
    (signed, -1.234, "−1.23"), (signed, 0.0, "0.00"), (signed, -0.001, "0.00"),
    (times, 2.345, "2.35 times"), (times, 1e9, "more than 1,000 times"), (times, 1e-9, "less than 0.001 times"),
    (times, float("inf"), "more than 1,000 times"),
    (square, 3, "3 × 3"), (pixels, (480, 640, 3), "640 × 480"), (pixels, (480, 640), "640 × 480"),
    (channels, (56, 112, 24), "112 × 56 × 24"),
], ids=lambda value: getattr(value, "__name__", str(value)))
def test_number_in_words(word, value, expected):
    assert word(value) == expected


def test_digits_of_a_signed_number():
    assert [signed(-0.0456, digits) for digits in (0, 1, 3)] == ["0", "0.0", "−0.046"]


def class_map(values, index=3, label="tench, Tinca tinca", bias=0.25, occlusion=None):
    values = np.float32(values)
    return ClassMap(index, label, 0.5, float(values.mean()) + bias, bias, values, occlusion)


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
        "tench, Tinca tinca, 50.0 %. The map runs from −1.00 to 2.00; its mean 0.500 plus the bias 0.250 is the logit "
        "0.750.")


def test_says_the_sum_of_a_difference():
    other = class_map([[1, -1]], 4, "crane", bias=0.5)
    assert says_difference(class_map([[-1, 2]]).minus(other)) == (
        "tench, Tinca tinca minus crane. The map runs from −2.00 to 3.00; its mean 0.500 plus the difference of the "
        "biases −0.250 is the difference of the logits 0.250, so that tench, Tinca tinca is 1.28 times as probable as "
        "crane.")


@pytest.mark.parametrize("agreement, expected", [
    (Agreement(0.3456, True), "Pixel by pixel, the two maps correlate by 0.35; the patch that costs most lies in the "
                              "map's strongest cell."),
    (Agreement(None, False), "The two maps can't be correlated, as one of them is the same all over; the patch that "
                             "costs most does not lie in the map's strongest cell."),
], ids=["same", "flat"])
def test_compares_the_maps(agreement, expected):
    assert compares(np.float32([[-0.5, 2]]), agreement, "the logit") == (
        f"Without one patch, the logit changes by −2.00 to 0.50. {expected}")


def test_where_occlusion_costs_most():
    falls = np.float32([[0, 0, 0], [0, 0, 0], [0, 0, 1]])
    assert where_occluded(class_map([[1]], occlusion=falls)) == (
        "Occlusion for tench, Tinca tinca: the patch that costs most is at the bottom right.")
    assert where_occluded(class_map([[1]], occlusion=-falls)).endswith(": its logit falls without none of the patches.")


def test_labels_of_blocks():
    assert [labels(name) for name in ("conv_stem", "blocks.3.10", "conv_head", "global_pool", "classifier")] == [
        ("Stem", "stem"), ("Stage 3", "3.10"), ("Head", "head"), ("Head", "pool"), ("Head", "classes")]
