"""`explain` and what it returns."""
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..common.checks import whole
from ..common.paths import StrPath
from ..common.text import quoted, short
from ..display import pictures
from ..errors import ArgumentError
from ..images.image import normalise, preview
from ..model.inputs import opened
from ..model.loading import in_precision
from ..network.architecture import Architecture
from ..network.parameters import Source
from ..network.preprocessing import Preprocessing
from ..scores import softmax, top_k
from . import occlusion as occluded
from . import sums
from .blocks import BlockView, block_views, output_names
from .evidence import ClassMap, Difference, check_pool, class_maps, find_class
from .times import Times, measure_times

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..model.model import Model

THUMBNAIL = 480  # rows and columns of the photo as given, at most
MOST_PASSES = 2500  # of occlusion: half a minute of lite0 on one core


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
    patch: int | None  # rows and columns of what is covered for `ClassMap.occlusion`; None if nothing was
    sums: tuple[sums.ChannelSums, ...]  # of each K x K convolution, in the order of execution

    @property
    def scale(self) -> float:
        """The largest absolute value in any of the maps."""
        return max(float(np.abs(one.map).max()) for one in self.classes)

    @property
    def occlusion_scale(self) -> float:
        """The same of occlusion; raises ArgumentError without it."""
        return max(float(np.abs(self._falls(one)[0]).max()) for one in self.classes)

    def position(self, chosen: int | str | None = None) -> int:
        """The index in `classes` of a class by number or name; None is the most probable one, the first."""
        if chosen is None:
            return 0
        index = find_class({one.index: one.label for one in self.classes}, chosen)
        return [one.index for one in self.classes].index(index)

    def view(self, chosen: int | str | None = None, minus: int | str | None = None) -> ClassMap | Difference:
        """A class of `classes` by number or name, None for the most probable; with `minus`, less another one of them.

        Raises ArgumentError for a class that is not among them, and for a class minus itself.
        """
        one = self.position(chosen)
        if minus is None:
            return self.classes[one]
        other = self.position(minus)
        if other == one:
            raise ArgumentError(f"class {quoted(self.classes[one].label)} minus itself is nothing: subtract another "
                                "one")
        return self.classes[one].minus(self.classes[other])

    def heat_map(self, chosen: int | str | None = None, minus: int | str | None = None) -> np.ndarray:
        """Return the crop, in grey, with the map of a `view` over it, uint8 (H, W, 3).

        Red to yellow is evidence for the class, blue against it. All classes have the same `scale`, and each difference
        has its own.
        """
        one = self.view(chosen, minus)
        scale = self.scale if isinstance(one, ClassMap) else float(np.abs(one.map).max())
        return pictures.blend(self.cropped, pictures.heat(one.map, scale, self.cropped.shape[:2]))

    def occlusion_map(self, chosen: int | str | None = None, minus: int | str | None = None) -> np.ndarray:
        """Return the crop, in grey, with the occlusion of a `view` over it, uint8 (H, W, 3).

        Red to yellow is a patch that the logit, or the difference, falls without, blue one without which it rises; the
        colours have the `occlusion_scale`, or for a difference its own. Raises ArgumentError without occlusion.
        """
        one = self.view(chosen, minus)
        values = self.over_pixels(one)
        scale = self.occlusion_scale if isinstance(one, ClassMap) else float(np.abs(values).max())
        return pictures.blend(self.cropped, pictures.colours(values, scale))

    def over_pixels(self, one: ClassMap | Difference) -> np.ndarray:
        """The occlusion of a `view` for each pixel of the crop, float32 (H, W); raises ArgumentError without it."""
        return occluded.over_pixels(*self._falls(one), (self.cropped.shape[0], self.cropped.shape[1]))

    def agreement(self, one: ClassMap | Difference) -> occluded.Agreement:
        """How the two maps of a `view` compare; raises ArgumentError without occlusion."""
        return occluded.agreement(one.map, *self._falls(one), (self.cropped.shape[0], self.cropped.shape[1]))

    def _falls(self, one: ClassMap | Difference) -> tuple[np.ndarray, int]:
        """The falls of the patches, and the size of a patch."""
        if one.occlusion is None or self.patch is None:
            raise ArgumentError("this explanation was made without occlusion: call explain with occlusion=True")
        return one.occlusion, self.patch

    def to_html(self, chosen: int | str | None = None, minus: int | str | None = None) -> str:
        """Return the whole page, which needs no other file; raises ArgumentError if jinja2 is missing.

        chosen, minus: what is shown first, as for `view`.
        """
        from .page import render

        return render(self, chosen, minus)

    def _repr_html_(self) -> str:
        from ..display.notebook import explanation_html

        return explanation_html(self)

    def __repr__(self) -> str:
        first = self.classes[0]
        return (f"Explanation({short(repr(self.photo or 'photo'))}, {self.network.name}: {quoted(first.label)} "
                f"{first.probability:.2%}, {len(self.classes)} classes, {len(self.blocks)} blocks"
                f"{', int8' * (self.precision == 'int8')})")


