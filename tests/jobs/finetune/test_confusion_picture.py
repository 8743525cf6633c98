"""The picture of a confusion matrix: what it shows, and which arguments it refuses."""
import sys

import numpy as np
import pytest
from matplotlib import font_manager
from PIL import Image

from npefficient.common.picture_files import check_matplotlib, check_picture
from npefficient.errors import ArgumentError
from npefficient.jobs.finetune import confusion_picture
from npefficient.jobs.finetune.confusion_picture import LONGEST, _figure, _fonts, _shortened, draw_confusion


def confusion(classes):
    rng = np.random.default_rng(classes)
    return np.diag(rng.integers(1, 9, classes)) + (rng.random((classes, classes)) < 0.03)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_the_picture_is_large_enough_to_read(tmp_path, classes):
    draw_confusion(confusion(classes), [f"class {i}" for i in range(classes)], tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > max(400, 25 * classes)
        assert max(picture.size) < 4500 and len(picture.convert("RGB").getcolors(2**24)) > 20


@pytest.mark.parametrize("kind, start", [("pdf", b"%PDF"), ("svg", b"<?xml"), ("JPG", b"\xff\xd8")])
def test_the_suffix_decides_the_kind_of_picture(tmp_path, kind, start):
    path = tmp_path / f"c.{kind}"
    draw_confusion(confusion(3), "abc", path)
    assert path.read_bytes().startswith(start) and list(tmp_path.iterdir()) == [path]


def texts(figure):
    axes = figure.axes[0]
    return [text.get_text() for text in axes.texts], [label.get_text() for label in axes.get_yticklabels()]


def test_every_cell_that_is_not_zero_shows_its_count():
    counts, names = texts(_figure(np.array([[3, 0], [12, 4]]), ["cat", "dog"]))
    assert sorted(counts) == ["12", "3", "4"] and names == ["cat", "dog"]
    figure = _figure(np.array([[3, 0], [12, 4]]), ["cat", "dog"])
    assert figure.axes[0].get_title() == "7 of 19 right"
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[1, 0], [0.75, 0.25]])


def test_a_class_without_photos_is_white():
    assert _figure(np.array([[0, 0], [0, 4]]), "ab").axes[0].images[0].get_array()[0].tolist() == [0, 0]


def test_many_classes_have_some_names_and_no_counts():
    counts, names = texts(_figure(confusion(450), [str(i) for i in range(450)]))
    assert counts == [] and names == [str(i) for i in range(0, 450, 5)]


def test_many_wrong_answers_have_names_and_no_counts():
    counts, names = texts(_figure(np.ones((50, 50), int), [str(i) for i in range(50)]))
    assert counts == [] and len(names) == 50


def test_labels_are_plain_text(tmp_path):
    """Labels are not read as formulas, cause no warnings about missing letters, and are shortened."""
    assert draw_confusion(confusion(3), ["$x^é", "\U0001d49c", "x" * 300], tmp_path / "c.png") == []
    assert (tmp_path / "c.png").exists()
    assert _shortened("x" * LONGEST) == "x" * LONGEST and _shortened("x" * 300) == "x" * (LONGEST - 1) + "…"


def test_letters_come_from_the_fonts_that_have_them(tmp_path, monkeypatch):
    """DejaVu Sans lacks a script A, which matplotlib's other fonts have; a font that has Chinese is not everywhere."""
    names, lacking = _fonts({"é", "\U0001d49c"})
    assert names[0] == "DejaVu Sans" and len(names) == 2 and lacking == set()
    assert _fonts({"é"}) == (["DejaVu Sans"], set())
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])
    assert _fonts({"a", "本"}) == (["DejaVu Sans"], {"本"})
    figures = []
    monkeypatch.setattr(confusion_picture, "_figure", lambda *given: figures.append(given) or _figure(*given))
    assert draw_confusion(confusion(2), ["日本", "b"], tmp_path / "c.png") == ["日本"]
    assert figures[0][1:] == ([r"\u65e5\u672c", "b"], ["DejaVu Sans"])


def test_no_window_and_nothing_of_matplotlibs_is_touched(tmp_path):
    draw_confusion(confusion(3), "abc", tmp_path / "c.png")
    assert "matplotlib.pyplot" not in sys.modules


@pytest.mark.parametrize("name", ["c", "c.h5", "c.png.xyz", "png", "c.gif"])
def test_another_suffix_is_refused(tmp_path, name):
    rule = "its name must end in .png or .pdf or .svg or .jpg"
    with pytest.raises(ArgumentError, match=f"picture '{tmp_path}/{name}': {rule}"):
        check_picture(tmp_path / name)
    with pytest.raises(ArgumentError, match=rule):
        draw_confusion(confusion(2), "ab", tmp_path / name)


def test_a_picture_that_exists_stays(tmp_path):
    (tmp_path / "c.png").write_bytes(b"old")
    with pytest.raises(ArgumentError, match=r"c\.png' exists already"):
        draw_confusion(confusion(2), "ab", tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes() == b"old"
    draw_confusion(confusion(2), "ab", tmp_path / "c.png", force=True)
    assert (tmp_path / "c.png").read_bytes() != b"old"


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ArgumentError, match=r'matplotlib: python -m pip install matplotlib scikit-learn'):
        draw_confusion(confusion(2), "ab", "c.png")
    with pytest.raises(ArgumentError, match=r'pip install matplotlib$'):
        check_matplotlib("plot")
