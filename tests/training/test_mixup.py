"""Mixup and CutMix against timm's, with the same numbers drawn."""
import numpy as np
import pytest
from live import needs_timm, torch
from timm_numbers import TimmsNumbers

from npefficient.errors import ArgumentError
from npefficient.training.mixup import Box, Mixup, draw_box, paste

CLASSES = 6


def batch(count=4, height=9, width=12):
    rng = np.random.default_rng(4)
    return rng.normal(size=(count, height, width, 3)).astype(np.float32), rng.integers(CLASSES, size=count)


@needs_timm
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixup, cutmix", [(0.8, 0.0), (0.0, 1.0), (0.2, 0.6)])
def test_pixels_and_targets_are_timms(mixup, cutmix, smoothing):
    from timm.data import Mixup as TimmsMixup

    x, classes = batch()
    theirs = TimmsMixup(mixup, cutmix, label_smoothing=smoothing, num_classes=CLASSES)
    ours, numbers, kinds = Mixup(mixup, cutmix, CLASSES, smoothing), TimmsNumbers(7), set()
    np.random.seed(7)
    for _ in range(30):
        tensor = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
        pictures, expected = theirs(tensor, torch.from_numpy(classes))
        got, targets = ours(x, classes, numbers)
        assert got.dtype == targets.dtype == np.float32
        assert np.array_equal(got, pictures.numpy().transpose(0, 2, 3, 1))
        np.testing.assert_allclose(targets, expected.numpy(), rtol=1e-6, atol=1e-8)
        kinds.add(bool((got == x).any()))  # CutMix leaves most pixels as they are
    assert kinds == {False, True} if mixup and cutmix else kinds == {bool(cutmix)}


def test_the_batch_stays_as_it_is_and_a_seed_gives_the_same_batch():
    x, classes = batch()
    before, mix = x.copy(), Mixup(0.2, 1.0, CLASSES, 0.1)
    one, other = ([mix(x, classes, rng) for _ in range(5)] for rng in map(np.random.default_rng, (5, 5)))
    assert np.array_equal(x, before)
    assert all(np.array_equal(a, b) for pair in zip(one, other) for a, b in zip(*pair))
    assert len({got.tobytes() for got, _ in one}) == 5


def test_a_box_is_within_the_picture_and_lam_is_the_share_around_it():
    rng = np.random.default_rng(6)
    for lam in (0.0, 0.1, 0.5, 0.99):
        for _ in range(50):
            box, share = draw_box(8, 5, lam, rng)
            assert 0 <= box.top <= box.bottom <= 8 and 0 <= box.left <= box.right <= 5
            marked = np.zeros((2, 8, 5, 1), np.float32)
            marked[1] = 1.0
            assert share == pytest.approx(1.0 - paste(marked, box)[0].mean(), abs=1e-6)
            assert share >= lam - 1e-12


def test_paste_by_hand():
    x = np.arange(8.0, dtype=np.float32).reshape(2, 2, 2, 1)
    assert paste(x, Box(0, 1, 1, 2)).ravel().tolist() == [0, 5, 2, 3, 4, 1, 6, 7]


def test_an_odd_batch_is_refused():
    x, classes = batch(3)
    with pytest.raises(ArgumentError, match="a batch of 3 pictures: .*; choose an even batch size"):
        Mixup(0.2, 0.0, CLASSES, 0.1)(x, classes, np.random.default_rng(0))
