"""The parameters of one network: their names and shapes, checks, and random ones for trying out a network."""
import itertools
import math
import re
from collections.abc import Iterable, Sized
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from ..common.text import counted, plain, quoted, short
from ..errors import WeightsError
from .architecture import Architecture, Conv
from .overflow import check_overflow, largest_magnitude
from .preprocessing import Preprocessing

TRACKED = "num_batches_tracked"
PHOTO_MARK = 8  # bytes
MARKS = "photos", "classifier_photos"  # fields of a Source
RANDOM_CLASSIFIER = ", random classifier"


@dataclass(frozen=True)
class Source:
    """Where weights came from."""

    name: str  # file name
    sha256: str  # of the whole file, 64 hex digits; empty if the weights are from no file
    # "torch-zip", "torch-legacy", "safetensors", "finetuned", "trained", "memory" (arrays from the caller) or "random";
    # with RANDOM_CLASSIFIER at the end if the classifier has not been trained
    kind: str
    # the photos that layers below the classifier were trained on, and those that the classifier alone was fitted to,
    # PHOTO_MARK bytes for each (`jobs.photo_marks`)
    photos: bytes = field(default=b"", repr=False)
    classifier_photos: bytes = field(default=b"", repr=False)

    @property
    def all_photos(self) -> bytes:
        """The photos that anything of the network was fitted to."""
        return self.photos + self.classifier_photos

    @property
    def random(self) -> str:
        """Which weights are random: all ("weights"), only the "classifier", or none ("")."""
        return "weights" if self.kind == "random" else "classifier" if self.kind.endswith(RANDOM_CLASSIFIER) else ""

    def with_classifier(self, random: bool) -> "Source":
        """The same source with a new classifier: a `random` one, or none."""
        kind = self.kind.removesuffix(RANDOM_CLASSIFIER)
        kind = kind + RANDOM_CLASSIFIER if random and kind != "random" else kind
        return replace(self, kind=kind, classifier_photos=b"")


@dataclass(frozen=True)
class Weights:
    """Unfolded parameters of one network with everything needed to use them."""

    architecture: Architecture
    parameters: dict[str, np.ndarray]  # names and shapes of architecture.parameters(); float32 or float16, counts int64
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None
    source: Source

    def __repr__(self) -> str:
        return f"Weights({self.architecture.name}, {self.architecture.interface}, from {short(self.source.name)})"


class HasParameters(Protocol):
    """`Weights`, or `quantization.QuantizedWeights`."""

    @property
    def parameters(self) -> dict[str, np.ndarray]: ...


