"""Teach the network classes of your own: a new last layer, fitted to photos in one folder for each class.

    photos ── the network up to its global pool ──► embeddings ── logistic regression ──► weight and bias

The rest of the network stays as it is, so each photo goes through it once (`embeddings`), and fitting takes seconds.
"""
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...common.checks import whole, word
from ...common.paths import StrPath, check_target
from ...common.text import plain
from ...errors import ArgumentError, WeightsError
from ...model.loading import in_precision, weights_to_train
from ...network.parameters import Source, Weights
from ...weights.adapt import classifier_arrays, with_classifier
from ..accuracy import confusion_matrix
from ..class_folders import (
    ClassFolders,
    check_classes,
    check_outside,
    check_val_split,
    read_classes,
    split,
    warn_of_few,
)
from ..photo_marks import photo_marks, warning_of_known
from . import linear_classifier
from .embeddings import Embeddings, Store, embed
from .finetune_result import FinetuneResult
from .linear_classifier import Linear

ROUNDING = 1e-3  # share of the largest logit that float32 may change in the fitted layer


def finetune(photos_dir: StrPath, output: StrPath | None = None, *, model: str | None = None,
             weights: Weights | StrPath | None = None, val_split: float = 0.2, seed: int = 42, refit: bool = False,
             exif: bool = False, max_pixels: int | None = None, cache: bool = True, force: bool = False,
             workers: int | None = None, batch_size: int = 1, precision: str = "float32",
             say: Callable[[str], None] = lambda text: None, progress: bool = False) -> FinetuneResult:
    """Fit a new last layer to the photos in `photos_dir`, which has a sub-folder for each class, named like the class.

    The classes are numbered in timm's order of such folders.

    output: the weight file (.h5) to write; None writes none. `force` lets it replace a file.
    model: "lite0" to "lite4"; by default that of the weights, or lite0
    weights: what to start from: a weight file, a checkpoint or `parameters.Weights`; the name of a variant, for its
        official weights. None: the official weights of `model`
    val_split: the share of each class that is kept out to choose the regularisation and to measure the accuracy (so the
        accuracy is slightly flattered)
    seed: of the split; with the same one, `train` holds out the same photos
    refit: fit once more, with the regularisation found, to all photos. Then the result has seen the validation part
        too, and the accuracy is that of the classifier before. Otherwise the result is what was measured.
    cache: keep the embeddings, so that the next run with the same network computes those of other photos only
    exif: rotate photos by their EXIF orientation; then use the network with upright photos, too
    max_pixels, workers, batch_size: as for `stream`
    precision: of the network whose features the layer is fitted to, and in which it is measured, as for `create_model`.
        With "int8", what is written is still in float32, to be used with precision="int8": the layer makes up for some
        of what 8 bits change in the features.
    say: called with each warning as it comes up
    progress: show the progress on stderr

    Photos that can't be read are left out and listed in the result. Raises ArgumentError for a folder that can't be
    used: missing, without sub-folders, fewer than two classes, a class without two photos that can be read, a name that
    can't be a label.
    """
    linear_classifier.check_installed()
    _check_arguments(val_split, seed, precision)
    if output is not None:
        from ...weights.weight_file import weight_target

        check_target(weight_target(output), force=force)
        check_outside([output], [photos_dir])
    folders, warnings = read_classes(photos_dir), []

    def warn(text: str) -> None:
        warnings.append(text)
        say(text)

    for text in [*folders.unlisted, *folders.warnings]:
        warn(text)
    check_classes(folders, photos_dir)
    base = weights_to_train(model, weights)
    photos = [photo for photo, _ in folders.photos]
    embeddings = embed(base, photos, _store(photos_dir, base, warn, exif, precision) if cache else None, exif=exif,
                       precision=precision, max_pixels=max_pixels, workers=workers, batch_size=batch_size,
                       progress=progress)
    classes = np.array([index for _, index in folders.photos])[embeddings.places]
    _check_readable(folders, classes, embeddings)
    warn_of_few(folders.labels, np.bincount(classes, minlength=len(folders.labels)), warn)

    x, validation = embeddings.values, split(classes, val_split, seed)
    fitted, trials = linear_classifier.choose(x, classes, validation)
    best = min(trials, key=lambda trial: trial.loss)
    readable = [photos[place] for place in embeddings.places]
    fitted_to = [photo for photo, chosen in zip(readable, validation) if not chosen]
    held_out = [photo for photo, chosen in zip(readable, validation) if chosen]
    if known := warning_of_known(held_out, base.source.name, base.source.photos):
        warn(known)
    made = _with_classifier(base, fitted, folders.labels, photos_dir, fitted_to, exif, precision)
    logits = _logits(made, x[validation], fitted, precision)
    predictions = logits.argmax(axis=1)
    if refit:
        fitted = linear_classifier.fit(x, classes, best.penalty)
        made = _with_classifier(base, fitted, folders.labels, photos_dir, readable, exif, precision)
        logits = _logits(made, x[validation], fitted, precision)
    if not fitted.converged:
        warn(f"the regression did not converge within {linear_classifier.ITERATIONS} iterations: its last state is "
               "used")
    if output is not None:
        _write(output, made, force, x[validation], logits, precision)
    confusion = confusion_matrix(classes[validation], predictions, len(folders.labels))
    return FinetuneResult(made, folders.labels, readable, classes, validation, predictions, confusion, trials,
                          best.penalty, refit, precision, embeddings.bad, embeddings.computed, warnings)


