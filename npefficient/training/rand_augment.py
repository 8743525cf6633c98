"""RandAugment: a few random operations on a photo, all of about the same magnitude.

Source: timm 1.0 `data/auto_augment.py` (rand_augment_transform, RandAugment, AugmentOp), after Cubuk et al.,
"RandAugment: Practical automated data augmentation with a reduced search space", https://arxiv.org/abs/1909.13719.

timm's configuration is "rand", then sections in any order, joined by "-":

    m9        magnitude, a whole number; 10 by default
    n2        operations for each photo
    p0.5      probability that an operation that was chosen is applied
    mstd0.5   standard deviation of the magnitude, 0 by default; above 100 it is uniform between 0 and the magnitude
    mmax10    largest magnitude
    inc1      operations that change more the larger the magnitude
    tweights  set of operations, one of SETS; by default INCREASING with inc1, else PLAIN
"""
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common.text import quoted
from ..errors import ArgumentError
from .operations import ARGUMENTS, GEOMETRIC, SIGNED, Operation

DENOMINATOR = 10.0  # magnitude of the level 1

PLAIN = ("AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd", "Color", "Contrast",
         "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
INCREASING = tuple(name + "Increasing" * (name + "Increasing" in ARGUMENTS) for name in PLAIN)
SETS: dict[str, dict[str, float]] = {  # operation -> weight with which it is drawn; without weights all the same
    "weights": {"Rotate": 3, "ShearX": 2, "ShearY": 2, "TranslateXRel": 1, "TranslateYRel": 1, "ColorIncreasing": 0.25,
                "SharpnessIncreasing": 0.25, "AutoContrast": 0.25, "SolarizeIncreasing": 0.05, "SolarizeAdd": 0.05,
                "ContrastIncreasing": 0.05, "BrightnessIncreasing": 0.05, "Equalize": 0.05, "PosterizeIncreasing": 0.05,
                "Invert": 0.05},
    "3a": dict.fromkeys(("SolarizeIncreasing", "Desaturate", "GaussianBlur"), 1),
    "3aw": {"SolarizeIncreasing": 6, "Desaturate": 6, "GaussianBlur": 6, "Rotate": 3, "ShearX": 2, "ShearY": 2,
            "PosterizeIncreasing": 1, "AutoContrast": 1, "ColorIncreasing": 1, "SharpnessIncreasing": 1,
            "ContrastIncreasing": 1, "BrightnessIncreasing": 1, "Equalize": 1, "Invert": 1},
}
WITHOUT_REPLACEMENT = ("weights", "3aw")  # sets of which an operation is drawn at most once for a photo


@dataclass(frozen=True)
class RandAugment:
    """A configuration of RandAugment, under timm's keys."""

    m: int = 10
    n: int = 2
    p: float = 0.5
    mstd: float = 0.0
    mmax: int = 10
    inc: int = 0
    t: str = ""

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations to draw from."""
        return tuple(SETS[self.t]) if self.t else INCREASING if self.inc else PLAIN

    def draw(self, rng: np.random.Generator, filters: tuple[str, ...]) -> tuple[Operation, ...]:
        """Draw the operations for one photo; `filters`: Pillow's names, of which a geometric operation draws one."""
        names, weights = self.operations, None
        if self.t in WITHOUT_REPLACEMENT:
            weights = np.array(list(SETS[self.t].values()))
            weights = weights / weights.sum()
        chosen = rng.choice(len(names), self.n, replace=weights is None, p=weights)
        drawn = (self._draw_operation(rng, names[i], filters) for i in chosen)
        return tuple(operation for operation in drawn if operation is not None)

    def _draw_operation(self, rng: np.random.Generator, name: str, filters: tuple[str, ...]) -> Operation | None:
        if self.p < 1 and rng.random() > self.p:
            return None
        level = self._draw_magnitude(rng) / DENOMINATOR
        sign = -1 if name in SIGNED and rng.random() > 0.5 else 1
        to_argument, interpolation = ARGUMENTS[name], None
        if name in GEOMETRIC:
            interpolation = filters[rng.integers(len(filters))] if len(filters) > 1 else filters[0]
        return Operation(name, None if to_argument is None else to_argument(level, sign), interpolation)

    def _draw_magnitude(self, rng: np.random.Generator) -> float:
        magnitude: float = self.m
        if math.isinf(self.mstd):
            magnitude = rng.uniform(0, self.m)
        elif self.mstd:
            magnitude = rng.normal(self.m, self.mstd)
        return max(0.0, min(magnitude, self.mmax))


def parse_rand_augment(text: str) -> RandAugment:
    """Read timm's configuration, such as "rand-m9-mstd0.5-inc1".

    Raises ArgumentError for another policy (timm's AutoAugment and AugMix), and for a section that is unknown, given
    twice or without a usable number, all but the last of which timm ignores.
    """
    kinds = {key: type(value) for key, value in vars(RandAugment()).items()}
    given: dict[str, Any] = {}
    policy, *sections = text.split("-")
    if policy != "rand":
        _refuse(text, f"it starts with {quoted(policy)}", "only RandAugment is known, such as 'rand-m9-mstd0.5'")
    for section in sections:
        found = re.fullmatch(r"(t)(.+)|([a-z]+)([0-9]{1,9}(?:\.[0-9]{1,9})?)", section)
        key, value = (part for part in found.groups() if part is not None) if found else ("", "")
        if key not in kinds or key in given or kinds[key] is int and not value.isdecimal():
            _refuse(text, f"section {quoted(section)}", "each is one of m9, n2, p0.5, mstd0.5, mmax10, inc1 and "
                    "tweights, given once, with a whole number after m, n, mmax and inc")
        given[key] = kinds[key](value)
    made = RandAugment(**given)
    _check(text, made)
    return RandAugment(**{**given, "mstd": math.inf}) if made.mstd > 100 else made


def _check(text: str, made: RandAugment) -> None:
    if made.t and made.t not in SETS:
        _refuse(text, f"set of operations {quoted(made.t)}", f"it must be one of {', '.join(SETS)}")
    if made.inc > 1 or made.p > 1 or made.mmax < 1:
        _refuse(text, f"inc{made.inc}, p{made.p:g}, mmax{made.mmax}",
                "inc must be 0 or 1, p a probability and mmax at least 1")
    most = len(made.operations) if made.t in WITHOUT_REPLACEMENT else 100
    if not 1 <= made.n <= most:
        _refuse(text, f"n{made.n}", f"the number of operations must be from 1 to {most}")


def _refuse(text: str, what: str, rule: str) -> None:
    raise ArgumentError(f"RandAugment {quoted(text)}: {what}; {rule}")
