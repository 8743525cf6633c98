"""How far the layers of one network are off from those of another, such as in 8 bits from those in float32.

An error is a root mean square over all pictures, positions and channels; as a share of the standard deviation of the
output it is comparable between layers. That of the logits tells how much the answers can change; those of the layers
before tell where it comes from.
"""
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..network.architecture import Architecture, Conv
from ..network.parameters import Weights
from ..network.quantized_reference import real
from ..scores import softmax


@dataclass(frozen=True)
class LayerDeviation:
    """One layer, or one block."""

    name: str  # timm's, of the block or the convolution
    spread: float  # the standard deviation of a's output
    error: float  # of b's output, to which all layers before it have added
    own: float  # of what b's layer puts out for a's input: what it adds by itself
    largest: float  # max |b - a|

    @property
    def share(self) -> float:
        """The error as a share of the spread, 0.05 for 5 %; infinite where only a's output is the same everywhere."""
        return _share(self.error, self.spread)

    @property
    def own_share(self) -> float:
        """`own`, likewise."""
        return _share(self.own, self.spread)


def _share(error: float, spread: float) -> float:
    return error / spread if spread else math.inf if error else 0.0


@dataclass(frozen=True)
class Answer:
    """The most probable class of a photo."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Deviation:
    """What `deviation` found; `layers[-1]` is the classifier, if there is one."""

    layers: tuple[LayerDeviation, ...]  # in the order of execution
    answers: tuple[tuple[Answer, Answer], ...]  # of a and of b for each photo; empty without a classifier

    @property
    def kept(self) -> int:
        """The photos whose most probable class is the same."""
        return sum(a.index == b.index for a, b in self.answers)

    def within(self, tolerance: float) -> bool:
        """True if no layer's error is above this share."""
        return all(layer.share <= tolerance for layer in self.layers)


def deviation(a: Weights, b: Weights, images: Iterable, *, precision: str = "int8",
              every_layer: bool = False) -> Deviation:
    """Compare the outputs of a's layers in float32 with those of b's in `precision`, on images as `Model.transform`
    takes them.

    every_layer: each convolution, with its batch norm and activation, instead of the blocks' outputs

    Raises ArgumentError for networks of different architecture or preprocessing, and where there is no image.
    """
    from ..model.loading import in_precision
    from ..model.model import Model, plain_network

    if (a.architecture, a.preprocessing) != (b.architecture, b.preprocessing):
        raise ArgumentError(f"networks {a.source.name!r} and {b.source.name!r}: layers can be compared only between "
                            "two of the same architecture and preprocessing")
    models = Model(a), Model(b, precision=precision)
    plain = plain_network(in_precision(b, precision))
    units = list(_units(a.architecture, every_layer))
    sums, answers = {unit.name: _Sums() for unit in units}, []
    for image in images:
        x = models[0].transform(image)[None]
        exact, other = (model.activations(x, [unit.output for unit in units]) for model in models)
        for unit in units:
            # The stem has the picture itself as its input in both; in plain NumPy it would take as long as all others.
            own = other[unit.output] if unit.input is None else unit.alone(plain, exact)
            sums[unit.name].add(exact[unit.output], other[unit.output], own)
        if a.architecture.num_classes:
            answers.append(tuple(_answer(model, made["classifier"]) for model, made in zip(models, (exact, other))))
    if not sums[units[0].name].count:
        raise ArgumentError("no images: give one or more to compare layers on")
    return Deviation(tuple(sums[name].result(name) for name in sums), tuple(answers))


def _answer(model: Any, logits: np.ndarray) -> Answer:
    probabilities = softmax(logits)[0]
    index = int(probabilities.argmax())
    return Answer(index, model.labels[index], float(probabilities[index]))


@dataclass(frozen=True)
class _Unit:
    """A row of the table: a block, or one of its convolutions, or one of the layers around the blocks."""

    name: str
    output: str  # by the names of `Model.activations`
    input: str | None  # None: the picture
    convs: tuple[Conv, ...] = ()
    shortcut: str | None = None  # what is added to the last convolution

    def alone(self, plain: Any, outputs: dict) -> np.ndarray:
        """The output of the plain network's unit for the input in `outputs`."""
        x = outputs[self.input]
        if self.name == "classifier":
            return plain.logits(x)
        if self.name == "global_pool":
            return plain.head_outputs(x, [self.name])[self.name]
        for conv in self.convs:
            x = plain.conv(x, conv)
        return real(x) if self.shortcut is None else x + outputs[self.shortcut]


def _units(network: Architecture, every: bool) -> Iterator[_Unit]:
    yield _Unit(network.stem.name, network.stem.bn, None, (network.stem,))
    before = network.stem.bn
    for block in network.blocks:
        *inner, last = block.convs
        shortcut = before if block.skip else None
        if every:
            for conv in inner:
                yield _Unit(conv.name, conv.bn, before, (conv,))
                before = conv.bn
            yield _Unit(last.name, block.name, before, (last,), shortcut)
        else:
            yield _Unit(block.name, block.name, before, block.convs, shortcut)
        before = block.name
    yield _Unit(network.head.name, network.head.bn, before, (network.head,))
    if network.global_pool:
        yield _Unit("global_pool", "global_pool", network.head.bn)
    if network.num_classes:
        yield _Unit("classifier", "classifier", "global_pool")


class _Sums:
    """Of one unit, over all pictures, in float64."""

    def __init__(self) -> None:
        self.count, self.total, self.squares, self.error, self.own, self.largest = 0, 0.0, 0.0, 0.0, 0.0, 0.0

    def add(self, a: np.ndarray, b: np.ndarray, alone: np.ndarray) -> None:
        """The outputs of a, of b, and of b's unit for a's input."""
        a, off, own = a.astype(np.float64), b.astype(np.float64) - a, alone.astype(np.float64) - a
        self.count += a.size
        self.total += a.sum()
        self.squares += np.square(a).sum()
        self.error += np.square(off).sum()
        self.own += np.square(own).sum()
        self.largest = max(self.largest, np.abs(off).max())

    def result(self, name: str) -> LayerDeviation:
        variance = max(0.0, self.squares / self.count - (self.total / self.count) ** 2)
        return LayerDeviation(name, *(math.sqrt(mean) for mean in (variance, self.error / self.count,
                                                                   self.own / self.count)), float(self.largest))