def _check_arguments(val_split: Any, seed: Any, precision: Any) -> None:
    from ...model.model import PRECISIONS

    check_val_split(val_split)
    whole("seed", seed, 0)
    word("precision", precision, PRECISIONS)


def _check_readable(folders: ClassFolders, classes: np.ndarray, embeddings: Embeddings) -> None:
    readable = np.bincount(classes, minlength=len(folders.labels))
    for index, (label, count) in enumerate(zip(folders.labels, folders.counts())):
        if readable[index] < 2:
            why = next(why for photo, why in embeddings.bad if (photo, index) in folders.photos)
            raise ArgumentError(f"class {label!r}: {readable[index]} of its {count} photos can be read, and it needs "
                                f"two or more; the first error: {why}")


def _store(photos_dir: StrPath, base: Weights, warn: Callable[[str], None], exif: bool,
           precision: str) -> Store | None:
    try:
        return Store(Path(photos_dir), base, warn, exif, precision)
    except ArgumentError as problem:
        warn(f"embeddings are not kept: {problem}")
        return None


def _with_classifier(base: Weights, linear: Linear, labels: tuple[str, ...], photos_dir: StrPath, fitted_to: list[Path],
                     exif: bool, precision: str) -> Weights:
    """The base with the new last layer; its source has a name, but no longer the hash of a file."""
    made = with_classifier(base, *classifier_arrays(base.architecture, linear.weight, linear.bias, labels))
    how, features = ", turned by EXIF" * exif, f" in {precision}" * (precision != "float32")
    photos = f"{len(fitted_to)} photos of {Path(photos_dir).resolve().name}"
    name = f"{base.source.name}, classifier fitted{features} to {photos}{how}"
    source = Source(plain(name), "", "finetuned", base.source.photos, photo_marks(fitted_to))
    return replace(made, source=source)


def _logits(weights: Weights, embeddings: np.ndarray, linear: Linear, precision: str) -> np.ndarray:
    """The engine's logits for embeddings, float32 (N, classes); those in float32 are checked against the fitted layer.
    """
    got, expected = _head(weights, embeddings, "float32"), linear(embeddings)
    off = float(np.abs(got - expected).max())
    if not off <= ROUNDING * max(1.0, float(np.abs(expected).max())):
        raise WeightsError(f"the fitted classifier is too coarse in float32: its logits change by {off:.3g}")
    return got if precision == "float32" else _head(weights, embeddings, precision)


def _head(weights: Weights, embeddings: np.ndarray, precision: str) -> np.ndarray:
    """Embeddings (N, features) -> logits (N, classes)."""
    from ...engine.engine import Engine

    return Engine(in_precision(weights, precision), 1).logits(embeddings)


def _write(output: StrPath, made: Weights, force: bool, held_out: np.ndarray, logits: np.ndarray,
           precision: str) -> None:
    """Write the weight file, and verify that the network read back has the logits of the one that was measured."""
    from ...weights.weight_file import read_weights, write_weights

    write_weights(output, made, force=force)
    if not np.array_equal(_head(read_weights(output), held_out, precision), logits):
        raise WeightsError(f"weight file {str(output)!r}: read back, it gives logits that differ from those of the "
                           "weights written; check the disk")
