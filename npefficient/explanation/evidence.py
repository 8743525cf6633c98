"""Class activation maps: where in the photo the evidence for a class is.

The network ends with features F (h, w, C), their mean over the positions, and a linear classifier. Both are linear, so
the mean can be taken last:

    logit = sum_c weight_c mean_p F_pc + bias = mean_p (sum_c weight_c F_pc) + bias = mean_p map_p + bias

The map (h, w) of a class is the classifier applied at every position, without the bias. Nothing is approximated and no
gradient is needed. Source: Zhou et al. 2016 (arXiv:1512.04150).

In int8 the classifier reads the mean of each channel rounded, r_c for mean_p F_pc. Each channel's features are then
multiplied by the ratio of the two, so that the logit is still the mean of the map, plus the bias.
"""
from dataclasses import dataclass

import numpy as np

from ..common.text import counted, meant, quoted
from ..errors import ArgumentError
from ..network.quantization import QuantizedWeights
from ..network.quantized_reference import quantized_rows


@dataclass(frozen=True, eq=False)
class ClassMap:
    """One class: its probability, and where its evidence is."""

    index: int
    label: str
    probability: float
    logit: float
    bias: float
    map: np.ndarray  # float32 (h, w), positive where it is evidence for the class; logit = its mean + bias

    def __repr__(self) -> str:
        return f"ClassMap({self.index}: {quoted(self.label)} {self.probability:.2%}, map {self.map.shape})"


def class_maps(weights, features, pooled, logits, probabilities, labels, classes) -> tuple[ClassMap, ...]:
    """The maps of these classes; features (h, w, C), pooled (C,), logits and probabilities (num_classes,)."""
    if isinstance(weights, QuantizedWeights):
        layer = weights.layers["classifier"]
        weight, bias = layer.weight[classes, :, 0, 0] * layer.scale[classes, None], layer.bias[classes]
        features = features * _rounding(pooled)
    else:
        weight, bias = (weights.parameters[f"classifier.{leaf}"][classes].astype(np.float32)
                        for leaf in ("weight", "bias"))
    maps = features @ weight.T  # (h, w, C) x (C, k) -> (h, w, k)
    return tuple(ClassMap(int(c), labels[c], float(probabilities[c]), float(logits[c]), float(bias[i]),
                          np.ascontiguousarray(maps[..., i])) for i, c in enumerate(classes))


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
