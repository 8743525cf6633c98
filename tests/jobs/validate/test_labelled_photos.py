"""The class of each photo: class folders and label files in every form, and the errors for those that can't be used."""
import re

import pytest
from class_photos import save_classes

from npefficient.errors import ArgumentError
from npefficient.jobs.validate.labelled_photos import ClassNames, labelled_photos
from npefficient.labels import imagenet_labels, imagenet_synsets

IMAGENET = ClassNames(imagenet_labels())
FIVE = ClassNames(("cat", "dog", "hen", "cow", "ant"))


def found(directory, names, labels_file=None):
    got = labelled_photos(directory, names, labels_file)
    assert got.unlisted == []
    return [(photo.relative_to(directory).as_posix(), index) for photo, index in got.photos], got.warnings


# Names of classes


@pytest.mark.parametrize("names, given, expected", [
    (FIVE, ["hen", "cat"], [2, 0]),
    (FIVE, ["0", "4", "002", "000"], [0, 4, 2, 0]),
    (ClassNames(FIVE.labels, 1), ["1", "5", "02"], [0, 4, 1]),
    (IMAGENET, ["n01440764", "n15075141"], [0, 999]),
    (IMAGENET, ["0", "999", "0207"], [0, 999, 207]),
    (IMAGENET, ["tench, Tinca tinca", "toilet tissue, toilet paper, bathroom tissue"], [0, 999]),
    (ClassNames(("1", "10", "2")), ["2", "1"], [2, 0]),
    (ClassNames(("0", "1", "2")), ["2", "2"], [2, 2]),
    (ClassNames(("a", "b", "2")), ["0", "2"], [0, 2]),
    (FIVE, [], []),
], ids=["labels", "numbers", "from_one", "synsets", "imagenet_numbers", "imagenet_labels", "labels_before_numbers",
        "either", "one_way_for_all", "none"])
def test_find(names, given, expected):
    assert names.find(given, "folders") == expected


@pytest.mark.parametrize("names, given, text", [
    (FIVE, ["cat", "5"], "folders '5': no label of these weights; .* label or index from 0 to 4, all in the same way"),
    (FIVE, ["dog", "1", "cat", "0"], r"folders are named in different ways, 'dog' \(label\) and '1' \(index from 0 to "
     r"4\); a class is named by its label or index from 0 to 4, all in the same way"),
    (IMAGENET, ["goldfinch, Carduelis carduelis", "n01440764", "n01443537"],
     r"'goldfinch, Carduelis carduelis' \(label\) and 'n01440764' \(synset id\); "),
    (FIVE, ["cat", "1", "pig", "cow", "fox", "pig"], "folders 'pig', 'fox': no label"),
    (ClassNames(("1", "2", "3")), ["0", "1", "2"],
     "folders '1' is a label and, as a number, the class '2'; '0' is no label of these weights: name all by"),
    (FIVE, ["0", "5", "-1"], "folders '5', '-1': no index from 0 to 4"),
    (ClassNames(FIVE.labels, 1), ["0", "1"], "folders '0': no index from 1 to 5"),
    (FIVE, ["Cat", "dog"], "'Cat': no label"),
    (FIVE, list("pqrst"), "'p', 'q', 'r' and 2 more: no label"),
    (IMAGENET, ["n01440764", "n00000001"], "'n00000001': no synset id .* label or synset id or index from 0 to 999"),
    (IMAGENET, ["crane"], "'crane': no label"),
    (FIVE, ["n01440764"], "'n01440764': no label"),
], ids=["none_of_both", "mixed", "mixed_imagenet", "mixed_and_none", "label_or_number", "number", "from_one", "case",
        "many", "synset", "ambiguous", "synset_of_others"])
def test_find_refuses(names, given, text):
    with pytest.raises(ArgumentError, match=text):
        names.find(given, "folders")


def test_imagenets_synsets_belong_to_imagenets_labels():
    assert IMAGENET.synsets == imagenet_synsets() and FIVE.synsets is None


# Folders of classes


@pytest.mark.parametrize("names, folders, expected", [
    (FIVE, {"hen": 1, "ant": 2}, [("ant/00.png", 4), ("ant/01.png", 4), ("hen/00.png", 2)]),
    (FIVE, {"03": 1, "01": 1}, [("01/00.png", 1), ("03/00.png", 3)]),
    (IMAGENET, {"n15075141": 1, "n01440764": 1}, [("n01440764/00.png", 0), ("n15075141/00.png", 999)]),
], ids=["labels", "numbers", "synsets"])
def test_folders(tmp_path, names, folders, expected):
    assert found(save_classes(tmp_path, **folders), names) == (expected, [])