def explain(image: "Image | np.ndarray | StrPath | BinaryIO | bytes", model: "Model | str" = "lite0", *,
            topk: int = 5, classes: Iterable[int | str] = (), exif: bool = False, max_pixels: int | None = None,
            measure: bool = True, feature_maps: int = 6, occlusion: bool = True, patch: int | None = None,
            progress: occluded.Progress | None = None) -> Explanation:
    """Show what a network saw in a photo: its input, the evidence for each class, each block's work.

    image: a photo as `Model.transform` takes it (path, binary file object, bytes of a file, PIL image, or array
        (H, W, 3))
    model: a Model, or a name such as "lite0" for the official weights; of one with precision "int8", the evidence, the
        feature maps and the times are those of the int8 network
    topk: the number of most probable classes to explain
    classes: more classes to explain, by number or by name
    exif: rotate the photo in a file according to its EXIF data
    max_pixels: the most pixels of a photo that are decoded, as for `open_image`
    measure: time the layers on one core, and measure that core's peak: takes about a second
    feature_maps: the number of feature maps per block
    occlusion: cover one patch of the input after the other and run the network again, 49 times unless `patch` is given
    patch: rows and columns of a patch, in pixels of the input; None for a seventh of the longer side
    progress: called during occlusion with the number of passes done, and of all

    Raises ArgumentError for an unknown class and for a model whose logits are not the mean of a map (no classifier, or
    a pool other than the average), ImageError for a photo that can't be read.
    """
    in_chans = 3 if isinstance(model, str) else _model(model).architecture.in_chans  # official weights have 3
    name = os.fsdecode(image) if isinstance(image, (str, os.PathLike)) else ""
    image = opened(image, in_chans, exif=exif, max_pixels=max_pixels)
    model = _model(model)
    check_pool(model.architecture)
    side = _patch(patch, model.preprocessing.input_size) if occlusion else None
    extra = [find_class(dict(enumerate(model.labels)), wish) for wish in classes]
    shown = preview(image, model.preprocessing, in_chans)
    x = normalise(shown.cropped, model.preprocessing)[None]
    made = model.activations(x, dict.fromkeys([*output_names(model.architecture).values(), "global_pool", "classifier",
                                               *sums.output_names(model.architecture)]))
    logits = made["classifier"]
    probabilities = softmax(logits)[0]
    chosen = list(dict.fromkeys([*map(int, top_k(probabilities, topk)[1]), *extra]))
    weights = in_precision(model.stored_weights(), model.precision)
    times = measure_times(weights, x, logits) if measure else None
    falls = None if side is None else occluded.falls(model, x[0], logits[0], side, progress)
    photo = shown.photo
    return Explanation(
        name, model.architecture, model.source, model.precision, model.preprocessing, (photo.height, photo.width),
        pictures.shrink(np.asarray(photo.convert("RGB")), THUMBNAIL), shown.size, _coloured(shown.resized), shown.box,
        _coloured(shown.cropped),
        class_maps(weights, made[model.architecture.head.bn][0], made["global_pool"][0], logits[0], probabilities,
                   model.labels, chosen, falls),
        block_views(model.architecture, model.architecture.layers(*x.shape[1:3]), made, times, feature_maps), times,
        side, sums.channel_sums(model.architecture, weights, x[0], made))


def _patch(patch: int | None, size: tuple[int, int]) -> int:
    """The size of a patch; raises ArgumentError for one that would need more than MOST_PASSES."""
    if patch is None:
        return occluded.usual_patch(*size)
    patch = whole("patch", patch, 1, max(size))
    passes = math.prod(math.ceil(length / patch) for length in size)
    if passes > MOST_PASSES:
        raise ArgumentError(f"patch {patch}: an input of {size[0]} x {size[1]} pixels has {passes:,} patches of this "
                            f"size, more than {MOST_PASSES:,}; choose a larger one")
    return patch


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
