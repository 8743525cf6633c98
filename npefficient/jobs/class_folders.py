"""A folder of photos sorted into classes: one sub-folder for each class, named like the class.

The classes are numbered in the order of timm's own reader of such folders (timm 1.0 `utils/misc.py`, natural_key), so
that timm can evaluate and train what is made here: 2 comes before 10, and case is ignored.
"""
import numbers
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..common.checks import path_of
from ..common.paths import StrPath
from ..errors import ArgumentError, WeightsError
from ..images.photo_file import photo_suffixes
from ..network.parameters import check_labels
from .photo_paths import photos_below

FEW = 10  # photos of a class, below which there is a warning
PARTS = frozenset(("dev", "eval", "test", "testing", "train", "training", "val", "valid", "validation"))


@dataclass(frozen=True)
class ClassFolders:
    """The classes of a folder and their photos."""

    labels: tuple[str, ...]  # names of the sub-folders, in timm's order
    photos: list[tuple[Path, int]]  # photo, index of its class; class by class, sorted within
    warnings: list[str]  # about the folder
    unlisted: list[str]  # folders that can't be listed, and why: their photos are missing

    def counts(self) -> list[int]:
        """Photos of each class; 0 for an empty folder."""
        counted = Counter(index for _, index in self.photos)
        return [counted[index] for index in range(len(self.labels))]


def read_classes(directory) -> ClassFolders:
    """List the classes and photos of `directory`.

    Each of its sub-folders is a class with all the photos in it and below, as `find_photos` finds them, which may be
    none; hidden sub-folders are skipped. Raises ArgumentError where `directory` is missing or not a folder, where it
    has no sub-folder, where none of these has a photo, and where a link makes photos belong to two classes.
    """
    directory = check_folder(directory, "a sub-folder for each class")
    names, suffixes = _listed(directory), photo_suffixes()
    labels = tuple(sorted((name for name in names if (directory / name).is_dir()), key=_natural))
    loose = sum((directory / name).is_file() and Path(name).suffix.lower() in suffixes for name in names)
    if not labels:
        beside = f"; the photos in it ({loose:,}) belong to no class" if loose else ""
        raise ArgumentError(f"folder {str(directory)!r}: it has no sub-folders{beside}; make one for each class, named "
                            "like the class, with its photos")
    warnings, unlisted = [], []
    photos = [(Path(photo), index) for index, label in enumerate(labels)
              for photo in photos_below(str(directory / label), error=unlisted.append, warning=warnings.append)]
    if not photos:
        raise ArgumentError("; ".join([f"folder {str(directory)!r}: there is no photo in any of its sub-folders",
                                       *unlisted, *warnings]))
    _check_links(photos, labels)
    if PARTS.issuperset(label.lower() for label in labels):
        warnings.append(f"the sub-folders {', '.join(map(repr, labels))} are used as classes, but are named like the "
                       f"splits of a data set: if they are, name one of them, {str(directory / labels[-1])!r}")
    if loose:
        warnings.append(f"photos outside the class folders, which belong to no class and are left out: {loose:,}")
    return ClassFolders(labels, photos, warnings, unlisted)


def _check_links(photos: list[tuple[Path, int]], labels: Sequence[str]) -> None:
    """Raise ArgumentError where one folder, by a link, is in two classes."""
    owners: dict[str, tuple[Path, int]] = {}
    for folder, index in dict.fromkeys((photo.parent, index) for photo, index in photos):
        first, owner = owners.setdefault(os.path.realpath(folder), (folder, index))
        if owner != index:
            raise ArgumentError(f"folders {str(first)!r} and {str(folder)!r} are the same one, by a link, so that its "
                                f"photos would be of two classes, {labels[owner]!r} and {labels[index]!r}; remove the "
                                "link")


