"""The photos of a training run: folders of classes, and a part or a folder of its own to validate on.

The rules for folders, the numbers of the classes and the choice of the validation part are those of `finetune`.
"""
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..common.checks import whole
from ..common.paths import StrPath
from ..errors import ArgumentError
from ..jobs.class_folders import check_classes, check_folder, check_val_split, read_classes, split, warn_of_few
from ..jobs.validate.labelled_photos import ClassNames, labelled_photos

Photos = list[tuple[Path, int]]  # photo, index of its class


@dataclass(frozen=True)
class Dataset:
    """Photos to train on and to validate on."""

    labels: tuple[str, ...]  # names of the classes, in timm's order
    training: Photos
    validation: Photos
    warnings: list[str]  # about the folders: what can't be listed, classes with few photos ..


def read_dataset(photos_dir: StrPath, val_dir: StrPath | None = None, *, val_split: float = 0.2,
                 seed: int = 42) -> Dataset:
    """List the photos in `photos_dir`, which has a sub-folder for each class, named like the class.

    val_dir: a folder with the photos to validate on, in sub-folders named like some of the classes
    val_split: without `val_dir`, the share of each class that is kept out to validate on
    seed: of this choice, which depends on nothing else but the number of photos in each class

    Nothing is read but the folders. Raises ArgumentError for folders that can't be used: missing, fewer than two
    classes, a class without photos enough, a name that can't be a label, a class to validate on that is none of those
    to train, the same folder twice.
    """
    check_val_split(val_split)
    seed = whole("seed", seed, 0)
    folders = read_classes(photos_dir)
    check_classes(folders, photos_dir, measured=val_dir is None)
    warnings = [*folders.unlisted, *folders.warnings]
    warn_of_few(folders.labels, folders.counts(), warnings.append, measured=val_dir is None)
    if val_dir is not None:
        val_dir = check_folder(val_dir, "a sub-folder for each class")
        if val_dir.resolve() == Path(photos_dir).resolve():
            raise ArgumentError(f"folder {str(val_dir)!r} is the one to train on: name another one to validate on, or "
                                "none, and a part of each class is kept out")
        held_out = labelled_photos(val_dir, ClassNames(folders.labels))
        return Dataset(folders.labels, folders.photos, held_out.photos,
                       [*warnings, *held_out.unlisted, *held_out.warnings])
    chosen = split(np.array([index for _, index in folders.photos]), val_split, seed)
    return Dataset(folders.labels, _where(folders.photos, ~chosen), _where(folders.photos, chosen), warnings)


def _where(photos: Photos, wanted: Iterable[bool]) -> Photos:
    return [photo for photo, taken in zip(photos, wanted) if taken]
