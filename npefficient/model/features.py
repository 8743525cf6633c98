"""Feature maps at several resolutions, for detectors and similar heads: timm's `features_only` and `feature_info`.

Source: timm 1.0 `models/_features.py` (FeatureInfo, feature_take_indices), `models/efficientnet.py`.
"""
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common.checks import is_list, is_whole
from ..common.text import shown
from ..errors import ArgumentError
from ..network.architecture import Architecture
from .timm_names import ABSENT_OF_FEATURES, TimmModule


@dataclass(frozen=True)
class FeatureInfo(Sequence):
    """A description of a network's feature maps; `model.feature_info[i]["num_chs"]` as in timm.

    info: a dictionary for each map: "module" (timm's name), "num_chs" (channels), "reduction" (rows of the input per
        row of the map), "stage" and "index"
    out_indices: the maps that a `features_only` model returns
    """

    info: tuple[dict, ...]
    out_indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.info)

    def __getitem__(self, index: Any) -> Any:
        return self.info[index]

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """One value of `info` for each output, or for the maps `idx`: a number (one value) or a list (a list)."""
        return self._chosen(idx, lambda feature: feature[key])

    def get_dicts(self, keys: Sequence[str] | None = None, idx: int | Sequence[int] | None = None) -> Any:
        """The dictionaries of all outputs, or of the maps `idx` as in `get`; `keys` selects entries."""
        return self._chosen(idx, lambda feature: {key: feature[key] for key in feature if keys is None or key in keys})

    def _chosen(self, idx: Any, take: Callable[[dict], Any]) -> Any:
        if idx is None or isinstance(idx, (tuple, list)):
            return [take(self.info[i]) for i in (self.out_indices if idx is None else idx)]
        return take(self.info[idx])

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """The channels of each output, or of the maps `idx` as in `get`."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """The reduction of each output: rows of the input per row of the map; `idx` as in `get`."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """timm's name for the layer of each output; `idx` as in `get`."""
        return self.get("module", idx)


def feature_info(network: Architecture, out_indices: int | Iterable[int] | None = None) -> FeatureInfo:
    """The five feature maps of a network; raises ArgumentError for indices out of range."""
    info = tuple({"stage": int(feature.module.rpartition(".")[2]) + 1, "reduction": feature.reduction,
                  "module": feature.module, "num_chs": feature.num_chs, "index": i}
                 for i, feature in enumerate(network.features))
    return FeatureInfo(info, tuple(take_indices(len(info), out_indices, "out_indices")))


def take_indices(count: int, indices: int | Iterable[int] | None, what: str = "indices") -> list[int]:
    """The indices of the selected maps: all `count` for None, the last n for a number n, else those in a list.

    -1 in a list is the last map. The result is in the order of execution, without duplicates. Raises ArgumentError,
    naming `what`, for an index out of range and for an empty selection.
    """
    if indices is None:
        return list(range(count))
    if not is_list(indices):
        if is_whole(indices) and 0 < indices <= count:
            return list(range(count - indices, count))
        raise ArgumentError(f"{what} {shown(indices)}: a single number n selects the last n maps; n must be from 1 to "
                            f"{count}")
    chosen = list(indices)
    for index in chosen:
        if not is_whole(index) or not -count <= index < count:
            raise ArgumentError(f"{what} {shown(indices)}: there is no map {shown(index)}; the {count} maps count from "
                                "0, and -1 is the last")
    if not chosen:
        raise ArgumentError(f"{what} {shown(indices)}: it must select at least one of the {count} maps")
    return sorted({int(index) % count for index in chosen})


class FeatureModel(TimmModule):
    """A model that returns feature maps: float32 (N, H, W, C) -> a list of (N, h, w, c), the finest first.

    It runs only the part of the network that the maps need. It can be pickled and copied, like `model`.
    """

    absent = ABSENT_OF_FEATURES

    def __init__(self, model: Any, out_indices: int | Iterable[int] | None = None):
        self.model = model
        self.feature_info = feature_info(model.architecture, out_indices)
        self.architecture, self.pretrained_cfg = model.architecture, model.pretrained_cfg
        self.preprocessing, self.transform, self.activations = model.preprocessing, model.transform, model.activations

    def __reduce__(self) -> tuple:
        return FeatureModel, (self.model, self.feature_info.out_indices)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The layers whose outputs a call returns, by the names that `activations` takes."""
        return tuple(self.feature_info.module_name())

    def __call__(self, x: np.ndarray) -> list[np.ndarray]:
        return list(self.activations(x, self.outputs).values())

    def __repr__(self) -> str:
        return f"FeatureModel({', '.join(self.outputs)} of {self.model!r})"
