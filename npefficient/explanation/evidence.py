"""Class activation maps: where in the photo the evidence for a class is.

The network ends with features F (h, w, C), their mean over the positions, and a linear classifier. Both are linear, so
the mean can be taken last:

    logit = sum_c weight_c mean_p F_pc + bias = mean_p (sum_c weight_c F_pc) + bias = mean_p map_p + bias

The map (h, w) of a class is the classifier applied at every position, without the bias. Nothing is approximated and no
gradient is needed. Source: Zhou et al. 2016 (arXiv:1512.04150).

The difference of two logits is linear, too: it is the mean of the difference of the maps, plus that of the biases. It
is also the logarithm of the ratio of the two probabilities.

In int8 the classifier reads the mean of each channel rounded, r_c for mean_p F_pc. Each channel's features are then
multiplied by the ratio of the two, so that the logit is still the mean of the map, plus the bias.
"""
import math
from dataclasses import dataclass

import numpy as np

from ..common.text import counted, meant, quoted
from ..errors import ArgumentError
from ..network.quantization import QuantizedWeights
from ..network.quantized_reference import quantized_rows

MOST_EXP = 700.0  # e to the power of more is beyond a float64


@dataclass(frozen=True, eq=False)
class ClassMap:
    """One class: its probability, and where its evidence is."""

    index: int
    label: str
    probability: float
    logit: float
    bias: float
    map: np.ndarray  # float32 (h, w), positive where it is evidence for the class; logit = its mean + bias
    occlusion: np.ndarray | None = None  # float32 (rows, columns) of patches: the logit's fall when one is covered

    def __repr__(self) -> str:
        return f"ClassMap({self.index}: {quoted(self.label)} {self.probability:.2%}, map {self.map.shape})"

    def minus(self, other: "ClassMap") -> "Difference":
        """What speaks for this class rather than for the other one."""
        return Difference(self, other)


@dataclass(frozen=True, eq=False)
class Difference:
    """One class minus another one: the same figures as of a class, each of them subtracted."""

    one: ClassMap
    other: ClassMap

    @property
    def label(self) -> str:
        return f"{self.one.label} minus {self.other.label}"

    def __repr__(self) -> str:
        return f"Difference({quoted(self.one.label)} minus {quoted(self.other.label)}, map {self.map.shape})"

    @property
    def logit(self) -> float:
        """The difference of the logits: the mean of the map, plus the bias."""
        return self.one.logit - self.other.logit

    @property
    def bias(self) -> float:
        return self.one.bias - self.other.bias

    @property
    def odds(self) -> float:
        """How many times as probable as the other class this one is: e to the power of the logit."""
        return math.exp(self.logit) if self.logit < MOST_EXP else math.inf

    @property
    def map(self) -> np.ndarray:
        """float32 (h, w), positive where it is evidence for the class rather than for the other one."""
        return self.one.map - self.other.map

    @property
    def occlusion(self) -> np.ndarray | None:
        """float32 (rows, columns) of patches: how far the difference of the logits falls when one is covered."""
        if self.one.occlusion is None or self.other.occlusion is None:
            return None
        return self.one.occlusion - self.other.occlusion


def class_maps(weights, features, pooled, logits, probabilities, labels, classes, falls=None) -> tuple[ClassMap, ...]:
    """The maps of these classes; features (h, w, C), pooled (C,), logits and probabilities (num_classes,).

    falls: of the logits in `occlusion`, (rows, columns, num_classes); None if it was not asked for
    """
    if isinstance(weights, QuantizedWeights):
        layer = weights.layers["classifier"]
        weight, bias = layer.weight[classes, :, 0, 0] * layer.scale[classes, None], layer.bias[classes]
        features = features * _rounding(pooled)
    else:
        weight, bias = (weights.parameters[f"classifier.{leaf}"][classes].astype(np.float32)
                        for leaf in ("weight", "bias"))
    maps = features @ weight.T  # (h, w, C) x (C, k) -> (h, w, k)
    return tuple(ClassMap(int(c), labels[c], float(probabilities[c]), float(logits[c]), float(bias[i]),
                          np.ascontiguousarray(maps[..., i]),
                          None if falls is None else np.ascontiguousarray(falls[..., c]))
                 for i, c in enumerate(classes))


def _rounding(pooled: np.ndarray) -> np.ndarray:
    """Pooled features (C,) -> the share of each that the classifier in int8 reads: about 1, or 0 for the smallest."""
    whole, scale = (part[0] for part in quantized_rows(pooled[None]))
    return np.divide(whole * scale, pooled, out=np.zeros_like(pooled), where=pooled > 0)


def check_pool(network) -> None:
    """Raise ArgumentError if the logits are not the mean of a map."""
    if not network.num_classes:
        raise ArgumentError(f"{network.name} without a classifier has no classes to explain: make the model without "
                            "num_classes=0")
    if network.global_pool != "avg":
        raise ArgumentError(f"global_pool {network.global_pool!r}: class activation maps are exact for the average "
                            "pool alone; make the model with global_pool='avg'")


def find_class(labels: dict[int, str], wish) -> int:
    """The class with this name or number: a whole label, or one of its comma-separated names.

    Case is ignored. Raises ArgumentError if there is none, or more than one.
    """
    text = str(wish).strip().casefold()
    found = [i for i, label in labels.items() if label.casefold() == text]
    found = found or [i for i, label in labels.items() if text in names_of(label)]
    if not found and text.isdecimal() and int(text) in labels:
        found = [int(text)]
    if len(found) == 1:
        return found[0]
    shown = quoted(str(wish))
    if found:
        raise ArgumentError(f"class {shown}: the classes {', '.join(map(str, found))} have this name; give a number")
    known = {name: None for label in labels.values() for name in names_of(label)}
    raise ArgumentError(f"class {shown}: none of the {counted(len(labels), 'class')} has this name or number"
                        f"{meant(text, known)}")


def names_of(label: str) -> list[str]:
    """"tench, Tinca tinca" -> ["tench", "tinca tinca"]."""
    return [name.strip().casefold() for name in label.split(",")]
