"""The five variants: how each is scaled, how it takes a photo, its official weights, and its names."""
import fnmatch
from dataclasses import dataclass

from .errors import ArgumentError
from .preprocessing import Preprocessing
from .text import meant

RELEASE = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
TAG = "in1k"  # timm's, of the official weights
MODEL_CARD = "timm 1.0 results-imagenet.csv"


@dataclass(frozen=True)
class Variant:
    """The scaling factors of one variant and what was published about it."""

    name: str
    width: float
    depth: float
    preprocessing: Preprocessing
    top1: float  # per cent, ImageNet-1k validation, at preprocessing.input_size
    top5: float
    file: str  # the official checkpoint; the hex digits are the first eight of its sha256
    file_size: int  # bytes

    @property
    def short_name(self) -> str:
        return self.name.removeprefix("tf_efficientnet_")

    @property
    def sha256_prefix(self) -> str:
        return self.file.rsplit("-", 1)[1].removesuffix(".pth")

    @property
    def url(self) -> str:
        return RELEASE + self.file


def _variant(short, width, depth, size, crop_pct, interpolation, top1, top5, digest, file_size):
    name = f"tf_efficientnet_{short}"
    preprocessing = Preprocessing((size, size), crop_pct, interpolation)
    return Variant(name, width, depth, preprocessing, top1, top5, f"{name}-{digest}.pth", file_size)


VARIANTS = {
    v.name: v
    for v in (
        _variant("lite0", 1.0, 1.0, 224, 0.875, "bicubic", 74.83, 92.17, "0aa007d2", 18_820_223),
        _variant("lite1", 1.0, 1.1, 240, 0.882, "bicubic", 76.67, 93.24, "bde8b488", 21_939_331),
        _variant("lite2", 1.1, 1.2, 260, 0.890, "bicubic", 77.48, 93.75, "dcccb7df", 24_658_687),
        _variant("lite3", 1.2, 1.4, 300, 0.904, "bilinear", 79.83, 94.91, "b733e338", 33_161_413),
        _variant("lite4", 1.4, 1.8, 380, 0.920, "bilinear", 81.54, 95.66, "741542c3", 52_558_819),
    )
}


def canonical_name(name: str) -> str:
    """Return the full name for "lite0", "tf_efficientnet_lite0" or timm's "tf_efficientnet_lite0.in1k".

    Raises ArgumentError for any other name, with the nearest known one.
    """
    known = {**{n: n for n in VARIANTS}, **{v.short_name: n for n, v in VARIANTS.items()}}
    plain = str(name).removesuffix(f".{TAG}")
    if plain in known:
        return known[plain]
    port = f"tf_{plain.split('.')[0]}"  # without the tag of a training, such as ".ra_in1k"
    if port in known:
        raise ArgumentError(
            f"model {name!r} is timm's own training of this network, with symmetric padding and another normalisation; "
            f"only the TensorFlow port is known here: use {port!r}"
        )
    raise ArgumentError(f"unknown model {name!r}: known are lite0 to lite4{meant(plain.lower(), known)}")


def list_models(filter: str = "*", *, pretrained: bool = False) -> list[str]:
    """Return the full names of the variants that match a shell-style pattern, such as "*lite[0-2]", as timm sorts them.

    pretrained: with the tag of their weights, as `list_pretrained`
    """
    if pretrained:
        return list_pretrained(filter)
    return sorted(variant.name for variant in VARIANTS.values() if _matches(filter, variant.name, variant.short_name))


def list_pretrained(filter: str = "*") -> list[str]:
    """Return the same names with the tag of their weights, such as "tf_efficientnet_lite0.in1k"."""
    return [f"{name}.{TAG}" for name in list_models()
            if _matches(filter, name, VARIANTS[name].short_name, f"{name}.{TAG}")]


def _matches(pattern, *names) -> bool:
    if not isinstance(pattern, str):
        raise ArgumentError(f"filter {pattern!r}: it must be a pattern such as '*lite[0-2]'")
    return any(fnmatch.fnmatch(name, pattern) for name in names)
