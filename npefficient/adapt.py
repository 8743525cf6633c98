"""The same weights for another job: other classes, another pool, other input channels, as timm adapts them.

Source: timm 1.0 `models/_manipulate.py` (adapt_input_conv), `models/_builder.py` (load_pretrained),
`models/efficientnet.py` (reset_classifier).
"""
from dataclasses import replace

import numpy as np

from . import architecture
from .errors import ArgumentError
from .parameters import Weights, random_classifier


def adapt(weights: Weights, *, num_classes: int | None = None, in_chans: int | None = None,
          global_pool: str | None = None, new_classifier: bool = False) -> Weights:
    """Return weights for a network that differs in classes, input channels or pool; None leaves each as it is.

    Another number of classes brings a classifier with seeded random weights and no labels, 0 none at all; so does
    `new_classifier` in any case. Another number of input channels brings an adapted stem. Raises ArgumentError for
    numbers and pools that can't be, and for a pool that the classifier does not fit.
    """
    old, parameters = weights.architecture, dict(weights.parameters)
    network = architecture.build(old.name, *(own if wish is None else wish for wish, own in (
        (num_classes, old.num_classes), (in_chans, old.in_chans), (global_pool, old.global_pool))))
    if network.in_chans != old.in_chans:
        stem = f"{network.stem.name}.weight"
        parameters[stem] = adapt_stem(parameters[stem], network.in_chans)
    if not new_classifier and network.num_classes == old.num_classes:
        if network.num_classes and network.head_hidden_size != old.head_hidden_size:
            raise ArgumentError(
                f"global_pool {network.global_pool!r} gives {network.head_hidden_size} features: the classifier takes "
                f"{old.head_hidden_size}; choose another pool, or another number of classes for another classifier")
        return replace(weights, architecture=network, parameters=parameters)
    parameters = {name: array for name, array in parameters.items() if not name.startswith("classifier.")}
    parameters |= random_classifier(network, np.random.default_rng(0))
    return replace(weights, architecture=network, parameters=parameters, labels=None)


def adapt_stem(weight: np.ndarray, in_chans: int) -> np.ndarray:
    """(M, C, K, K) -> (M, in_chans, K, K), in the dtype given: for one channel the sum over C; for other counts the
    channels in turn, scaled by C / in_chans, so that the stem's output keeps its size.
    """
    channels, wide = weight.shape[1], weight.astype(np.float32)
    if in_chans == 1:
        adapted = wide.sum(axis=1, keepdims=True)
    else:
        adapted = wide[:, np.arange(in_chans) % channels] * np.float32(channels / in_chans)
    return adapted.astype(weight.dtype)
