"""One sub-folder for each class: which photos belong to it, which of them validate, and the errors for bad folders."""
import os
from pathlib import Path

import numpy as np
import pytest
from class_photos import save_classes
from live import needs_timm, timm
from PIL import Image

from npefficient.errors import ArgumentError
from npefficient.jobs.class_folders import check_outside, read_classes, split


def test_read_classes(tmp_path):
    save_classes(tmp_path, dog=2, cat=1, Bird=1)
    (tmp_path / "cat" / "more" / "still").mkdir(parents=True)
    for place in ("cat/more/still/z.JPG", "cat/.hidden.png", ".cache/x.png", "loose.png", "dog/notes.txt", "list.txt"):
        path = tmp_path / place
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    got = read_classes(tmp_path)
    assert got.labels == ("Bird", "cat", "dog") and got.counts() == [1, 2, 2] and got.unlisted == []
    assert got.warnings == ["photos outside the class folders, which belong to no class and are left out: 1"]
    names = [(photo.relative_to(tmp_path).as_posix(), index) for photo, index in got.photos]
    assert names == [("Bird/00.png", 0), ("cat/00.png", 1), ("cat/more/still/z.JPG", 1), ("dog/00.png", 2),
                     ("dog/01.png", 2)]


@pytest.mark.parametrize("names, expected", [
    (("1", "2", "10"), ("1", "2", "10")), (("class10", "class2", "class1"), ("class1", "class2", "class10")),
    (("Zebra", "ant", "Bee"), ("ant", "Bee", "Zebra")), (("a1b10", "a1b9", "a01b2"), ("a01b2", "a1b9", "a1b10")),
    (("n01", "n1", "N1"), ("N1", "n01", "n1")), (("x²", "x10", "x9", "²"), ("x9", "x10", "x²", "²")),
    (("٣", "2", "10"), ("2", "٣", "10")), (("10 cats", "9 dogs", "cats"), ("9 dogs", "10 cats", "cats")),
], ids=["numbers", "numbered", "capitals", "two_numbers", "ties", "superscript", "arabic_digits", "before_text"])
def test_classes_are_numbered_in_timms_order(tmp_path, names, expected):
    save_classes(tmp_path, **dict.fromkeys(names, 1))
    assert read_classes(tmp_path).labels == expected


@needs_timm
@pytest.mark.parametrize("names", [
    [str(i) for i in range(12)], [f"class{i}" for i in range(1, 12)],
    ["Zebra", "ant", "Bee", "cat 2", "cat 10", "Äffin"],
    ["a1b10", "a1b9", "a01b2", "_x", "-y", "B", "z٣", "z2", "z10"],
], ids=["numbers", "numbered", "words", "odd"])
def test_order_is_that_of_timms_reader(tmp_path, names):
    save_classes(tmp_path, **dict.fromkeys(names, 2))
    expected = timm.data.create_dataset("", root=tmp_path).reader
    got = read_classes(tmp_path)
    assert {label: i for i, label in enumerate(got.labels)} == expected.class_to_idx
    assert sorted(got.photos) == sorted((Path(path), index) for path, index in expected.samples)


@pytest.mark.parametrize("link, to, message", [
    ("a/up", ".", "a/up/b' and .*/b' are the same one, by a link, .* two classes, 'a' and 'b'; remove"),
    ("b/same", "a", "/a' and .*/b/same' are the same one, by a link, .* two classes, 'a' and 'b'; remove"),
    ("c", "a", "/a' and .*/c' are the same one, by a link, .* two classes, 'a' and 'c'; remove")], ids=["a", "b", "c"])
def test_a_link_that_makes_photos_belong_to_two_classes_is_refused(tmp_path, link, to, message):
    save_classes(tmp_path, a=2, b=2)
    os.symlink(tmp_path / to, tmp_path / link)
    with pytest.raises(ArgumentError, match=message):
        read_classes(tmp_path)


def test_read_classes_takes_a_relative_name_and_links(tmp_path, monkeypatch):
    save_classes(tmp_path / "photos", dog=1)
    save_classes(tmp_path / "elsewhere", cat=1)
    os.symlink(tmp_path / "elsewhere" / "cat", tmp_path / "photos" / "cat")
    monkeypatch.chdir(tmp_path)
    got = read_classes("photos")
    assert got.labels == ("cat", "dog") and [str(photo) for photo, _ in got.photos] == [
        os.path.join("photos", "cat", "00.png"), os.path.join("photos", "dog", "00.png")]


def test_read_classes_of_names_with_odd_characters(tmp_path):
    for name in ("-", "*", "a.txt", "ü ß", "[x]"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (1, 1)).save(tmp_path / name / "x.png")
    got = read_classes(tmp_path)
    assert got.labels == ("*", "-", "[x]", "a.txt", "ü ß") and got.counts() == [1] * 5


def test_read_classes_refuses_what_is_no_folder(tmp_path):
    with pytest.raises(ArgumentError, match="none': there is no such folder"):
        read_classes(tmp_path / "none")
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(ArgumentError, match=r"photo\.png' is not a folder"):
        read_classes(tmp_path / "photo.png")