def fingerprint(weights: HasParameters, labels: tuple[str, ...]) -> str:
    """sha256 over all parameters and labels, in hex."""
    import hashlib  # importing these two takes longer than the rest of this file
    import json

    digest = hashlib.sha256(json.dumps(labels).encode())
    for name, array in sorted(weights.parameters.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def check_parameters(parameters: dict[str, np.ndarray], expected: Architecture) -> None:
    """Compare every name, shape, dtype and value with what the architecture requires.

    Raises WeightsError, in this order: for what is no plain NumPy array; with all missing, unexpected and mismatched
    names; for a value that is not finite; for a negative running variance; for a layer that can exceed float32.
    """
    for name, array in parameters.items():
        if type(array) not in (np.ndarray, np.memmap) and not isinstance(array, np.generic):
            raise WeightsError(f"{quoted(name)} is of type {type(array).__name__}: it must be a plain NumPy array")
    shapes = expected.parameters()
    problems = [f"missing {name!r} {shape}" for name, shape in shapes.items() if name not in parameters]
    problems += [f"unexpected {quoted(name)} {array.shape}" for name, array in parameters.items() if name not in shapes]
    for name in shapes.keys() & parameters.keys():
        array, allowed = parameters[name], (np.int64,) if name.endswith(TRACKED) else (np.float32, np.float16)
        if array.shape != shapes[name]:
            problems.append(f"{name!r} is {array.shape} instead of {shapes[name]}")
        elif array.dtype not in allowed:
            problems.append(f"{name!r} is {array.dtype} instead of {' or '.join(np.dtype(t).name for t in allowed)}")
    if problems:
        shown = "; ".join(sorted(problems)[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise WeightsError(f"these are not the parameters of {expected.name} ({expected.interface}): {shown}")
    for name, array in parameters.items():
        if not name.endswith(TRACKED) and not np.isfinite(largest_magnitude(array)):
            raise WeightsError(f"{name!r} holds {array[~np.isfinite(array)][0]}: every weight must be finite; "
                               "the training run that wrote it has diverged")
        if name.endswith("running_var") and array.min() < 0:
            raise WeightsError(f"{name!r} holds {array.min()}: a variance can't be negative")
    check_overflow(parameters, expected)


def check_labels(labels: Iterable[str] | None, num_classes: int) -> tuple[str, ...] | None:
    """Return the class names as a tuple; raises WeightsError unless each class has one line of plain text."""
    if labels is None:
        return None
    if not isinstance(labels, Sized):  # it may be endless
        labels = itertools.islice(labels, num_classes + 1)
    labels = tuple(labels)
    if len(labels) != num_classes:
        raise WeightsError(f"{counted(len(labels), 'label')} for {counted(num_classes, 'class')}: give one label a "
                           "class, in order")
    for i, label in enumerate(labels):
        if not isinstance(label, str) or not label.strip() or plain(label) != label:
            raise WeightsError(f"label {i} is {quoted(label)}: a label is one line of text that is not empty and has "
                               "no control characters")
    return labels


def check_source(source: Source) -> None:
    """Raise WeightsError unless name and kind are plain text, the sha256 is 64 hex digits or empty, and no photo mark
    is cut off."""
    for what, text in (("name", source.name), ("kind", source.kind)):
        if plain(text) != text:
            raise WeightsError(f"source {what} {quoted(text)}: it must be text without control characters")
    if not re.fullmatch("[0-9a-f]{64}|", source.sha256):
        raise WeightsError(f"source sha256 {quoted(source.sha256)}: it must be 64 hex digits, or empty")
    for name in MARKS:
        if len(marks := getattr(source, name)) % PHOTO_MARK:
            raise WeightsError(f"source {name} of {len(marks)} bytes: it must be {PHOTO_MARK} for each photo")


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """True if two arrays agree in dtype, shape and every bit; contiguous ones are compared in place, 1 MiB at a time.
    """
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    ours, theirs, step = one.ravel().view(np.uint8), other.ravel().view(np.uint8), 1 << 20
    return all(np.array_equal(ours[at : at + step], theirs[at : at + step]) for at in range(0, one.nbytes, step))


def random_weights(network: Architecture, seed: int = 0) -> Weights:
    """Make seeded weights with activations of ordinary size, for benchmarks and for teaching.

    Weights have variance 1 / fan-in. The running mean and variance of each channel are propagated from layer to layer
    as if activations were Gaussian and independent, so that each batch norm really normalises. The means matter: if
    they were zero, the part common to all pictures would outgrow their differences layer by layer.
    """
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal(1000)  # a sample of the values of one channel
    parameters: dict[str, np.ndarray] = {}

    def make(conv: Conv, moments: np.ndarray) -> np.ndarray:
        """Add one convolution and its batch norm; mean and variance of each channel, (2, C) -> (2, M)."""
        fan_in = math.prod(conv.weight_shape[1:])
        scale = rng.uniform(0.5, 1.5, conv.out_channels)
        shift = rng.uniform(-0.5, 1.0, conv.out_channels) if conv.relu6 else np.zeros(conv.out_channels)
        weight = rng.normal(0.0, fan_in**-0.5, conv.weight_shape)
        mix, spread = weight.sum((2, 3)), (weight**2).sum((2, 3))  # (M, C), or (C, 1) if depthwise
        depthwise = conv.op == "depthwise"
        running_mean, running_var = (gain[:, 0] * moment if depthwise else (gain * moment).sum(1)
                                     for gain, moment in zip((mix, spread), moments))
        values = dict(weight=scale, bias=shift, running_mean=running_mean, running_var=running_var)
        parameters[f"{conv.name}.weight"] = weight.astype(np.float32)
        parameters.update((f"{conv.bn}.{leaf}", array.astype(np.float32)) for leaf, array in values.items())
        parameters[f"{conv.bn}.{TRACKED}"] = np.array(0, np.int64)
        out = shift[:, None] + scale[:, None] * normal
        out = np.clip(out, 0.0, 6.0) if conv.relu6 else out
        return np.stack([out.mean(1), out.var(1)])

    uniform = np.stack([np.zeros(network.in_chans), np.full(network.in_chans, 1.0 / 3.0)])  # uniform in -1..1
    network.propagate(uniform, make, np.add)  # mean and variance of a sum of independent values
    parameters.update(random_classifier(network, rng))
    return Weights(network, parameters, network.variant.preprocessing, None, Source(f"seed {seed}", "", "random"))


def random_classifier(network: Architecture, rng: "np.random.Generator") -> dict[str, np.ndarray]:
    """The classifier's parameters, with weights of variance 1 / fan-in; none if the network has no classifier."""
    if not network.num_classes:
        return {}
    weight = rng.normal(0.0, network.head_hidden_size**-0.5, (network.num_classes, network.head_hidden_size))
    bias = np.zeros(network.num_classes, np.float32)
    return {"classifier.weight": weight.astype(np.float32), "classifier.bias": bias}
