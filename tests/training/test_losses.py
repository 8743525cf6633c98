"""Cross-entropy and its gradient against timm's losses and torch's autograd."""
import math

import numpy as np
import pytest
from live import needs_timm, torch

from npefficient.network.backward import label_targets
from npefficient.training.losses import cross_entropy, exp

TOLERANCES = {np.float64: 1e-12, np.float32: 1e-6}


def batch(dtype, classes=7, count=5, scale=10.0):
    """(logits, right classes, targets whose rows sum to 1)."""
    rng = np.random.default_rng(3)
    targets = rng.random((count, classes))
    return ((rng.normal(size=(count, classes)) * scale).astype(dtype), rng.integers(classes, size=count),
            (targets / targets.sum(axis=1, keepdims=True)).astype(dtype))


def torch_loss(function, logits, target):
    """(loss, gradient) by autograd."""
    tensor = torch.from_numpy(logits.copy()).requires_grad_()
    loss = function(tensor, torch.from_numpy(target))
    loss.backward()
    return float(loss.detach()), tensor.grad.numpy()


def assert_same(got, expected, dtype):
    assert isinstance(got[0], float) and got[1].dtype == dtype
    assert got[0] == pytest.approx(expected[0], rel=TOLERANCES[dtype], abs=0)
    np.testing.assert_allclose(got[1], expected[1], rtol=0, atol=TOLERANCES[dtype])


@needs_timm
@pytest.mark.parametrize("classes", [2, 7, 1000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_smoothed_labels_give_timms_label_smoothing_cross_entropy(dtype, smoothing, classes):
    from timm.loss import LabelSmoothingCrossEntropy

    logits, right, _ = batch(dtype, classes)
    targets = np.full((len(right), classes), smoothing / classes)  # in float64: those of float32 are off by 1e-8
    targets[np.arange(len(right)), right] += 1.0 - smoothing
    np.testing.assert_allclose(label_targets(right, classes, smoothing), targets, rtol=1e-7)
    expected = torch_loss(LabelSmoothingCrossEntropy(smoothing), logits, right)
    assert_same(cross_entropy(logits, targets), expected, dtype)


@needs_timm
@pytest.mark.parametrize("total", [1.0, 0.5])  # a row may sum to anything
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_any_targets_give_timms_soft_target_cross_entropy(dtype, total):
    from timm.loss import SoftTargetCrossEntropy

    logits, _, targets = batch(dtype)
    targets *= dtype(total)
    assert_same(cross_entropy(logits, targets), torch_loss(SoftTargetCrossEntropy(), logits, targets), dtype)


@needs_timm
def test_plain_labels_give_torchs_cross_entropy():
    logits, right, _ = batch(np.float64)
    expected = torch_loss(torch.nn.CrossEntropyLoss(), logits, right)
    assert_same(cross_entropy(logits, label_targets(right, 7, 0.0)), expected, np.float64)


def test_by_hand():
    """Logits 0 and log 3: probabilities 1/4 and 3/4."""
    logits = np.array([[0.0, math.log(3.0)]])
    loss, gradient = cross_entropy(logits, label_targets(np.array([0]), 2, 0.0))
    assert loss == pytest.approx(math.log(4.0), rel=1e-15)
    np.testing.assert_allclose(gradient, [[-0.75, 0.75]], rtol=1e-15)
    assert label_targets(np.array([1, 0]), 2, 0.5).tolist() == [[0.25, 0.75], [0.75, 0.25]]


@pytest.mark.filterwarnings("error")
def test_far_logits_neither_overflow_nor_warn():
    logits = np.array([[3e38, -3e38, 0.0], [1e30, 1e30, 0.0]], np.float32)
    loss, gradient = cross_entropy(logits, label_targets(np.array([0, 1]), 3, 0.0))
    assert loss == pytest.approx(math.log(2.0) / 2, rel=1e-15)
    np.testing.assert_allclose(gradient, [[0, 0, 0], [0.25, -0.25, 0]], atol=1e-7)


def test_exp_is_within_two_ulp():
    x = -np.concatenate([np.geomspace(1e-20, 708.0, 20_001), np.linspace(0, 50, 10_001)])
    expected = np.array([math.exp(value) for value in x])
    assert (np.abs(exp(x) - expected) <= 2 * np.spacing(expected)).all()
    assert exp(np.array([0.0, -740.0, -745.0, -800.0, -np.inf])).tolist() == [1.0, math.exp(-740.0),
                                                                              math.exp(-745.0), 0.0, 0.0]
