"""Adapt weights as timm does, to different classes, a different pool or different input channels, or replace the
classifier.

Source: timm 1.0 `models/_manipulate.py` (adapt_input_conv), `models/_builder.py` (load_pretrained),
`models/efficientnet.py` (reset_classifier).
"""
from dataclasses import replace

import numpy as np

from ..common.checks import is_list, real_array
from ..common.text import shown
from ..errors import ArgumentError, WeightsError
from ..network import architecture
from ..network.parameters import Source, Weights, check_labels, check_parameters, random_classifier
from ..network.quantization import QuantizedWeights


def adapt(weights: Weights, *, num_classes: int | None = None, in_chans: int | None = None,
          global_pool: str | None = None, new_classifier: bool = False) -> Weights:
    """Return weights for a network that differs in classes, input channels or pool; None leaves each as it is.

    A different number of classes, or `new_classifier`, gives a classifier with seeded random weights and no labels; 0
    classes give none. A different number of input channels gives an adapted stem. Raises ArgumentError for invalid
    numbers and pools, and for a pool that the classifier does not fit; WeightsError if the adapted stem can exceed
    float32.
    """
    old, parameters = weights.architecture, dict(weights.parameters)
    network = _wanted(old, num_classes, in_chans, global_pool)
    if network.in_chans != old.in_chans:
        stem = f"{network.stem.name}.weight"
        parameters[stem] = adapt_stem(parameters[stem], network.in_chans)
    labels, source = weights.labels, weights.source
    if new_classifier or network.num_classes != old.num_classes:
        parameters = {name: array for name, array in parameters.items() if not name.startswith("classifier.")}
        parameters |= random_classifier(network, np.random.default_rng(0))
        labels, source = None, source.with_classifier(random=network.num_classes > 0)
    else:
        _check_pool(old, network)
    if new_classifier or network != old:
        check_parameters(parameters, network)
    return replace(weights, architecture=network, parameters=parameters, labels=labels, source=source)


def adapt_quantized(weights: QuantizedWeights, *, num_classes: int | None = None, in_chans: int | None = None,
                    global_pool: str | None = None) -> QuantizedWeights:
    """`adapt` for int8 weights, from which the classifier can be left out; what changes other weights takes float32.

    Raises ArgumentError for a number of classes other than 0 or of input channels that they do not have.
    """
    old = weights.architecture
    network = _wanted(old, num_classes, in_chans, global_pool)
    for what, wish, own in (("num_classes", network.num_classes or old.num_classes, old.num_classes),
                            ("in_chans", network.in_chans, old.in_chans)):
        if wish != own:
            raise ArgumentError(f"{what} {wish}: these int8 weights have {own}, and only float32 weights can be "
                                f"adapted; use those that they were made from ({weights.source.name})")
    _check_pool(old, network, "num_classes=0, or, for a new classifier, the float32 weights that these int8 ones were "
                              f"made from ({weights.source.name})")
    if network.num_classes == old.num_classes:
        return replace(weights, architecture=network)
    layers = {name: layer for name, layer in weights.layers.items() if name != "classifier"}
    return replace(weights, architecture=network, layers=layers, labels=None,
                   source=weights.source.with_classifier(random=False))


def _wanted(old: architecture.Architecture, num_classes, in_chans, global_pool) -> architecture.Architecture:
    """The network that is asked for; None leaves its part as it is."""
    return architecture.build(old.name, *(own if wish is None else wish for wish, own in (
        (num_classes, old.num_classes), (in_chans, old.in_chans), (global_pool, old.global_pool))))


def _check_pool(old: architecture.Architecture, new: architecture.Architecture,
                remedy: str = "a different number of classes for a new classifier") -> None:
    """Raise ArgumentError if the classifier does not fit the pool."""
    if new.num_classes and new.head_hidden_size != old.head_hidden_size:
        raise ArgumentError(
            f"global_pool {new.global_pool!r} gives {new.head_hidden_size} features: the classifier takes "
            f"{old.head_hidden_size}; choose a different pool, or {remedy}")


def with_classifier(weights: Weights, weight: np.ndarray, bias: np.ndarray, labels=None) -> Weights:
    """Return weights with a new last layer, from `classifier_arrays`; raises WeightsError if it can exceed float32."""
    old, source = weights.architecture, weights.source
    network = architecture.build(old.name, len(weight), old.in_chans, old.global_pool)
    kind = "random" if source.random == "weights" else "memory"
    source = Source(f"{source.name}, custom classifier", "", kind, source.photos)
    parameters = {**weights.parameters, "classifier.weight": weight, "classifier.bias": bias}
    check_parameters(parameters, network)
    return replace(weights, architecture=network, parameters=parameters, labels=labels, source=source)


def classifier_arrays(old: architecture.Architecture, weight, bias, labels=None):
    """Check a last layer for a network: weight (classes, features), bias (classes,) -> the same in float32, labels.

    features: the pool's output size (`head_hidden_size`). labels: one for each class, or None. Raises ArgumentError for
    arrays that do not fit or are not finite, and for invalid labels.
    """
    weight, bias = (_float32(name, values) for name, values in (("weight", weight), ("bias", bias)))
    if not old.global_pool or weight.ndim != 2 or not len(weight) or weight.shape[1] != old.head_hidden_size:
        rule = f"(classes, {old.head_hidden_size})" if old.global_pool else "one of a model with a pool"
        raise ArgumentError(f"weight of shape {weight.shape}: it must be {rule}, for the pooled features of {old.name}")
    if bias.shape != weight.shape[:1]:
        raise ArgumentError(f"bias of shape {bias.shape}: it must be {weight.shape[:1]}, one for each class")
    if labels is not None and not is_list(labels):
        raise ArgumentError(f"labels {shown(labels)}: give a list of names, one for each class")
    try:
        labels = check_labels(labels, len(weight))
    except WeightsError as problem:
        raise ArgumentError(str(problem)) from problem
    return weight, bias, labels


def _float32(name: str, values) -> np.ndarray:
    """A float32 copy; raises ArgumentError unless `values` is an array of finite real numbers."""
    with np.errstate(over="ignore"):
        made = real_array(name, values).astype(np.float32)
    if not np.isfinite(made).all():
        raise ArgumentError(f"{name} with {values[~np.isfinite(made)][0]}: every value must be finite, in float32")
    return made


def adapt_stem(weight: np.ndarray, in_chans: int) -> np.ndarray:
    """(M, C, K, K) -> (M, in_chans, K, K), same dtype: for one channel the sum over C; for other counts the
    channels repeated in turn, scaled by C / in_chans, so that the stem's output keeps its magnitude.
    """
    channels, wide = weight.shape[1], weight.astype(np.float32)
    if in_chans == 1:
        adapted = wide.sum(axis=1, keepdims=True)
    else:
        adapted = wide[:, np.arange(in_chans) % channels] * np.float32(channels / in_chans)
    return adapted.astype(weight.dtype)
