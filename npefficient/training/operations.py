"""The image operations of RandAugment, with Pillow, and how a magnitude becomes their argument.

Source: timm 1.0 `data/auto_augment.py` (NAME_TO_OP, LEVEL_TO_ARG), after tensorflow/tpu
`models/official/efficientnet/autoaugment.py`. timm's operations for its AutoAugment policies alone are left out.

A magnitude m is given as the level m / 10, usually in 0..1. Operations whose name ends in "Increasing" change more the
higher the level; their namesakes run over the whole range of the argument, and so may change least in its middle.
"""
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

SOLARIZE_ADD_BELOW = 128  # only darker values are raised


@dataclass(frozen=True)
class Operation:
    """One operation on a photo."""

    name: str  # of ARGUMENTS
    argument: float | None  # in the operation's own unit; None where it has none
    interpolation: str | None  # of the operations in MATRICES and of "Rotate"; None for the others


def _increasing(level: float, sign: int) -> float:
    """A factor of Pillow's ImageEnhance: 1 changes nothing."""
    return max(0.1, 1.0 + sign * (level * 0.9))


def _enhance(level: float, sign: int) -> float:
    return level * 1.8 + 0.1


def _posterize(level: float, sign: int) -> int:
    return int(level * 4)


def _solarize(level: float, sign: int) -> int:
    return min(256, int(level * 256))


def _between(low: float, high: float, level: float) -> float:
    return max(low, min(high, low + (high - low) * level))


# Name -> (level, sign) -> argument; sign is 1 or -1, drawn for the operations in SIGNED.
ARGUMENTS: dict[str, Callable[[float, int], float] | None] = {
    "AutoContrast": None,
    "Equalize": None,
    "Invert": None,
    "Rotate": lambda level, sign: sign * (level * 30.0),  # degrees, counter-clockwise
    "Posterize": _posterize,  # bits to keep
    "PosterizeIncreasing": lambda level, sign: 4 - _posterize(level, sign),
    "Solarize": _solarize,  # values from here on are inverted
    "SolarizeIncreasing": lambda level, sign: 256 - _solarize(level, sign),
    "SolarizeAdd": lambda level, sign: min(128, int(level * 110)),  # added to the values below SOLARIZE_ADD_BELOW
    "Color": _enhance,  # factors: 0 is grey, black, the mean grey or blurred; 1 is the photo
    "Contrast": _enhance,
    "Brightness": _enhance,
    "Sharpness": _enhance,
    "ColorIncreasing": _increasing,
    "ContrastIncreasing": _increasing,
    "BrightnessIncreasing": _increasing,
    "SharpnessIncreasing": _increasing,
    "ShearX": lambda level, sign: sign * (level * 0.3),  # pixels per pixel
    "ShearY": lambda level, sign: sign * (level * 0.3),
    "TranslateXRel": lambda level, sign: sign * (level * 0.45),  # share of the width
    "TranslateYRel": lambda level, sign: sign * (level * 0.45),  # share of the height
    "Desaturate": lambda level, sign: _between(0.5, 1.0, level),  # share of the saturation that is taken away
    "GaussianBlur": lambda level, sign: _between(0.1, 2.0, level),  # standard deviation, pixels
}
SIGNED = frozenset(name for name in ARGUMENTS if name.startswith(("Rotate", "Shear", "Translate"))) | {
    "ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing"}

# Name -> (argument, width, height) -> the affine map from the output's pixels to those of the input, by rows.
MATRICES: dict[str, Callable[[float, int, int], tuple[float, ...]]] = {
    "ShearX": lambda factor, w, h: (1, factor, 0, 0, 1, 0),
    "ShearY": lambda factor, w, h: (1, 0, 0, factor, 1, 0),
    "TranslateXRel": lambda share, w, h: (1, 0, share * w, 0, 1, 0),
    "TranslateYRel": lambda share, w, h: (1, 0, 0, 0, 1, share * h),
}
GEOMETRIC = frozenset({"Rotate", *MATRICES})  # these interpolate, and fill what comes from outside the photo


def operated(image: "Image", operation: Operation, fill: tuple[int, ...]) -> "Image":
    """Apply one operation to a PIL image, RGB or grey; `fill`: the colour outside the photo, one value per band."""
    from PIL import Image

    name = operation.name
    argument: Any = operation.argument  # a number where the operation has one
    if name not in GEOMETRIC:
        return _recoloured(image, name, argument)
    how: dict[str, Any] = {"resample": Image.Resampling[str(operation.interpolation).upper()], "fillcolor": fill}
    if name == "Rotate":
        return image.rotate(argument, **how)
    return image.transform(image.size, Image.Transform.AFFINE, MATRICES[name](argument, *image.size), **how)


def _recoloured(image: "Image", name: str, argument: Any) -> "Image":
    from PIL import ImageEnhance, ImageFilter, ImageOps

    kind = name.removesuffix("Increasing")
    if kind == "AutoContrast":
        return ImageOps.autocontrast(image)
    if kind == "Equalize":
        return ImageOps.equalize(image)
    if kind == "Invert":
        return ImageOps.invert(image)
    if kind == "Posterize":  # not ImageOps.posterize: since Pillow 13 it refuses 0 bits, which some magnitudes ask for
        kept = -1 << min(8, max(0, 8 - argument))
        return image.point([i & kept for i in range(256)] * len(image.getbands()))
    if kind == "Solarize":
        return ImageOps.solarize(image, argument)
    if kind == "SolarizeAdd":
        table = [min(255, i + argument) if i < SOLARIZE_ADD_BELOW else i for i in range(256)]
        return image.point(table * len(image.getbands()))
    if kind == "GaussianBlur":
        return image.filter(ImageFilter.GaussianBlur(argument))
    if kind == "Desaturate":
        return ImageEnhance.Color(image).enhance(1.0 - argument)
    enhanced: Image = getattr(ImageEnhance, kind)(image).enhance(argument)
    return enhanced
