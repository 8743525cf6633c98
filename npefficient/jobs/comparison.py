"""Compare two networks: where their weights, settings and activations differ.

    compare(weights, weights)         facts (architecture, preprocessing, labels, ..) and tensors
    compare(weights, weights, image)  and every layer's activations: the first pair that differs is where they diverge
"""
import math
from dataclasses import asdict, dataclass

import numpy as np

from ..common.text import quoted, short
from ..errors import ArgumentError
from ..network.architecture import Architecture
from ..network.parameters import TRACKED, Weights


@dataclass(frozen=True)
class Fact:
    """One thing that both networks have, in words."""

    name: str
    a: str
    b: str
    counts: bool  # whether a difference makes two networks differ; that of their sources does not

    @property
    def differs(self) -> bool:
        return self.counts and self.a != self.b


@dataclass(frozen=True)
class Pair:
    """Two arrays of one name, and the place where they are farthest apart."""

    name: str
    shapes: tuple[tuple | None, tuple | None]  # None where one network has no such array
    largest: float | None  # max |a - b|; None for other shapes, and where that is no finite number
    relative: float | None  # largest / max(|a|, |b|) over both arrays; 0 where they are equal in value
    index: tuple[int, ...] | None
    values: tuple[float, float] | None  # of a and b at index

    def differs(self, tolerance: float = 0.0) -> bool:
        """True for a relative difference above `tolerance`, and where there is none (`relative` is None)."""
        return self.relative is None or self.relative > tolerance


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; `tolerance` is the relative difference that it lets pass."""

    facts: tuple[Fact, ...]
    tensors: tuple[Pair, ...]  # in the order of the network
    layers: tuple[Pair, ...]  # in the order of execution, the input first; empty without a photo
    top: tuple[list, list] | None  # with a photo, the five most probable (label, probability) of each
    tolerance: float

    def __repr__(self) -> str:
        return (f"Comparison({'the same' if self.same else 'different'}: {len(self.differing)} of {len(self.tensors)} "
                f"tensors differ, {sum(fact.differs for fact in self.facts)} settings)")

    @property
    def differing(self) -> tuple[Pair, ...]:
        """The tensors that differ by more than the tolerance."""
        return tuple(pair for pair in self.tensors if pair.differs(self.tolerance))

    @property
    def parting(self) -> Pair | None:
        """The first layer whose activations differ by more than the tolerance."""
        return next((pair for pair in self.layers if pair.differs(self.tolerance)), None)

    @property
    def same(self) -> bool:
        return not (self.differing or self.parting or any(fact.differs for fact in self.facts))


def compare(a: Weights, b: Weights, image=None, *, every_layer: bool = False, tolerance: float = 0.0) -> Comparison:
    """Compare two networks; with `image` (as `Model.transform` takes it) their activations as well.

    every_layer: each convolution and batch norm instead of the blocks' outputs
    tolerance: the largest relative difference of tensors and activations that does not count, at least 0

    Values are compared, not bytes: float16 and float32 alone do not differ, nor do different sources or numbers of
    batches that a batch norm has seen. Raises ArgumentError for a tolerance below 0 and an image that does not fit.
    """
    if not 0 <= tolerance < math.inf:
        raise ArgumentError(f"tolerance {tolerance!r}: it must be a number of at least 0, a share of the largest value")
    layers, top = (), None
    if image is not None:
        layers, top = _run(a, b, image, every_layer)
    return Comparison(_facts(a, b), _pairs(_tensors(a), _tensors(b)), layers, top, tolerance)


def layer_names(network: Architecture, every: bool = False) -> list[str]:
    """Names for `Model.activations` in the order of execution: stem, blocks, head, pool, classifier; or every layer."""
    def own(conv):
        return [conv.name, conv.bn] if every else [conv.bn]

    names = own(network.stem)
    for block in network.blocks:
        names += [name for conv in block.convs for name in own(conv)] if every else []
        names.append(block.name)
    names += own(network.head)
    return names + ["global_pool"] * bool(network.global_pool) + ["classifier"] * bool(network.num_classes)


def pair(name: str, a, b) -> Pair:
    """Compare two arrays of any numeric dtype, or an array with None where one network has none."""
    shapes = tuple(None if array is None else array.shape for array in (a, b))
    if shapes[0] != shapes[1]:
        return Pair(name, shapes, None, None, None, None)
    a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):  # overflowed activations: infinity minus infinity
        difference = np.where(a == b, 0.0, np.abs(a - b))
    index = np.unravel_index(difference.argmax(), difference.shape)  # the first NaN where there is one
    largest, scale = float(difference[index]), float(max(np.abs(a).max(), np.abs(b).max()))
    values = float(a[index]), float(b[index])
    index = tuple(int(i) for i in index)
    if not math.isfinite(largest):
        return Pair(name, shapes, None, None, index, values)
    return Pair(name, shapes, largest, largest / scale if largest else 0.0, index, values)


def _pairs(a: dict, b: dict) -> tuple[Pair, ...]:
    """Pair arrays by name: those of a in their order, then those that only b has."""
    return tuple(pair(name, a.get(name), b.get(name)) for name in {**a, **b})


def _tensors(weights: Weights) -> dict[str, np.ndarray]:
    return {name: array for name, array in weights.parameters.items() if not name.endswith(TRACKED)}


def _run(a: Weights, b: Weights, image, every: bool):
    """(layers, top five) of both networks, each with its own preprocessing of the image."""
    from ..model.model import Model
    from ..scores import softmax, top_k

    found, top = [], []
    for weights in (a, b):
        model = Model(weights)
        x = model.transform(image)[None]
        arrays = {"input": x, **model.activations(x, layer_names(model.architecture, every))}
        if model.num_classes:
            probabilities, classes = top_k(softmax(arrays["classifier"])[0], 5)
            top.append([(model.labels[c], float(p)) for p, c in zip(probabilities, classes)])
        else:
            top.append([])
        found.append(arrays)
    return _pairs(*found), tuple(top)


def _facts(a: Weights, b: Weights) -> tuple[Fact, ...]:
    def fact(name, look, counts=True):
        return Fact(name, str(look(a)), str(look(b)), counts)

    settings = zip(asdict(a.preprocessing).items(), asdict(b.preprocessing).values())
    return (
        fact("variant", lambda w: w.architecture.name),
        fact("classes", lambda w: w.architecture.num_classes),
        fact("input channels", lambda w: w.architecture.in_chans),
        fact("global pool", lambda w: w.architecture.global_pool or "none"),
        *(Fact(name, _words(one), _words(other), True) for (name, one), other in settings),
        _labels(a.labels, b.labels),
        fact("source", lambda w: f"{short(w.source.name)} ({w.source.kind})", counts=False),
        fact("sha256", lambda w: w.source.sha256[:16] or "none", counts=False),
        fact("precision", _precision, counts=False),
        fact("batches seen", _batches, counts=False),
    )


def _labels(a, b) -> Fact:
    """How many labels there are, and the first pair that differs."""
    words = ["none" if labels is None else f"{len(labels)} names" for labels in (a, b)]
    if a and b and a != b:
        i = next((i for i, (one, other) in enumerate(zip(a, b)) if one != other), None)
        if i is not None:
            words = [f"{text}, {i} is {quoted(labels[i])}" for text, labels in zip(words, (a, b))]
    return Fact("labels", *words, True)


def _words(value) -> str:
    return " ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def _precision(weights: Weights) -> str:
    return ", ".join(sorted({array.dtype.name for array in _tensors(weights).values()}))


def _batches(weights: Weights) -> str:
    counts = sorted({int(array) for name, array in weights.parameters.items() if name.endswith(TRACKED)})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
