"""How often a network is right on photos whose class is known."""
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...common.paths import StrPath
from ...common.progress import Progress
from ...common.text import counted, plain
from ...errors import ArgumentError
from ...images.photo_file import check_in_chans
from ...images.tensorflow import check_tf_preprocessing, tf_transform
from ...network.architecture import IMAGENET_CLASSES
from ..accuracy import describe, top_k_hits, wilson_interval
from ..photo_marks import count_marked
from ..stream import stream
from .labelled_photos import ClassNames, labelled_photos

if TYPE_CHECKING:
    from ...model.model import Model

PREPROCESS = ("timm", "tf")
K = 5  # of top-5; needs as many classes


@dataclass(frozen=True)
class Validation:
    """Right and wrong answers for photos whose class is known."""

    names: ClassNames
    photos: list[Path]  # those that could be read
    classes: np.ndarray  # int64 (photos,)
    predictions: np.ndarray  # int64 (photos,): the most probable class
    among5: np.ndarray | None  # bool (photos,): the right class is among the 5 most probable; None with fewer classes
    bad: list[tuple[Path, str]]  # photos that could not be read, and why
    published: tuple[float, float] | None  # shares, top-1 and top-5, where the weights are the official ones
    warnings: list[str]
    unlisted: list[str]  # folders that could not be listed, and why: their photos are missing
    fitted_to: int = 0  # photos that the weights were fitted to: on new ones they are less accurate

    def __repr__(self) -> str:
        five = "" if self.top5 is None else f", top-5 {describe(self.top5, len(self.photos))}"
        return f"Validation(top-1 {describe(self.top1, len(self.photos))}{five}, {len(self.bad):,} unreadable)"

    @property
    def top1(self) -> int:
        """Photos whose most probable class is the right one."""
        return int((self.predictions == self.classes).sum())

    @property
    def top5(self) -> int | None:
        return None if self.among5 is None else int(self.among5.sum())

    def per_class(self) -> list[dict]:
        """For each class that has photos: index, synset id (or None), label, photos, top-1 and top-5 counts."""
        def count(which: Any) -> list[int]:
            counts: list[int] = np.bincount(self.classes[which], minlength=len(self.names.labels)).tolist()
            return counts

        total, first = count(slice(None)), count(self.predictions == self.classes)
        five = [None] * len(total) if self.among5 is None else count(self.among5)
        synsets = self.names.synsets or [None] * len(total)
        return [{"class": i, "synset": synsets[i], "label": self.names.labels[i], "photos": total[i], "top1": first[i],
                 "top5": five[i]} for i in range(len(total)) if total[i]]

    def figures(self) -> dict:
        """All of it, as a dictionary for JSON."""
        def share(hits: int | None) -> dict | None:
            return None if hits is None else {
                "correct": hits, "accuracy": hits / len(self.photos) if self.photos else None,
                "interval": list(wilson_interval(hits, len(self.photos)))}

        published = self.published and {"top1": self.published[0], "top5": self.published[1]}
        return {"photos": len(self.photos), "top1": share(self.top1), "top5": share(self.top5), "published": published,
                "fitted_to": self.fitted_to, "warnings": self.warnings, "unlisted": self.unlisted,
                "classes": self.per_class(),
                "unreadable": [{"photo": plain(photo), "error": plain(error)} for photo, error in self.bad]}


def validate(model: "Model", directory: StrPath, *, labels_file: StrPath | None = None, labels_base: int = 0,
             preprocess: str = "timm", exif: bool = False, max_pixels: int | None = None, workers: int | None = None,
             batch_size: int = 1, say: Callable[[str], None] = lambda text: None,
             progress: bool = False) -> Validation:
    """Count the right answers of `model` for the photos in `directory`.

    model: a Model; make it with num_threads=1, the workers share the processors
    directory: a sub-folder for each class, named by label, synset id or number; with `labels_file` any folder (see
        `jobs.validate.labelled_photos`)
    labels_base: the number of the first class where classes are numbered: 0, or 1
    preprocess: "timm" for the model's own, "tf" for TensorFlow's (`npefficient.images.tensorflow`)
    exif, max_pixels, workers, batch_size: as for `stream`
    say: called with each warning as it comes up
    progress: show the progress on stderr

    Photos that can't be read are left out and listed in the result. Raises ArgumentError for a folder or file of labels
    that can't be used, and for weights that have no classes or take no photos.
    """
    from ...model.model import check_model

    check_model(model)
    if not model.num_classes:
        raise ArgumentError(f"{model!r}: validating needs a classifier")
    check_in_chans(model.architecture.in_chans)
    if labels_base not in (0, 1):
        raise ArgumentError(f"labels_base {labels_base!r}: it must be 0 or 1")
    transform = _preprocess(preprocess, model)
    names = ClassNames(tuple(model.labels), labels_base)
    found = labelled_photos(directory, names, labels_file)
    labelled = found.photos
    photos = [photo for photo, _ in labelled]
    fitted_to, warnings = count_marked(photos, model.source.all_photos), list(found.warnings)
    if fitted_to:
        warnings.append(f"warning: these weights were fitted to {fitted_to:,} of these "
                        f"{counted(len(photos), 'photo')}: the figures are too high for new photos; validate on photos "
                        "that they have not seen")
    for warning in [*found.unlisted, *warnings]:
        say(warning)
    outcomes = stream(model, photos, batch_size=batch_size, workers=workers, exif=exif,
                      max_pixels=max_pixels, preprocess=transform)
    answers, bad = [], []
    shown = Progress(len(labelled)) if progress else contextlib.nullcontext()
    with contextlib.closing(outcomes), shown as counter:
        for (photo, right), outcome in zip(labelled, outcomes):
            if outcome.outputs is not None:
                answers.append((photo, right, *_answer(outcome.outputs["classifier"], right)))
            else:
                bad.append((photo, str(outcome.error)))
            if counter:
                counter.advance()
    answered, classes, predictions, among5 = zip(*answers) if answers else ((), (), (), ())
    return Validation(names, list(answered), np.array(classes, np.int64), np.array(predictions, np.int64),
                      np.array(among5, bool) if model.num_classes >= K else None, bad, _published(model), warnings,
                      found.unlisted, fitted_to)


def _answer(logits: np.ndarray, right: int) -> tuple[int, bool]:
    """The most probable class, and whether the right one is among the five most probable."""
    return int(logits.argmax()), bool(top_k_hits(logits[None], [right], K)[0])


def _preprocess(preprocess: str, model: "Model") -> Callable | None:
    if preprocess not in PREPROCESS:
        raise ArgumentError(f"preprocess {preprocess!r}: it must be 'timm' or 'tf'")
    if preprocess == "timm":
        return None
    if model.architecture.in_chans != 3:
        raise ArgumentError(f"{model!r}: TensorFlow's preprocessing makes inputs of 3 channels; use timm's")
    check_tf_preprocessing(model.preprocessing)
    return lambda image: tf_transform(image, model.preprocessing)


def _published(model: "Model") -> tuple[float, float] | None:
    """timm's figures, where these weights are the official ones and the input has the size they were measured with."""
    variant = model.architecture.variant
    official = variant.is_official(model.source.sha256) and model.num_classes == IMAGENET_CLASSES
    if not official or model.preprocessing != variant.preprocessing:
        return None
    return round(variant.top1 / 100, 4), round(variant.top5 / 100, 4)  # timm's per cent have two decimals