def check_classes(folders: ClassFolders, photos_dir: StrPath, measured: bool = True) -> None:
    """Raise ArgumentError where the folders can't become the classes of a network.

    measured: photos are kept out of each class to measure with, so that it needs two
    """
    if len(folders.labels) < 2:
        raise ArgumentError(f"folder {str(photos_dir)!r}: it has one class only, {folders.labels[0]!r}; a classifier "
                            "needs two or more to tell apart")
    for label in folders.labels:
        try:
            check_labels([label], 1)
        except WeightsError as problem:
            raise ArgumentError(f"folder {str(Path(photos_dir) / label)!r}: its name becomes a label, which is a line "
                                "of UTF-8 text without control characters; rename it") from problem
    needs = "one to fit and one to measure with" if measured else "one to fit"
    for label, count in zip(folders.labels, folders.counts()):
        if count < 1 + measured:
            has = "has one photo only" if count else "has no photo"
            raise ArgumentError(f"class {label!r} {has}: it needs {needs}, and {FEW} or more to be any good")


def warn_of_few(labels: Sequence[str], counts: Iterable[int], warn: Callable[[str], None],
                measured: bool = True) -> None:
    """Warn of the classes with fewer than FEW photos.

    counts: photos of each class; measured: some of these are kept out to measure with
    """
    few = [repr(label) for label, count in zip(labels, counts) if count < FEW]
    if few:
        more = f" and {len(few) - 3} more" if len(few) > 3 else ""
        accuracy = ", and their accuracy is hardly known" * measured
        warn(f"fewer than {FEW} photos of {', '.join(few[:3])}{more}: there is little to learn from{accuracy}")


def check_val_split(val_split: Any) -> None:
    """Raise ArgumentError unless `val_split` is a share as `split` takes it."""
    if not isinstance(val_split, numbers.Real) or not 0 < float(val_split) < 1:
        raise ArgumentError(f"val_split {val_split!r}: it must be a share above 0 and below 1, such as 0.2")


def split(classes: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Choose the validation part, the same `share` of each class: classes (N,) -> bool (N,).

    Each class has at least one photo on each side, so it needs two. The choice within a class depends only on `seed`,
    the class's index and its number of photos.
    """
    chosen = np.zeros(len(classes), bool)
    for index in np.unique(classes):
        own = np.flatnonzero(classes == index)
        count = min(max(round(share * len(own)), 1), len(own) - 1)
        chosen[np.random.default_rng([seed, index]).permutation(own)[:count]] = True
    return chosen


def check_folder(directory, holds: str = "the photos") -> Path:
    """The path of a folder; raises ArgumentError where it is missing or not a folder. `holds`: what should be in it."""
    directory = path_of("folder", directory, "a folder")
    if not os.path.lexists(directory):
        raise ArgumentError(f"folder {str(directory)!r}: there is no such folder; check the path")
    if not directory.is_dir():
        raise ArgumentError(f"{str(directory)!r} is not a folder: name the one that holds {holds}")
    return directory


def check_outside(outputs: Iterable[StrPath | None], folders: Iterable[StrPath | None]) -> None:
    """Raise ArgumentError for a file to write in the folder of a class, where the next run would find it.

    folders: those that have a sub-folder for each class; also raises as `check_folder` does. None stands for no file
    and no folder.
    """
    for folder in folders:
        if folder is None:
            continue
        directory = check_folder(folder, "a sub-folder for each class")
        classes = {os.path.realpath(directory / name) for name in _listed(directory)}  # by a link, a class is elsewhere
        for output in outputs:
            place = None if output is None else Path(os.path.realpath(Path(output).parent))
            if place and not classes.isdisjoint(map(str, (place, *place.parents))):
                raise ArgumentError(f"{str(output)!r}: it is in a folder of photos of this run, and pictures there are "
                                    f"taken for photos of that class; name a place outside {str(folder)!r}")


def _natural(name: str) -> tuple[list, str]:
    """timm's sort key, then the name itself, where the key is the same as for "a1" and "A01"."""
    pieces = re.split(r"(\d+)", name.lower())  # text and digits in turn
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], name


def _listed(directory: Path) -> list[str]:
    """The sorted names in `directory`, without hidden ones."""
    try:
        return sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except OSError as problem:
        raise ArgumentError(f"folder {str(directory)!r}: it can't be listed ({problem.strerror}); change its "
                            "permissions") from problem
