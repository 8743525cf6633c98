"""Which photos a run trains on and validates on."""
import numpy as np
import pytest
from class_photos import save_classes

from npefficient.errors import ArgumentError
from npefficient.jobs.class_folders import read_classes, split
from npefficient.training.dataset import read_dataset


def test_the_validation_part_is_that_of_finetune(tmp_path):
    save_classes(tmp_path, dog=10, cat=5, Bird=2)
    photos = read_classes(tmp_path).photos
    chosen = split(np.array([index for _, index in photos]), 0.4, 7)
    got = read_dataset(tmp_path, val_split=0.4, seed=7)
    assert got.labels == ("Bird", "cat", "dog")
    assert got.warnings == ["fewer than 10 photos of 'Bird', 'cat': there is little to learn from, and their accuracy "
                            "is hardly known"]
    assert got.training == [photo for photo, held_out in zip(photos, chosen) if not held_out]
    assert got.validation == [photo for photo, held_out in zip(photos, chosen) if held_out]
    assert [sum(index == i for _, index in got.validation) for i in range(3)] == [1, 2, 4]
    assert read_dataset(tmp_path, val_split=0.4, seed=8).validation != got.validation


def test_a_folder_of_its_own_to_validate_on(tmp_path):
    save_classes(tmp_path / "train", dog=10, cat=9, **{"10": 1})
    save_classes(tmp_path / "val", dog=3, cat=0)
    got = read_dataset(tmp_path / "train", tmp_path / "val")
    assert got.labels == ("10", "cat", "dog") and len(got.training) == 20
    assert got.validation == [(tmp_path / "val" / "dog" / f"{i:02}.png", 2) for i in range(3)]
    assert got.warnings == ["fewer than 10 photos of '10', 'cat': there is little to learn from",
                            "class folders with no photo: 'cat'"]


def test_warnings_of_both_folders(tmp_path, unlistable):
    for part in ("train", "val"):
        save_classes(tmp_path / part, dog=2, cat=2)
        (tmp_path / part / "loose.png").touch()
    (tmp_path / "val" / "dog" / "more").mkdir()
    unlistable(tmp_path / "val" / "dog" / "more")
    loose, _, listed, other = read_dataset(tmp_path / "train", tmp_path / "val").warnings
    assert loose == other == "photos outside the class folders, which belong to no class and are left out: 1"
    assert "more': it can't be listed (Permission denied)" in listed


@pytest.mark.parametrize("counts, val, text", [
    ({"a": 3}, None, "it has one class only, 'a'"), ({"a": 3, "b": 1}, None, "'b' has one photo only: .* to measure"),
    ({"a": 3, "b": 0}, {"a": 1}, "class 'b' has no photo: it needs one to fit, and 10"),
    ({"a": 3, "b\n": 3}, None, "its name becomes a label"), ({"a": 3, "b": 3}, {"a": 1, "c": 1}, "'c': no label of"),
    ({}, None, "it has no sub-folders"), ({"a": 3, "b": 3}, {}, "there is no such folder"),
], ids=["one", "one_photo", "no_photo", "label", "unknown", "none", "no_val"])
def test_folders_of_no_use(tmp_path, counts, val, text):
    save_classes(tmp_path / "train", **counts)
    (tmp_path / "train").mkdir(exist_ok=True)
    if val is not None:
        save_classes(tmp_path / "val", **val)
    with pytest.raises(ArgumentError, match=text):
        read_dataset(tmp_path / "train", None if val is None else tmp_path / "val")


def test_the_same_folder_to_train_and_to_validate(tmp_path):
    save_classes(tmp_path / "a", dog=2, cat=2)
    with pytest.raises(ArgumentError, match=r"a/../a' is the one to train on: name another one"):
        read_dataset(tmp_path / "a", f"{tmp_path}/a/../a")


@pytest.mark.parametrize("folder", [3, None, b"photos"])
def test_what_is_no_path_of_a_folder(folder):
    with pytest.raises(ArgumentError, match="it must be the path of a folder, text or a pathlib.Path"):
        read_dataset(folder)


@pytest.mark.parametrize("options, text", [
    ({"val_split": 0}, "val_split 0: it must be a share"), ({"val_split": "0.2"}, "val_split '0.2'"),
    ({"seed": -1}, "seed -1"), ({"seed": 1.0}, "seed 1.0"),
    ({"val_dir": 3}, "folder 3: it must be the path of a folder"), ({"val_dir": "\0"}, "no such folder")], ids=repr)
def test_options_that_can_not_be_used(tmp_path, options, text):
    with pytest.raises(ArgumentError, match=text):
        read_dataset(save_classes(tmp_path, a=2, b=2), **options)