def test_folders_with_photos_beside_them(tmp_path):
    save_classes(tmp_path, hen=1)
    (tmp_path / "x.png").write_bytes(b"")
    text = "photos outside the class folders, which belong to no class and are left out: 1"
    assert found(tmp_path, FIVE)[1] == [text]


def test_folders_of_a_fixed_list_may_be_empty(tmp_path):
    save_classes(tmp_path, hen=1, ant=0, cat=0, cow=0, notes=0, dog=0)
    assert found(tmp_path, FIVE) == (
        [("hen/00.png", 2)], ["class folders with no photo: 'ant', 'cat', 'cow' and 2 more"])


def test_folders_that_are_parts_of_a_data_set(tmp_path):
    with pytest.raises(ArgumentError, match="sub-folders 'train', 'val': no label .*; the sub-folders 'train', 'val' "
                                            "are used as classes, but are named like the splits"):
        labelled_photos(save_classes(tmp_path, train=1, val=1), FIVE)


def test_folders_that_are_no_classes(tmp_path):
    with pytest.raises(ArgumentError, match=f"folder '{tmp_path}': sub-folders 'pig': no label"):
        labelled_photos(save_classes(tmp_path, hen=1, pig=1), FIVE)


# Files of labels


@pytest.fixture
def flat(tmp_path):
    """A folder with 00.png .. 03.png, and write(text) -> a labels file beside it."""
    folder = save_classes(tmp_path, photos=4) / "photos"

    def write(text, name="labels.txt"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    return folder, write


NAMED = [("03.png", 2), ("00.png", 0), ("02.png", 4), ("01.png", 0)]


@pytest.mark.parametrize("text", [
    "03.png,2\n00.png,0\n02.png,4\n01.png,0\n", "03.png 2\n00.png 0\n02.png 4\n01.png 0",
    "03.png\then\r\n00.png\tcat\r\n\r\n02.png\tant\r\n01.png\tcat\r\n",
    "03.png, hen\n 00.png ,cat\n02.png,ant\n01.png,cat",
    b"\xef\xbb\xbf03.png,2\n00.png,0\n02.png,4\n01.png,0",
    "03.png,2\r\n00.png,0\r\n02.png,4\r\n01.png,0\r\n".encode("utf-16"),
], ids=["csv", "words", "tabs_and_crlf", "spaces", "byte_order_mark", "utf16"])
def test_a_file_with_names(flat, text):
    folder, write = flat
    assert found(folder, FIVE, write(text)) == (NAMED, [])


def test_a_file_with_names_that_have_spaces_and_commas(flat):
    folder, write = flat
    (folder / "sub").mkdir()
    for name in ("a, b.png", "my photo.png"):
        (folder / name).write_bytes(b"")
    photos = labelled_photos(folder, IMAGENET, write('"a, b.png","tench, Tinca tinca"\nx y.png,bolete')).photos
    assert photos == [(folder / "a, b.png", 0), (folder / "x y.png", 997)]
    photos = labelled_photos(folder, FIVE, write("my photo.png cat\nsub/other one.png ant")).photos
    assert photos == [(folder / "my photo.png", 0), (folder / "sub" / "other one.png", 4)]


@pytest.mark.parametrize("text, heading, expected", [
    ("ImageId,PredictionString\n03.png,2\n00.png,0\n02.png,4\n01.png,0", "ImageId, PredictionString", NAMED),
    ("photo\tclass\n03.png\then\n00.png\tcat\n02.png\tant\n01.png\tcat", "photo, class", NAMED),
    ("label\n2\n0\n4\n0\n", "label", [(f"0{i}.png", c) for i, c in enumerate([2, 0, 4, 0])]),
], ids=["csv", "tabs", "in_order"])
def test_a_file_with_a_heading(flat, text, heading, expected):
    folder, write = flat
    file = write(text)
    assert found(folder, FIVE, file) == (expected, [
        f"labels file '{file}': its first line, '{heading}', is taken as a heading"])


def test_a_file_that_names_some_of_the_photos(flat):
    folder, write = flat
    photos, warnings = found(folder, FIVE, write("03.png,2\nnone.png,1"))
    assert photos == [("03.png", 2), ("none.png", 1)]
    assert warnings == [f"photos in '{folder}' that the labels file does not name, left out: 3"]


def test_a_file_whose_photos_are_elsewhere(flat):
    """A wrong DIR, or names with one folder too many: nothing is measured, and the error shows the names."""
    folder, write = flat
    with pytest.raises(ArgumentError, match=f"none of its photos exists: 'photos/03.png', 'photos/00.png', "
                                            f"'photos/02.png' and 1 more; names are relative to the folder '{folder}'"):
        labelled_photos(folder, FIVE, write("".join(f"photos/{name},{index}\n" for name, index in NAMED)))


def test_a_file_with_whole_paths(flat, tmp_path):
    folder, write = flat
    here, none = folder / "00.png", tmp_path / "none.png"
    assert labelled_photos(folder, FIVE, write(f"{none},1\n{here},2")).photos == [(none, 1), (here, 2)]
    with pytest.raises(ArgumentError, match=re.escape(f"none of its photos exists: '{none}'; names")):
        labelled_photos(folder, FIVE, write(f"{none},1"))


@pytest.mark.parametrize("names, text, expected", [
    (FIVE, "2\n0\n4\n\n0\n", [2, 0, 4, 0]), (ClassNames(FIVE.labels, 1), "3\n1\n5\n1", [2, 0, 4, 0]),
    (IMAGENET, "n01440764\nn15075141\nn01440764\nn01440764\n", [0, 999, 0, 0]),
    (FIVE, "hen\ncat\nant\ncat", [2, 0, 4, 0]),
], ids=["numbers", "from_one", "synsets", "labels"])
def test_a_file_in_the_order_of_the_photos(flat, names, text, expected):
    folder, write = flat
    assert found(folder, names, write(text)) == ([(f"0{i}.png", c) for i, c in enumerate(expected)], [])


@pytest.mark.parametrize("text, message", [
    ("", "labels.txt': it is empty"), ("\n \n", "it is empty"),
    ("2\n0\n4\n", "3 classes for the 4 photos of"), ("2\n" * 5, "5 classes for the 4 photos of"),
    ("00.png,cat,3\n", "line 1: '00.png, cat, 3'"), ("00.png,\n", "line 1: '00.png, '"),
    ("00.png,cat\n,dog", "line 2: ', dog'"),
    ("00.png cat\ndog\n", "line 2: 'dog' alone, where other lines have a name and a class"),
    ("00.png,cat\n01.png,dog\n00.png,dog", "00.png' has 2 lines"),
    ("photo,label\n00.png,pig\n", "classes 'label', 'pig': no label"), ("00.png,5", "classes '5': no"),
    ("00.png,label\n01.png,cat", "classes 'label': no label"), ("photo,label", "classes 'label': no label"),
    ("label\n0\n1\n2\n", "classes 'label': no index"), ("label\n0\n1\n2\n3\n4\n", "classes 'label': no index"),
    ("1\n2\n3\n5\n", "classes '5': no index from 0 to 4"), (b"00.png,caf\xe9", "can't be read as text in UTF-8"),
    ("00.png,0\n" + 200_000 * "x" + ",1", "line 2: it is not a line of CSV (field larger"),
], ids=["empty", "blank", "too_few", "too_many", "three_fields", "no_class", "no_name", "mixed", "twice",
        "more_than_a_heading", "too_large", "no_heading_but_a_photo", "heading_alone", "heading_and_too_few",
        "heading_and_too_many", "too_large_in_order", "latin1", "endless"])
def test_a_file_of_no_use(flat, text, message):
    folder, write = flat
    with pytest.raises(ArgumentError, match=f"labels file '.*{re.escape(message)}"):
        labelled_photos(folder, FIVE, write(text))


def test_a_file_that_there_is_not(flat, tmp_path):
    with pytest.raises(ArgumentError, match="none.txt': it can't be read .*No such file"):
        labelled_photos(flat[0], FIVE, tmp_path / "none.txt")


@pytest.mark.parametrize("text", ["0\n1", "00.png,1"], ids=["in_order", "by_name"])
def test_a_file_for_a_folder_that_there_is_not(flat, tmp_path, text):
    with pytest.raises(ArgumentError, match="none': there is no such folder"):
        labelled_photos(tmp_path / "none", FIVE, flat[1](text))


def test_the_development_kits_own_ground_truth_is_refused(flat):
    """Its classes are numbered in another order, which the numbers alone do not show."""
    folder, write = flat
    name = "ILSVRC2012_validation_ground_truth.txt"
    with pytest.raises(ArgumentError, match=r"ground_truth.txt'.*ILSVRC2012_ID in its meta.mat"):
        labelled_photos(folder, ClassNames(IMAGENET.labels, 1), write("490\n361\n171\n822\n", name))
    assert found(folder, IMAGENET, write("490\n0\n171\n822\n", name))[0][0] == ("00.png", 490)
    assert found(folder, IMAGENET, write("n01440764\n" * 4, name))[0][0] == ("00.png", 0)
    assert found(folder, FIVE, write("1\n2\n3\n4\n", name))[0][0] == ("00.png", 1)
