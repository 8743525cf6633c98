"""The page as a file: complete, self-contained, small, and safe against hostile names."""
import base64
import dataclasses
import hashlib
import re
import sys

import numpy as np
import pytest
from explanations import HOSTILE, digit, digits, noise, renamed
from page_reader import Reader

import npefficient
from npefficient.common.text import short
from npefficient.display import wording
from npefficient.errors import ArgumentError
from npefficient.explanation import page


@pytest.fixture(scope="module")
def written():
    return digit("three").to_html()


@pytest.fixture(scope="module")
def read(written):
    return Reader(written)


def test_page_shows_the_classes(read):
    buttons = read.all("button", class_="class")
    assert [button["aria-pressed"] for button in buttons] == ["true"] + ["false"] * 4
    maps = read.all("img", class_="heat")
    assert [image["id"] for image in maps] == [button["data-heat"] for button in buttons]
    assert ["hidden" in image for image in maps] == [False] + [True] * 4
    assert len({image["src"] for image in maps}) == 5
    for one, button in zip(digit("three").classes, buttons, strict=True):
        assert button["data-says"] == wording.says(one)
        assert f"{one.label} {wording.percent(one.probability)}" in read.text


def test_page_says_that_it_is_int8(read):
    found = Reader(digit("three", "int8").to_html()).text
    for text in (", computed in int8", "both as the int8 network has them", "“Input of” a layer is the step",
                 "GOP/s that this core reaches in nothing but dot products of integers."):
        assert text in found and text not in read.text
    assert "GFLOP/s" in read.text and "GFLOP/s" not in found


def test_page_begins_with_the_class_chosen():
    read = Reader(digit("three").to_html("zero"))
    pressed = [button["data-says"] for button in read.all("button", class_="class") if button["aria-pressed"] == "true"]
    assert len(pressed) == 1 and pressed[0].startswith("zero, ") and pressed[0] in read.text
    assert "three 94.8 %" in read.text, "the answer stays the most probable class"


def test_page_shows_the_way_to_the_input(read):
    assert "As given 64 × 64" in read.text and "Resized 64 × 64, bicubic" in read.text
    assert "Cropped 64 × 64, what the network sees" in read.text
    assert read.all("rect", class_="crop") == [{"class": "crop", "x": "0", "y": "0", "width": "64", "height": "64"}]


def test_page_shows_every_block(read):
    buttons, panels = read.all("button", class_="block"), read.all("div", class_="panel")
    assert [button["aria-controls"] for button in buttons] == [panel["id"] for panel in panels]
    assert all("hidden" in panel for panel in panels) and len(panels) == 20
    for block in digit().blocks:
        assert f"{block.name} {block.operator} Input {wording.size(block.input_shape)}" in read.text
        for channel in block.channels:
            assert f"channel {channel} " in read.text
    assert len(read.all("img", alt=f"Feature map of channel {digit().blocks[0].channels[0]}")) >= 1


def test_page_shows_every_layers_time(read):
    steps = digit().times.steps
    fills = [float(fill["width"]) for fill in read.all("rect", class_="fill")]
    bars = fills[len(digit().classes) :]
    longest = max(step.seconds for step in steps)
    np.testing.assert_allclose(bars[::2], [100 * step.seconds / longest for step in steps], atol=0.01)
    np.testing.assert_allclose(bars[1::2], [min(100, 100 * digit().times.share([step])) for step in steps], atol=0.01)
    names = [step.name.replace(".", ". ") for step in steps]  # a line may break there
    assert all(f"{name} {1e3 * step.seconds:.3f} ms" in read.text for name, step in zip(names, steps))


def test_page_without_times():
    read = Reader(dataclasses.replace(digit(), times=None).to_html())
    assert "The times were not measured." in read.text and not read.all("table")


def test_page_needs_nothing_else(written, read):
    assert "http" not in re.sub(r"data:[^\"]*", "", written).replace("http-equiv", "")
    addresses = [attributes[key] for _, attributes in read.tags for key in ("src", "href") if key in attributes]
    assert len(addresses) > 100 and all(address.startswith("data:") for address in addresses)
    assert not read.all("script", src=True) and not [a for _, a in read.tags if "style" in a]
    assert not [key for _, attributes in read.tags for key in attributes if key.startswith("on")]


def test_policy_lets_in_this_style_and_this_script_alone(read):
    (policy,) = (meta["content"] for meta in read.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for kind, rule in (("style", "style-src"), ("script", "script-src")):
        (code,) = read.code[kind]
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert rules.pop(rule) == f"'sha256-{digest}'"
    assert rules == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_stay_text(name, read):
    made = Reader(renamed(digit("three"), name, name).to_html())
    assert [tag for tag, _ in made.tags] == [tag for tag, _ in read.tags], "not one tag more"
    for (tag, got), (_, usual) in zip(made.tags, read.tags):
        assert got.keys() == usual.keys(), f"{tag}: not one attribute more"
    assert " ".join(short(name).split()) in made.text, "and it can be read"
    assert made.code == read.code


def test_hostile_names_test_can_fail(read):
    assert [tag for tag, _ in Reader("<p>" + HOSTILE["script"] + "</p>").tags] == ["p", "script"]


def test_page_holds_the_files_name_and_not_where_it_lay():
    made = renamed(digit("three"), "/home/somebody/secret/photo.png", "label").to_html()
    assert "photo.png" in made and "somebody" not in made and "secret" not in made


def test_page_is_small(written):
    assert len(written.encode()) < 200_000
    photo = noise(900, 1200, 3)  # noise is what compresses worst
    model = npefficient.create_model("lite4", num_threads=1)
    assert len(npefficient.explain(photo, model, measure=False).to_html().encode()) < 800_000


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 3000, 3), (700, 2, 3), (30, 40, 3)], ids=str)
def test_page_of_any_photo(shape):
    read = Reader(npefficient.explain(noise(*shape), digits(), measure=False).to_html())
    assert f"As given {shape[1]} × {shape[0]} (width × height)" in read.text


def test_missing_jinja2_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ArgumentError, match=r'jinja2, which is not installed: .*pip install jinja2'):
        digit().to_html()


def test_another_module_that_jinja2_misses_is_not_hidden(monkeypatch):
    monkeypatch.delitem(sys.modules, "jinja2", raising=False)
    monkeypatch.setitem(sys.modules, "markupsafe", None)
    for name in [name for name in sys.modules if name.startswith("jinja2.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match="markupsafe"):
        page.environment()
