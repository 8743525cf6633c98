"""`npefficient explain`: files, output and error messages."""
import io
import sys

import numpy as np
import pytest
from explanations import digit, noise
from imagenet import needs_imagenet
from page_reader import Reader
from PIL import Image

from npefficient import demo
from npefficient.explanation import times


@pytest.fixture
def explain(command, tmp_path, monkeypatch):
    """explain(...) -> (exit code, stdout, stderr) of `npefficient explain`, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(times, "SECONDS", 0.01)
    monkeypatch.setattr(times, "PEAK_SECONDS", 0.001)
    monkeypatch.setattr(times, "READ_SECONDS", 0.001)
    return lambda *arguments: command("explain", *arguments)


DIGITS = "--model", "digits"
ONE = demo.DATA / "digits" / "one.png"


def views_shown(page):
    return [tag["data-view"] for _, tag in Reader(page).tags if "data-view" in tag and "hidden" not in tag]


def test_digits_write_a_page(explain, tmp_path):
    code, out, err = explain(ONE, *DIGITS)
    lines = out.splitlines()
    assert code == 0 and lines[0].startswith("Model(tf_efficientnet_lite0, 10 classes")
    assert lines[1] == " 94.12%  one" and len(lines) == 7
    page = (tmp_path / "one.html").read_bytes()
    assert lines[-1] == f"wrote    one.html, {len(page):,} bytes"
    assert page.startswith(b"<!DOCTYPE html>") and b"one.png" in page and b"GFLOP/s" in page


def test_digits_in_int8(explain, tmp_path):
    code, out, err = explain(ONE, *DIGITS, "--precision", "int8")
    assert code == 0 and out.splitlines()[0].endswith(", engine, int8)")
    page = (tmp_path / "one.html").read_text(encoding="utf-8")
    assert "computed in int8" in page and "input of blocks.<wbr>1.<wbr>0.<wbr>conv_pw" in page


def test_demo_explains_a_digit_where_no_weights_are_at_hand(explain, tmp_path, nothing_at_hand):
    code, out, err = explain("--demo")
    assert code == 0 and err.splitlines()[0] == f"npefficient: {demo.MISSING}"
    assert out.splitlines()[1] == " 94.12%  one" and (tmp_path / "one.html").is_file()


@needs_imagenet
def test_demo_explains_a_photograph(explain, tmp_path):
    code, out, err = explain("--demo")
    lines = out.splitlines()
    assert code == 0 and err == "" and lines[0].startswith("Model(tf_efficientnet_lite0, 1,000 classes")
    assert [line.split("  ")[1] for line in lines[1:4]] == ["tiger cat", "Egyptian cat", "tabby, tabby cat"]
    page = (tmp_path / "chelsea.html").read_text(encoding="utf-8")
    assert "chelsea.jpg" in page and "<p>tiger cat, 38.6 %. The map runs from " in page
    assert len(page.encode()) < 1_500_000


def test_existing_file_is_kept_unless_forced(explain, tmp_path):
    (tmp_path / "one.html").write_text("mine")
    code, out, err = explain(ONE, *DIGITS)
    assert code == 1 and out == "" and "'one.html' exists already" in err and "--force" in err
    assert (tmp_path / "one.html").read_text() == "mine"
    assert explain(ONE, *DIGITS, "--force", "--topk", 1)[0] == 0
    assert (tmp_path / "one.html").stat().st_size > 10_000


def test_png_alone(explain, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)  # not needed for it
    code, out, _ = explain(demo.DATA / "digits" / "three.png", *DIGITS, "--png", "heat.png")
    assert code == 0 and [path.name for path in tmp_path.iterdir()] == ["heat.png"]
    assert out.splitlines()[-1].startswith("wrote    heat.png, ")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "heat.png")), digit("three").heat_map())


def test_chosen_class_comes_first_in_both_files(explain, tmp_path):
    photo = demo.DATA / "digits" / "three.png"
    code, out, _ = explain(photo, *DIGITS, "--class", "Two", "--topk", 2, "-o", "page.html", "--png",
                           "heat.png")
    assert code == 0 and out.splitlines()[3].endswith("  two") and len(out.splitlines()) == 6
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert views_shown(text) == 5 * ["2"]
    usual = digit("three").heat_map()
    assert (np.asarray(Image.open(tmp_path / "heat.png")) != usual).any()


def test_difference_comes_first_in_both_files(explain, tmp_path):
    photo = demo.DATA / "digits" / "three.png"
    code, out, _ = explain(photo, *DIGITS, "--class", "four", "--minus", "eight", "-o", "page.html", "--png",
                           "heat.png")
    assert code == 0 and len(out.splitlines()) == 8, "both are among the five already"
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert views_shown(text) == 5 * ["1-2"]
    made = np.asarray(Image.open(tmp_path / "heat.png"))
    np.testing.assert_array_equal(made, digit("three").heat_map("four", "eight"))
    code, _, err = explain(photo, *DIGITS, "--minus", "three", "-o", "other.html")
    assert code == 1 and "class 'three' minus itself is nothing" in err and not (tmp_path / "other.html").exists()


def test_occlusion_can_be_left_out_or_made_finer(explain, tmp_path):
    assert explain(ONE, *DIGITS, "--no-occlusion", "-o", "none.html")[0] == 0
    assert "Occlusion" not in (tmp_path / "none.html").read_text(encoding="utf-8")
    assert explain(ONE, *DIGITS, "--patch", 16, "-o", "fine.html")[0] == 0
    text = Reader((tmp_path / "fine.html").read_text(encoding="utf-8")).text
    assert "each patch of 16 × 16 pixels is covered with grey (127.5 of 255), one after the other" in text
    assert "runs again, 16 times" in text
    code, _, err = explain(ONE, *DIGITS, "--patch", 65, "-o", "large.html")
    assert code == 1 and "patch 65: it must be a whole number of at most 64" in err
    code, _, err = explain(ONE, *DIGITS, "--patch", 9, "--no-occlusion", "-o", "both.html")
    assert code == 2 and "--no-occlusion covers nothing: omit one of the two" in err


def test_progress_is_for_terminals_alone(monkeypatch):
    from npefficient.commands.explain import _progress

    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    _progress()(49, 49)
    assert said.getvalue() == ""
    said.isatty = lambda: True
    tell = _progress()
    for done in (16, 32, 48, 49):
        tell(done, 49)
    assert "49 of 49 patches (100%)" in said.getvalue() and said.getvalue().endswith("\n")


@pytest.mark.parametrize("name, picture", [
    ("palette.png", Image.fromarray(noise(40, 30, 3)).convert("P")), ("one.png", Image.fromarray(noise(1, 1, 3))),
    ("wide.png", Image.fromarray(noise(2, 4000, 3))), ("grey.png", Image.fromarray(noise(30, 50))),
    ("<script>alert('x')&\" onclick=.png", Image.fromarray(noise(30, 50, 3))),
    ("new\nline.png", Image.fromarray(noise(9, 9, 3))), ("no utf-8 \udcff.png", Image.fromarray(noise(9, 9, 3))),
], ids=["palette", "1x1", "very_wide", "grey", "hostile_name", "newline", "no_utf8"])
def test_any_photo(explain, tmp_path, name, picture):
    file = io.BytesIO()
    picture.save(file, "png")
    try:
        (tmp_path / name).write_bytes(file.getvalue())
    except OSError:  # a file system that does not allow such names
        pytest.skip(f"no file can be called {name!r} here")
    code, out, err = explain(tmp_path / name, *DIGITS)
    assert code == 0 and err == "" and len(out.splitlines()) == 7 and out.encode()
    (page,) = tmp_path.glob("*.html")
    assert page.stem == (tmp_path / name).stem
    assert page.read_text(encoding="utf-8").count("<script>") == 1


@pytest.mark.parametrize("arguments, message", [
    (("none.png", *DIGITS), "photo 'none.png': no such file"),
    ((".", *DIGITS), "photo '.': it is a directory"),
    ((ONE, *DIGITS, "--class", "twelve"), "class 'twelve': none of the 10 classes has this name or number"),
    ((ONE, *DIGITS, "-o", "none/page.html"), "'none/page.html': its directory does not exist"),
    (("a.png", "--weights", "none.h5"), "none.h5"),
], ids=["no_file", "directory", "class", "no_directory", "weights"])
def test_says_what_is_wrong_and_leaves_nothing(explain, tmp_path, arguments, message):
    code, _, err = explain(*arguments)
    assert code == 1 and err.startswith("npefficient: error: ") and message in err
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_no_page(explain, tmp_path):
    (tmp_path / "page.html").mkdir()
    code, _, err = explain(ONE, *DIGITS, "-o", "page.html")
    assert code == 1 and "'page.html' is a directory: name a file to write" in err


def test_missing_jinja2_is_said_before_the_work(explain, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    code, out, err = explain(ONE, *DIGITS)
    assert code == 1 and out == "" and "python -m pip install jinja2" in err
    assert list(tmp_path.iterdir()) == []
