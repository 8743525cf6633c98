"""Fitting and choosing on arrays, compared with scikit-learn's pipeline and the conditions of a minimum."""
import sys

import numpy as np
import pytest

from npefficient.errors import ArgumentError
from npefficient.jobs.class_folders import split
from npefficient.jobs.finetune import linear_classifier
from npefficient.jobs.finetune.linear_classifier import PENALTIES, Linear, choose, cross_entropy, fit


def blobs(classes, count, features=20, spread=1.0, seed=0):
    """count embeddings, in turn of each class, around one centre each; the first feature is always 3."""
    rng = np.random.default_rng(seed)
    own = np.arange(count) % classes
    x = rng.normal(0, 1, (classes, features))[own] + spread * rng.normal(0, 1, (count, features))
    x[:, 0] = 3
    return (x * rng.uniform(0.01, 10, features)).astype(np.float32), own


def objective(weight, bias, x, classes, penalty):
    """What `fit` minimises, written out: the loss on features of mean 0 and variance 1."""
    logits = x @ weight.T + bias
    logits -= logits.max(axis=1, keepdims=True)
    return (np.log(np.exp(logits).sum(1)) - logits[np.arange(len(x)), classes]).mean() + penalty / 2 * (weight**2).sum()


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("penalty", [1.0, 0.01])
def test_fit_is_the_minimum(classes, penalty):
    """No small step in many random directions lowers the objective, and folding the scaling in changes no result."""
    x, own = blobs(classes, 60)
    linear = fit(x, own, penalty)
    spread = x.std(axis=0, dtype=np.float64)
    spread[0] = 1
    z = (x - x.mean(axis=0, dtype=np.float64)) / spread
    weight = linear.weight * spread
    bias = linear.bias + linear.weight @ x.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(z @ weight.T + bias, linear(x), atol=1e-9)
    if classes == 2:  # the difference of two opposite rows is what scikit-learn penalises
        weight = np.stack([np.zeros_like(weight[0]), weight[1] - weight[0]])
        bias = np.array([0, bias[1] - bias[0]])
    best, rng = objective(weight, bias, z, own, penalty), np.random.default_rng(1)
    for size in (1e-1, 1e-2):
        for _ in range(50):
            step, shift = size * rng.normal(size=weight.shape), size * rng.normal(size=bias.shape)
            step[0] *= classes > 2
            assert objective(weight + step, bias + shift, z, own, penalty) > best
    assert linear.converged


def test_fit_is_scikit_learns_pipeline():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, own = blobs(4, 80)
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (0.1 * 80), max_iter=1000))
    expected.fit(x.astype(np.float64), own)
    probabilities = np.exp(fit(x, own, 0.1)(x))
    np.testing.assert_allclose(probabilities / probabilities.sum(1, keepdims=True),
                               expected.predict_proba(x.astype(np.float64)), atol=2e-3, rtol=0)


def test_fit_gives_features_that_do_not_vary_no_weight():
    x, own = blobs(3, 30)
    x[:, 1] = 5 + np.float32(1e-6) * np.arange(30)
    linear = fit(x, own, 0.1)
    assert np.abs(linear.weight[:, 0]).max() < 1e-9
    assert np.abs(linear.weight[:, 1]).max() * np.ptp(x[:, 1]) < 1e-3


def test_fit_of_embeddings_that_are_all_the_same():
    linear = fit(np.ones((6, 4), np.float32), np.array([0, 0, 0, 0, 1, 1]), 0.1)
    likelihoods = np.exp(linear(np.ones((1, 4))))[0]
    np.testing.assert_allclose(likelihoods / likelihoods.sum(), [4 / 6, 2 / 6], atol=1e-3)


def test_fit_says_that_it_has_not_converged(monkeypatch):
    x, own = blobs(3, 30)
    assert fit(x, own, 1e-4).converged
    monkeypatch.setattr(linear_classifier, "ITERATIONS", 2)
    assert not fit(x, own, 1e-4).converged


def test_linear_by_hand():
    linear = Linear(np.array([[1.0, 0.0], [0.5, -2.0]]), np.array([0.0, 10.0]))
    assert linear(np.array([[2, 3]], np.float32)).tolist() == [[2.0, 5.0]]


def test_cross_entropy_by_hand():
    logits = np.array([[0.0, np.log(3)], [1000.0, 0.0]])
    assert cross_entropy(logits, np.array([1, 0])) == pytest.approx(-np.log(0.75) / 2)
    assert cross_entropy(logits, np.array([0, 1])) == pytest.approx((-np.log(0.25) + 1000) / 2)


def test_choose_takes_the_smallest_loss_and_fits_without_the_validation_part():
    x, own = blobs(4, 120, spread=6.0)
    held_out = split(own, 0.25, 0)
    linear, trials = choose(x, own, held_out)
    assert [trial.penalty for trial in trials] == list(PENALTIES)
    best = min(trials, key=lambda trial: trial.loss)
    assert PENALTIES[-1] < best.penalty  # classes that overlap need a strong one
    expected = fit(x[~held_out], own[~held_out], best.penalty)
    assert np.array_equal(linear.weight, expected.weight) and np.array_equal(linear.bias, expected.bias)
    assert best.loss == cross_entropy(linear(x[held_out]), own[held_out])
    assert best.accuracy == (linear(x[held_out]).argmax(1) == own[held_out]).mean()


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    linear_classifier.check_installed()
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ArgumentError, match=r'scikit-learn \(.*pip install matplotlib scikit-learn'):
        linear_classifier.check_installed()
