"""Photos whose class is known: ImageNet-style folders of classes, or one folder with a file of labels."""
import csv
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ...common.text import listed
from ...common.text_files import LABELS, read_lines
from ...errors import ArgumentError
from ...labels import imagenet_labels, imagenet_synsets
from ..class_folders import check_folder, read_classes
from ..photo_paths import photos_below

DEVKIT = "ILSVRC2012_validation_ground_truth.txt"
SHOWN = 3  # names in a message


@dataclass(frozen=True)
class ClassNames:
    """What the classes of a network are called."""

    labels: tuple[str, ...]
    base: int = 0  # the number of the first class, where classes are numbered

    @property
    def synsets(self) -> tuple[str, ...] | None:
        """ImageNet's synset ids where these are ImageNet's 1000 classes."""
        return imagenet_synsets() if self.labels == imagenet_labels() else None

    def ways(self) -> dict[str, dict[str, int]]:
        """Each way of naming the classes: name -> class. A label that two classes share is left out."""
        count = Counter(self.labels)
        ways = {"label": {label: i for i, label in enumerate(self.labels) if count[label] == 1}}
        if self.synsets:
            ways["synset id"] = {synset: i for i, synset in enumerate(self.synsets)}
        last = self.base + len(self.labels) - 1
        ways[f"index from {self.base} to {last}"] = {str(self.base + i): i for i in range(len(self.labels))}
        return ways

    def find(self, names: list[str], what: str) -> list[int]:
        """The class of each name, all of them named in the same way.

        Labels are tried first, then synset ids, then numbers, which may have leading zeros. Raises ArgumentError where
        no way fits all: with the names that are unknown in every way or, if there are none, an example of each way. So
        it does where all are numbers of classes, but some are also labels, and those of other classes.
        """
        known = {}  # way -> the names that are known in it
        ways = self.ways()
        for way, classes in ways.items():
            found = [classes.get(name.lstrip("0") or "0" if way.startswith("index") else name) for name in names]
            if None not in found:
                self._check_clear(names, found, ways["label"], what)
                return found
            known[way] = [name for name, index in zip(names, found) if index is not None]
        rule = f"a class is named by its {' or '.join(known)}, all in the same way"
        anywhere = set().union(*known.values())
        wrong = [name for name in dict.fromkeys(names) if name not in anywhere]
        if wrong:
            raise ArgumentError(f"{what} {listed(wrong, SHOWN)}: no {max(known, key=lambda way: len(known[way]))} of "
                                f"these weights; {rule}")
        examples = [f"{some[0]!r} ({way})" for way, some in known.items() if some]
        raise ArgumentError(f"{what} are named in different ways, {' and '.join(examples)}; {rule}")

    def _check_clear(self, names: list[str], found: list[int], labels: dict[str, int], what: str) -> None:
        """Raise ArgumentError where a name that was not taken as a label is the label of another class."""
        for name, index in zip(names, found):
            if labels.get(name, index) != index:
                unknown = next(name for name in names if name not in labels)
                raise ArgumentError(f"{what} {name!r} is a label and, as a number, the class {self.labels[index]!r}; "
                                    f"{unknown!r} is no label of these weights: name all by their labels")


@dataclass
class Labelled:
    """Photos whose class is known."""

    photos: list[tuple[Path, int]]  # photo, class
    warnings: list[str]  # about them
    unlisted: list[str]  # folders that can't be listed, and why: their photos are missing


def labelled_photos(directory, names: ClassNames, labels_file=None) -> Labelled:
    """List all photos in `directory` and their classes.

    Without `labels_file` each sub-folder is a class, named as `ClassNames.find` has it. With one, its lines are

        name class      or      name,class      for photos in any order, names relative to `directory`
        class                                   for all photos of `directory`, in the order of their sorted names

    A label with spaces needs the comma, one with commas the quotes of CSV. A first line that names neither a class nor
    an existing photo is taken as a heading. A class folder may be empty. Raises ArgumentError for a folder
    or a file that can't be used.
    """
    if labels_file is None:
        return _of_folders(directory, names)
    lines = _lines(labels_file)
    if all(len(fields) == 1 for _, fields in lines):
        return _in_order(directory, labels_file, lines, names)
    return _by_name(directory, labels_file, lines, names)


def _of_folders(directory, names: ClassNames) -> Labelled:
    folders = read_classes(directory)
    counts, warnings = folders.counts(), list(folders.warnings)
    used = [label for label, count in zip(folders.labels, counts) if count]
    empty = [label for label, count in zip(folders.labels, counts) if not count]
    if empty:
        warnings.append(f"class folders with no photo: {listed(empty, SHOWN)}")
    try:
        classes = dict(zip(used, names.find(used, f"folder {str(directory)!r}: sub-folders")))
    except ArgumentError as problem:
        raise ArgumentError("; ".join([str(problem), *warnings])) from None
    return Labelled([(photo, classes[folders.labels[index]]) for photo, index in folders.photos], warnings,
                    folders.unlisted)


