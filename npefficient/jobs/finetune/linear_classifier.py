"""Fit the network's last layer to embeddings: multinomial logistic regression, by scikit-learn.

Everything here is arrays: embeddings float32 (N, features), classes int64 (N,). The fitted layer is float64.
"""
import warnings
from dataclasses import dataclass

import numpy as np

from ...common.extras import install
from ...errors import ArgumentError

PENALTIES = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4)  # tried from the strongest to the weakest
ITERATIONS = 1000
FLAT = 1e-3  # share of the usual spread: a feature that varies less is not scaled up to variance 1


@dataclass(frozen=True)
class Linear:
    """logits = x @ weight.T + bias."""

    weight: np.ndarray  # float64 (classes, features)
    bias: np.ndarray  # float64 (classes,)
    converged: bool = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Embeddings (N, features) -> logits float64 (N, classes)."""
        return x.astype(np.float64) @ self.weight.T + self.bias


@dataclass(frozen=True)
class Trial:
    """The result of one penalty on the validation part."""

    penalty: float
    loss: float  # mean cross-entropy
    accuracy: float


def check_installed() -> None:
    """Raise ArgumentError unless scikit-learn can be imported."""
    try:
        import sklearn.linear_model  # noqa: F401
    except ModuleNotFoundError as missing:
        raise ArgumentError(f"fitting a classifier needs scikit-learn ({missing}): {install('finetune')}") from missing


def fit(x: np.ndarray, classes: np.ndarray, penalty: float) -> Linear:
    """Minimise the mean cross-entropy plus penalty / 2 times the squared weights (with two classes, of their
    difference) of standardised features.

    Classes are 0, 1 .., each with at least one photo. Dividing by the number of photos makes a penalty mean the same
    for few and for many. The standardisation (mean 0, variance 1) is folded into weight and bias.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # scikit-learn's own dependency

    mean, spread = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    spread = np.maximum(spread, FLAT * np.sqrt((spread**2).mean()) or 1.0)
    regression = LogisticRegression(C=1 / (penalty * len(x)), max_iter=ITERATIONS)
    # One thread: on products as small as these, more threads mostly wait for each other, minutes on a busy machine.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # `converged` reports it
        regression.fit((x - mean) / spread, classes)
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:  # two classes: scikit-learn keeps the difference of their logits
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / spread
    return Linear(weight, bias - weight @ mean, bool(regression.n_iter_.max() < ITERATIONS))


def choose(x: np.ndarray, classes: np.ndarray, validation: np.ndarray) -> tuple[Linear, list[Trial]]:
    """Fit to the photos outside `validation` (bool (N,)) with every penalty; return the best one and all trials.

    The best has the smallest mean cross-entropy on the validation part: unlike the accuracy, it distinguishes penalties
    even on a few photos.
    """
    best, trials = None, []
    for penalty in PENALTIES:
        linear = fit(x[~validation], classes[~validation], penalty)
        logits = linear(x[validation])
        accuracy = float((logits.argmax(axis=1) == classes[validation]).mean())
        trials.append(Trial(penalty, cross_entropy(logits, classes[validation]), accuracy))
        if best is None or trials[-1].loss < best[0]:
            best = trials[-1].loss, linear
    return best[1], trials


def cross_entropy(logits: np.ndarray, classes: np.ndarray) -> float:
    """Mean of -log(probability of the right class), from logits (N, classes)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    right = np.take_along_axis(shifted, classes[:, None], axis=1)[:, 0]
    return float((np.log(np.exp(shifted).sum(axis=1)) - right).mean())
