"""The parameters of one network: what they are, how they are checked, and random ones to try a network with."""
import math
from dataclasses import dataclass

import numpy as np

from .architecture import HEAD_CHANNELS, Architecture, Preprocessing
from .errors import WeightsError

TRACKED = "num_batches_tracked"


@dataclass(frozen=True)
class Source:
    """Where weights came from."""

    name: str  # file name
    sha256: str  # of the whole file, 64 hex digits; empty for random weights
    kind: str  # "torch-zip", "torch-legacy", "safetensors" or "random"


@dataclass(frozen=True)
class Weights:
    """Unfolded parameters of one network with all that is needed to use them."""

    architecture: Architecture
    parameters: dict[str, np.ndarray]  # names and shapes of architecture.parameters(); float32 or float16, counts int64
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None
    source: Source


def check_parameters(parameters: dict[str, np.ndarray], expected: Architecture) -> None:
    """Compare every name, shape, dtype and value with what the architecture asks for.

    Raises WeightsError with all missing, unexpected and mismatched names together; then for values that are not
    finite; then for a negative running variance.
    """
    shapes = expected.parameters()
    problems = [f"missing {name!r} {shape}" for name, shape in shapes.items() if name not in parameters]
    problems += [f"unexpected {name!r} {array.shape}" for name, array in parameters.items() if name not in shapes]
    for name in shapes.keys() & parameters.keys():
        array, allowed = parameters[name], (np.int64,) if name.endswith(TRACKED) else (np.float32, np.float16)
        if array.shape != shapes[name]:
            problems.append(f"{name!r} is {array.shape} instead of {shapes[name]}")
        elif array.dtype not in allowed:
            problems.append(f"{name!r} is {array.dtype} instead of {' or '.join(np.dtype(t).name for t in allowed)}")
    if problems:
        shown = "; ".join(sorted(problems)[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise WeightsError(f"these are not the parameters of {expected.name} with {expected.num_classes} classes and "
                           f"{expected.in_chans} input channels: {shown}")
    for name, array in parameters.items():
        if not np.isfinite(array).all():
            raise WeightsError(f"{name!r} holds {array[~np.isfinite(array)][0]}: every weight must be finite; "
                               "the training run that wrote it has diverged")
        if name.endswith("running_var") and array.min() < 0:
            raise WeightsError(f"{name!r} holds {array.min()}: a variance can't be negative")


def check_labels(labels, num_classes: int) -> tuple[str, ...] | None:
    """Return the class names as a tuple; raises WeightsError unless there is one non-empty line for every class."""
    if labels is None:
        return None
    labels = tuple(labels)
    if len(labels) != num_classes:
        raise WeightsError(f"{len(labels)} labels for {num_classes} classes: give one label a class, in order")
    for i, label in enumerate(labels):
        if not label.strip() or len(label.splitlines()) != 1:
            raise WeightsError(f"label {i} is {label!r}: a label is one line of text that is not empty")
    return labels


def random_weights(network: Architecture, seed: int = 0) -> Weights:
    """Make seeded weights whose activations are of ordinary size, for benchmarks and for teaching.

    Weights of variance 1 / fan-in hand the second moment of their input on; the running variance is that moment, worked
    out from layer to layer as if activations were Gaussian, so that each batch norm gives its own scale and shift.
    """
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal(1000)  # stands for the values of one channel
    parameters: dict[str, np.ndarray] = {}

    def add(conv, moment: float) -> float:
        """Add one convolution and its batch norm; second moment of the input -> of the output."""
        fan_in = math.prod(conv.weight_shape[1:])
        scale = rng.uniform(0.5, 1.5, conv.out_channels)
        shift = rng.uniform(-0.5, 1.0, conv.out_channels) if conv.relu6 else np.zeros(conv.out_channels)
        parameters[f"{conv.name}.weight"] = rng.normal(0.0, fan_in**-0.5, conv.weight_shape).astype(np.float32)
        parameters[f"{conv.bn}.weight"] = scale.astype(np.float32)
        parameters[f"{conv.bn}.bias"] = shift.astype(np.float32)
        parameters[f"{conv.bn}.running_mean"] = np.zeros(conv.out_channels, np.float32)
        parameters[f"{conv.bn}.running_var"] = np.full(conv.out_channels, moment, np.float32)
        parameters[f"{conv.bn}.{TRACKED}"] = np.array(0, np.int64)
        values = shift[:, None] + scale[:, None] * normal
        return float(np.mean((np.clip(values, 0.0, 6.0) if conv.relu6 else values) ** 2))

    moment = add(network.stem, 1.0 / 3.0)  # pixels uniform in -1..1
    for block in network.blocks:
        before = moment
        for conv in block.convs:
            moment = add(conv, moment)
        moment += before if block.skip else 0.0
    add(network.head, moment)
    parameters["classifier.weight"] = rng.normal(0.0, HEAD_CHANNELS**-0.5, (network.num_classes, HEAD_CHANNELS)).astype(np.float32)
    parameters["classifier.bias"] = np.zeros(network.num_classes, np.float32)
    return Weights(network, parameters, network.variant.preprocessing, None, Source(f"seed {seed}", "", "random"))
