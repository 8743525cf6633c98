"""`explain` and what it returns."""
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..common.text import quoted, short
from ..display import pictures
from ..errors import ArgumentError
from ..images.image import normalise, open_image, preview
from ..model.loading import in_precision
from ..network.architecture import Architecture
from ..network.parameters import Source
from ..network.preprocessing import Preprocessing
from ..scores import softmax, top_k
from .blocks import BlockView, block_views, output_names
from .evidence import ClassMap, check_pool, class_maps, find_class
from .times import Times, measure_times

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..model.model import Model

THUMBNAIL = 480  # rows and columns of the photo as given, at most


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """What a network saw in a photo. Pictures are uint8 (rows, columns, 3), sizes (rows, columns)."""

    photo: str  # its path; empty if there is none
    network: Architecture
    source: Source  # of the weights
    precision: str  # "float32" or "int8", of what was computed: evidence, feature maps and times
    preprocessing: Preprocessing
    photo_size: tuple[int, int]
    given: np.ndarray  # the photo, shrunk to at most THUMBNAIL rows and columns
    resized_size: tuple[int, int]
    resized: np.ndarray  # the resized photo; if it is very large, only the part around the crop
    box: tuple[int, int, int, int]  # the crop in `resized`: first row, first column, rows, columns; it may overhang
    cropped: np.ndarray  # what the network sees
    classes: tuple[ClassMap, ...]  # the most probable first, then the requested ones
    blocks: tuple[BlockView, ...]  # in the order of execution
    times: Times | None  # None if they were not measured

    @property
    def scale(self) -> float:
        """The largest absolute value in any of the maps."""
        return max(float(np.abs(one.map).max()) for one in self.classes)

    def position(self, chosen: int | str | None = None) -> int:
        """The index in `classes` of a class by number or name; None is the most probable one, the first."""
        if chosen is None:
            return 0
        index = find_class({one.index: one.label for one in self.classes}, chosen)
        return [one.index for one in self.classes].index(index)

    def heat_map(self, chosen: int | str | None = None) -> np.ndarray:
        """Return the crop, in grey, with the map of one class over it, uint8 (H, W, 3).

        chosen: a class of `classes` by number or name, None for the most probable. Red to yellow is evidence for the
        class, blue against it; all classes have the same `scale`.
        """
        one = self.classes[self.position(chosen)]
        return pictures.blend(self.cropped, pictures.heat(one.map, self.scale, self.cropped.shape[:2]))

    def to_html(self, chosen: int | str | None = None) -> str:
        """Return the whole page, which needs no other file; raises ArgumentError if jinja2 is missing.

        chosen: the class whose map is shown first, as for `heat_map`.
        """
        from .page import render

        return render(self, self.position(chosen))

    def _repr_html_(self) -> str:
        from ..display.notebook import explanation_html

        return explanation_html(self)

    def __repr__(self) -> str:
        first = self.classes[0]
        return (f"Explanation({short(repr(self.photo or 'photo'))}, {self.network.name}: {quoted(first.label)} "
                f"{first.probability:.2%}, {len(self.classes)} classes, {len(self.blocks)} blocks"
                f"{', int8' * (self.precision == 'int8')})")


def explain(image: "Image | np.ndarray | str | Path", model: "Model | str" = "lite0", *, topk: int = 5,
            classes: Iterable[int | str] = (), exif: bool = False, max_pixels: int | None = None, measure: bool = True,
            feature_maps: int = 6) -> Explanation:
    """Show what a network saw in a photo: its input, the evidence for each class, each block's work.

    image: a photo as `Model.transform` takes it (PIL image, path, or array (H, W, 3))
    model: a Model, or a name such as "lite0" for the official weights; of one with precision "int8", the evidence, the
        feature maps and the times are those of the int8 network
    topk: the number of most probable classes to explain
    classes: more classes to explain, by number or by name
    exif: rotate the photo in a file according to its EXIF data
    max_pixels: the largest file to decode, as for `open_image`
    measure: time the layers on one core, and measure that core's peak: takes about a second
    feature_maps: the number of feature maps per block

    Raises ArgumentError for an unknown class and for a model whose logits are not the mean of a map (no classifier, or
    a pool other than the average), ImageError for a photo that can't be read.
    """
    in_chans = 3 if isinstance(model, str) else _model(model).architecture.in_chans  # official weights have 3
    name = str(image) if isinstance(image, (str, Path)) else ""
    if isinstance(image, (str, Path)):
        image = open_image(image, exif=exif, max_pixels=max_pixels, in_chans=in_chans)
    model = _model(model)
    check_pool(model.architecture)
    extra = [find_class(dict(enumerate(model.labels)), wish) for wish in classes]
    shown = preview(image, model.preprocessing, in_chans)
    x = normalise(shown.cropped, model.preprocessing)[None]
    made = model.activations(x, [*output_names(model.architecture).values(), "global_pool", "classifier"])
    logits = made["classifier"]
    probabilities = softmax(logits)[0]
    chosen = list(dict.fromkeys([*map(int, top_k(probabilities, topk)[1]), *extra]))
    weights = in_precision(model.stored_weights(), model.precision)
    times = measure_times(weights, x, logits) if measure else None
    photo = shown.photo
    return Explanation(
        name, model.architecture, model.source, model.precision, model.preprocessing, (photo.height, photo.width),
        pictures.shrink(np.asarray(photo.convert("RGB")), THUMBNAIL), shown.size, _coloured(shown.resized), shown.box,
        _coloured(shown.cropped),
        class_maps(weights, made[model.architecture.head.bn][0], made["global_pool"][0], logits[0], probabilities,
                   model.labels, chosen),
        block_views(model.architecture, model.architecture.layers(*x.shape[1:3]), made, times, feature_maps), times)


def _coloured(pixels: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) unchanged; (h, w, 1), the input of a network with one channel, as (h, w, 3)."""
    return np.repeat(pixels, 3 // pixels.shape[2], axis=2)


def _model(model: "Model | str") -> "Model":
    from ..model.model import Model, create_model

    if isinstance(model, str):
        return create_model(model, pretrained=True)
    if not isinstance(model, Model):
        raise ArgumentError(f"model of type {type(model).__name__}: it must be a Model of npefficient.create_model, or "
                            "a name such as 'lite0'")
    return model
