"""Hits, intervals and confusion matrices against sorting, published values and counting."""
import numpy as np
import pytest

from npefficient.errors import ArgumentError
from npefficient.jobs.accuracy import confusion_matrix, describe, top_k_hits, wilson_interval
from npefficient.scores import top_k


def test_top_k_hits_by_hand():
    scores = np.array([[3, 1, 2], [3, 1, 2], [3, 1, 2]])
    assert top_k_hits(scores, [0, 1, 2], 1).tolist() == [True, False, False]
    assert top_k_hits(scores, [0, 1, 2], 2).tolist() == [True, False, True]
    assert top_k_hits(scores, [0, 1, 2], 3).all() and top_k_hits(scores, [0, 1, 2], 99).all()


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_hits_is_membership_in_top_k_with_ties(k):
    rng = np.random.default_rng(k)
    scores, classes = rng.integers(0, 3, (200, 8)).astype(np.float32), rng.integers(0, 8, 200)
    expected = [c in best for c, best in zip(classes, top_k(scores, k)[1])]
    assert top_k_hits(scores, classes, k).tolist() == expected and 0 < sum(expected) < 200


def test_top_k_hits_of_no_photo():
    assert top_k_hits(np.empty((0, 3)), np.empty(0, int), 1).shape == (0,)


@pytest.mark.parametrize("k", [0, -1])
def test_top_k_hits_refuses(k):
    with pytest.raises(ArgumentError, match=f"k {k}: .*at least 1"):
        top_k_hits(np.eye(2), [0, 1], k)


@pytest.mark.parametrize("hits, total, low, high", [
    (81, 263, 0.2553, 0.3662),  # Newcombe 1998 (doi 10.1002/(SICI)1097-0258(19980430)17:8<857), table I, method 3
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0000, 0.1611),
    (1, 29, 0.0061, 0.1718),
], ids=["81_of_263", "15_of_148", "0_of_20", "1_of_29"])
def test_wilson_interval_is_newcombes_table(hits, total, low, high):
    assert wilson_interval(hits, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("total", [1, 2, 50, 50_000])
def test_wilson_interval_stays_within_0_and_1_and_is_symmetric(total):
    for hits in {0, 1, total // 2, total}:
        low, high = wilson_interval(hits, total)
        assert 0 <= low <= hits / total <= high <= 1 and low < high
        assert wilson_interval(total - hits, total) == pytest.approx((1 - high, 1 - low))


def test_wilson_interval_solves_its_equation():
    """Both ends p satisfy |share - p| = z sqrt(p (1 - p) / n)."""
    for end in wilson_interval(37, 50):
        assert abs(37 / 50 - end) == pytest.approx(1.959963984540054 * (end * (1 - end) / 50) ** 0.5)


def test_wilson_interval_of_no_photo_says_nothing():
    assert wilson_interval(0, 0) == (0, 1)


def test_confusion_matrix_counts():
    got = confusion_matrix([0, 0, 1, 2, 2, 2], [0, 1, 1, 0, 2, 2], 4)
    assert got.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    assert confusion_matrix([], [], 2).tolist() == [[0, 0], [0, 0]]


def test_describe():
    assert describe(45, 50) == "45 of 50, 90.00% (78.64% to 95.65%)"
    assert describe(0, 0) == "0 of 0, no photo (0.00% to 100.00%)"