@pytest.mark.parametrize("files, text", [
    ([], "it has no sub-folders; make one for each class"),
    (["a.png", "b.jpg", "c.txt"], r"it has no sub-folders; the photos in it \(2\) belong to no class"),
    ([".hidden/a.png"], "it has no sub-folders"),
], ids=["empty", "photos", "hidden"])
def test_read_classes_refuses_a_folder_without_sub_folders(tmp_path, files, text):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ArgumentError, match=f"folder '{tmp_path}': {text}"):
        read_classes(tmp_path)


def test_read_classes_keeps_an_empty_class(tmp_path):
    got = read_classes(save_classes(tmp_path, dog=1, cat=0))
    assert got.labels == ("cat", "dog") and got.counts() == [0, 1] and got.warnings == []


def test_read_classes_refuses_classes_that_are_all_empty(tmp_path):
    save_classes(tmp_path, dog=0, cat=0)
    (tmp_path / "cat" / "1.heic").touch()
    with pytest.raises(ArgumentError, match=f"folder '{tmp_path}': there is no photo in any of its sub-folders; left "
                                            f"out of '{tmp_path}/cat': 1 .heic, which Pillow can't read"):
        read_classes(tmp_path)


@pytest.mark.parametrize("names, warned", [
    (["train", "val"], True), (["Test", "training"], True), (["train", "test", "bus"], False), (["cat", "dog"], False)],
    ids=["parts", "case", "vehicles", "animals"])
def test_read_classes_warns_of_splits_of_a_data_set(tmp_path, names, warned):
    got = read_classes(save_classes(tmp_path, **{name: 1 for name in names}))
    assert len(got.warnings) == warned and got.labels == tuple(sorted(names))
    if warned:
        assert f"'{names[0]}', '{names[1]}' are used as classes" in got.warnings[0]
        assert f"name one of them, '{tmp_path}/{names[1]}'" in got.warnings[0]


def test_read_classes_counts_photos_that_pillow_can_not_read(tmp_path):
    save_classes(tmp_path, dog=1, cat=1)
    (tmp_path / "dog" / "1.CR2").touch()
    assert read_classes(tmp_path).warnings == [
        f"left out of '{tmp_path}/dog': 1 .cr2, which Pillow can't read; save them as JPEG"]


@pytest.mark.parametrize("refused, counts", [("dog", [1, 0]), ("dog/more", [1, 1])], ids=["class", "below"])
def test_read_classes_goes_on_without_what_can_not_be_listed(tmp_path, unlistable, refused, counts):
    save_classes(tmp_path, dog=1, cat=1)
    (tmp_path / "dog" / "more").mkdir()
    unlistable(tmp_path / refused)
    got = read_classes(tmp_path)
    assert got.counts() == counts and got.warnings == []
    assert [text.partition(";")[0] for text in got.unlisted] == [
        f"folder '{tmp_path / refused}': it can't be listed (Permission denied)"]


def test_read_classes_says_that_a_folder_can_not_be_listed(tmp_path, unlistable):
    unlistable(tmp_path)
    with pytest.raises(ArgumentError, match=f"folder '{tmp_path}': it can't be listed .Permission denied"):
        read_classes(tmp_path)


@pytest.mark.parametrize("share, expected", [
    (0.2, {2: 1, 3: 1, 5: 1, 10: 2, 100: 20}), (0.5, {2: 1, 3: 2, 5: 2, 10: 5, 100: 50}),
    (0.01, {2: 1, 3: 1, 5: 1, 10: 1, 100: 1}), (0.99, {2: 1, 3: 2, 5: 4, 10: 9, 100: 99}),
], ids=str)
def test_split_takes_the_share_of_each_class_and_leaves_one_on_each_side(share, expected):
    sizes = list(expected)
    classes = np.random.default_rng(0).permutation(np.repeat(range(len(sizes)), sizes))
    chosen = split(classes, share, 0)
    assert {sizes[i]: int(chosen[classes == i].sum()) for i in range(len(sizes))} == expected


def test_split_depends_on_the_seed_and_on_each_class_alone():
    classes = np.repeat([0, 1, 2], 20)
    first = split(classes, 0.25, 7)
    assert np.array_equal(first, split(classes, 0.25, 7)) and not np.array_equal(first, split(classes, 0.25, 8))
    assert not np.array_equal(first[:20], first[20:40])
    assert np.array_equal(split(classes[20:], 0.25, 7), first[20:])


def test_check_outside_refuses_a_file_in_a_class_alone(tmp_path):
    (tmp_path / "elsewhere" / "cats" / "more").mkdir(parents=True)
    save_classes(tmp_path / "photos", dog=1)
    (tmp_path / "photos" / "cat").symlink_to(tmp_path / "elsewhere" / "cats")
    (tmp_path / "photos" / ".hidden").mkdir()
    (tmp_path / "photos" / "dog" / "link.h5").symlink_to(tmp_path / "elsewhere" / "m.h5")
    folders = [None, tmp_path / "photos"]
    for place in ("photos/dog/m.h5", "photos/cat/more/m.h5", "elsewhere/cats/m.h5", "photos/dog/link.h5"):
        with pytest.raises(ArgumentError, match=f"{place}': it is in a folder of photos .* outside '.*/photos'"):
            check_outside([None, tmp_path / "m.h5", tmp_path / place], folders)
    for place in ("photos/m.h5", "photos/.hidden/m.h5", "elsewhere/m.h5", "photos2/m.h5"):
        check_outside([None, tmp_path / place], folders)
