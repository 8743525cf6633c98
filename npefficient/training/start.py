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
from ..model.loading import weights_to_train
from ..network.architecture import Architecture, build
from ..network.parameters import TRACKED, Source, Weights, check_labels
from ..network.variants import canonical_name
from ..weights.adapt import adapt
from .seeds import START, generator

NOTHING = "nothing"


def starting_weights(model: str | None, weights: Weights | StrPath | None, labels: Sequence[str], seed: int) -> Weights:
    """Weights in float32 for these classes: with the classifier that they have for the same labels, or a new one.

    model: the variant; None for that of the weights, or lite0
    weights: as for `weights_to_train`, which raises the errors; "nothing", for random ones
    seed: of all that is random
    """
    if isinstance(weights, str) and weights == NOTHING:
        network = build(canonical_name("lite0" if model is None else model), len(labels))
        base = Weights(network, initial(network, seed), network.variant.preprocessing, None,
                       Source(f"seed {seed}", "", "random"))
    else:
        base = weights_to_train(model, weights)
        if base.labels != tuple(labels):
            base = adapt(base, num_classes=len(labels), new_classifier=True)
            base = replace(base, parameters=base.parameters | _classifier(base.architecture, seed))
    parameters = {name: array if name.endswith(TRACKED) else array.astype(np.float32)
                  for name, array in base.parameters.items()}
    return replace(base, parameters=parameters, labels=check_labels(labels, len(labels)))


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