def _lines(labels_file) -> list[tuple[int, list[str]]]:
    """(line number, its one or two fields) of every line that is not empty."""
    found = []
    for number, line in enumerate(read_lines(labels_file, "labels file", LABELS), 1):
        if not line.strip():
            continue
        try:
            fields = _fields(line)
        except csv.Error as problem:
            raise ArgumentError(f"labels file {str(labels_file)!r}, line {number}: it is not a line of CSV "
                                f"({problem}); write name,class") from problem
        if not 1 <= len(fields) <= 2 or not all(fields):
            raise ArgumentError(f"labels file {str(labels_file)!r}, line {number}: {', '.join(fields)[:60]!r}; a line "
                                "is the name of a photo and its class (name,class or name class), or the class alone")
        found.append((number, fields))
    if not found:
        raise ArgumentError(f"labels file {str(labels_file)!r}: it is empty; write a line for each photo")
    return found


def _classes(labels_file, lines, names: ClassNames, heading: bool) -> tuple[list[int], list[str]]:
    """The classes that the lines end in, and warnings.

    heading: whether the first line may be a heading. If it is one, there is one class fewer than there are lines.
    """
    given = [fields[-1] for _, fields in lines]
    what = f"labels file {str(labels_file)!r}: classes"
    try:
        return names.find(given, what), []
    except ArgumentError as problem:
        if not heading or len(given) < 2:
            raise
        try:
            classes = names.find(given[1:], what)
        except ArgumentError:
            raise problem from None
    return classes, [f"labels file {str(labels_file)!r}: its first line, {', '.join(lines[0][1])[:60]!r}, is taken as "
                     "a heading"]


def _fields(line: str) -> list[str]:
    """A line of CSV where it has a comma; else the class is the last word."""
    if "," in line:
        return [field.strip() for field in next(csv.reader([line]))]
    return line.strip().rsplit(None, 1)


def _in_order(directory, labels_file, lines, names: ClassNames) -> Labelled:
    given = [fields[0] for _, fields in lines]
    from_one = all(name.isdigit() for name in given) and "0" not in given
    if names.synsets and Path(labels_file).name == DEVKIT and from_one:
        raise ArgumentError(f"labels file {str(labels_file)!r}: the development kit of ILSVRC 2012 numbers classes in "
                            "its own order (ILSVRC2012_ID in its meta.mat), not in that of their synset ids; "
                            "translate its numbers to synset ids, or rename the file if that is done")
    photos, warnings, unlisted = _photos(directory)
    classes, more = _classes(labels_file, lines, names, heading=len(lines) == len(photos) + 1)
    if len(photos) != len(classes):
        raise ArgumentError(f"labels file {str(labels_file)!r}: {len(classes):,} classes for the {len(photos):,} "
                            f"photos of {str(directory)!r}; a file without names has a line for each, in their order")
    return Labelled(list(zip(sorted(photos), classes)), warnings + more, unlisted)


def _by_name(directory, labels_file, lines, names: ClassNames) -> Labelled:
    for number, fields in lines:
        if len(fields) == 1:
            raise ArgumentError(f"labels file {str(labels_file)!r}, line {number}: {fields[0]!r} alone, where other "
                                "lines have a name and a class")
    folder = check_folder(directory)
    classes, more = _classes(labels_file, lines, names, heading=not os.path.lexists(folder / lines[0][1][0]))
    given = [fields[0] for _, fields in lines[len(lines) - len(classes):]]
    photos = [folder / name for name in given]
    missing = [name for name, photo in zip(given, photos) if not os.path.lexists(photo)]
    if len(missing) == len(photos):
        raise ArgumentError(f"labels file {str(labels_file)!r}: none of its photos exists: {listed(missing, SHOWN)}; "
                            f"names are relative to the folder {str(directory)!r}")
    (most, count), = Counter(photos).most_common(1)
    if count > 1:
        raise ArgumentError(f"labels file {str(labels_file)!r}: {str(most)!r} has {count} lines; a photo has one class")
    found, warnings, unlisted = _photos(directory)
    others = set(found) - set(photos)
    if others:
        more.append(f"photos in {str(directory)!r} that the labels file does not name, left out: {len(others):,}")
    return Labelled(list(zip(photos, classes)), warnings + more, unlisted)


def _photos(directory) -> tuple[list[Path], list[str], list[str]]:
    """The photos in a folder and below, warnings, and what could not be listed."""
    warnings, unlisted = [], []
    photos = photos_below(str(check_folder(directory)), error=unlisted.append, warning=warnings.append)
    return list(map(Path, photos)), warnings, unlisted
