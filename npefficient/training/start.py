"""The weights that a run starts from: random ones, or trained ones, which keep their classifier for the same classes.

    convolution     normal, standard deviation sqrt(2 / (K K M / groups))
    classifier      uniform in +-1 / sqrt(classes), bias 0
    batch norm      weight 1, bias 0, running mean 0 and variance 1

Source: `_init_weight_goog` of timm 1.0, which is TensorFlow's for EfficientNet. timm's `train.py --pretrained` with
another number of classes keeps that classifier, too; `--initial-checkpoint` keeps the one that was trained.
"""
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..common.paths import StrPath
from ..errors import ArgumentError
from ..images.photo_file import check_in_chans
from ..model.loading import load_weights
from ..network.architecture import Architecture, build
from ..network.parameters import TRACKED, Source, Weights, check_labels
from ..network.variants import canonical_name, is_model
from ..weights.adapt import adapt
from .seeds import START, generator

NOTHING = "nothing"


def starting_weights(model: str | None, weights: Weights | StrPath | None, labels: Sequence[str], seed: int) -> Weights:
    """Weights in float32 for these classes: with the classifier that they have for the same labels, or a new one.

    model: the variant; None for that of the weights, or lite0
    weights: a weight file, a checkpoint or `parameters.Weights`; a variant, for its official weights; "nothing", for
        random ones; None for the official weights of `model`
    seed: of all that is random

    Raises ArgumentError for a model that the weights are not of, and for weights without a pool; WeightsError for a
    file that can't be used.
    """
    name = None if model is None else canonical_name(model)
    if isinstance(weights, str) and weights == NOTHING:
        network = build(name or canonical_name("lite0"), len(labels))
        base = Weights(network, initial(network, seed), network.variant.preprocessing, None,
                       Source(f"seed {seed}", "", "random"))
    else:
        base = _trained(name, weights)
        check_in_chans(base.architecture.in_chans)
        if name not in (None, base.architecture.name):
            raise ArgumentError(f"model {model!r} from {base.source.name!r}, which is {base.architecture.name}: leave "
                                "the model out, or start from other weights")
        if not base.architecture.global_pool:
            raise ArgumentError(f"weights {base.source.name!r} with the pool '': a classifier needs pooled features; "
                                "use weights with one of timm's pools, such as 'avg'")
        if base.labels != tuple(labels):
            base = adapt(base, num_classes=len(labels), new_classifier=True)
            base = replace(base, parameters=base.parameters | _classifier(base.architecture, seed))
    parameters = {name: array if name.endswith(TRACKED) else array.astype(np.float32)
                  for name, array in base.parameters.items()}
    return replace(base, parameters=parameters, labels=check_labels(labels, len(labels)))


def _trained(name: str | None, weights: Weights | StrPath | None) -> Weights:
    from ..hub import pretrained

    if isinstance(weights, Weights):
        return weights
    if weights is None:
        return load_weights(pretrained(name or canonical_name("lite0")))
    if isinstance(weights, str) and is_model(weights):
        return load_weights(pretrained(canonical_name(weights)))
    return load_weights(weights, name)


def initial(network: Architecture, seed: int) -> dict[str, np.ndarray]:
    """Random parameters by timm's names, float32 (counts int64), as above."""
    rng, parameters = generator(seed, START, 0), {}
    for conv in network.convs:
        m, _, kernel, _ = conv.weight_shape
        groups = m if conv.op == "depthwise" else 1
        deviation = math.sqrt(2.0 / (kernel * kernel * m // groups))
        parameters[f"{conv.name}.weight"] = rng.normal(0.0, deviation, conv.weight_shape).astype(np.float32)
        for leaf, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            parameters[f"{conv.bn}.{leaf}"] = np.full(m, value, np.float32)
        parameters[f"{conv.bn}.{TRACKED}"] = np.array(0, np.int64)
    return parameters | _classifier(network, seed)


def _classifier(network: Architecture, seed: int) -> dict[str, np.ndarray]:
    shape, limit = (network.num_classes, network.head_hidden_size), 1.0 / math.sqrt(network.num_classes)
    weight = generator(seed, START, 1).uniform(-limit, limit, shape).astype(np.float32)
    return {"classifier.weight": weight, "classifier.bias": np.zeros(network.num_classes, np.float32)}
