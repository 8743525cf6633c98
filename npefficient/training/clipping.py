"""Gradient clipping: by the norm of all gradients, by value, or by each unit's norm as a share of its weights' norm.

    norm     g = g min(1, limit / (|all g| + 1e-6))     Pascanu et al. 2013 (arXiv:1211.5063)
    value    g = min(max(g, -limit), limit)
    agc      g_i = g_i min(1, limit max(|w_i|, 1e-3) / max(|g_i|, 1e-6))
                 for each unit i: an output channel of a weight, or all of a bias; Brock et al. 2021 (arXiv:2102.06171)

Norms are Euclidean, from squares added in float64. Source: timm's `dispatch_clip_grad`, and its `train.py`, where "agc"
leaves out the classifier.
"""
import math

import numpy as np

from ..common.checks import word

CLIP_MODES = ("norm", "value", "agc")


def clip_gradients(gradients: dict[str, np.ndarray], parameters: dict[str, np.ndarray], limit: float,
                   mode: str = "norm") -> None:
    """Clip gradients in place.

    gradients: timm's name -> float32 array of any shape
    parameters: timm's name -> array of the same shape, for "agc"
    limit: above 0; of the norm, of each value, or for "agc" of the ratio of the gradient's norm to the weights'

    Raises ArgumentError for a mode that is not in CLIP_MODES.
    """
    word("clip-mode", mode, CLIP_MODES)
    if mode == "norm":
        factor = np.float32(min(limit / (global_norm(gradients) + 1e-6), 1.0))
        for gradient in gradients.values():
            gradient *= factor
    elif mode == "value":
        for gradient in gradients.values():
            np.clip(gradient, -limit, limit, out=gradient)
    else:
        for name, gradient in gradients.items():
            if not name.startswith("classifier."):
                most = limit * np.maximum(unit_norms(parameters[name]), 1e-3)
                norms = unit_norms(gradient)
                gradient *= np.minimum(most / np.maximum(norms, 1e-6), 1.0).astype(np.float32)


def global_norm(gradients: dict[str, np.ndarray]) -> float:
    """The norm of all gradients together, as of one long vector."""
    return math.sqrt(sum(float(np.square(gradient, dtype=np.float64).sum()) for gradient in gradients.values()))


def unit_norms(array: np.ndarray) -> np.ndarray:
    """(M, ..) -> float64 (M, 1, ..), the norm of each output channel; (M,) -> (1,), the norm of all."""
    axes = tuple(range(1, array.ndim)) or (0,)
    norms: np.ndarray = np.sqrt(np.square(array, dtype=np.float64).sum(axis=axes, keepdims=True))
    return norms
