"""The page as a file: complete, self-contained, small, and safe against hostile names."""
import base64
import dataclasses
import hashlib
import json
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
from npefficient.explanation import page, probe


@pytest.fixture(scope="module")
def written():
    return digit("three").to_html()


@pytest.fixture(scope="module")
def read(written):
    return Reader(written)


def test_page_shows_the_classes(read):
    buttons = read.all("button", class_="class")
    assert [button["aria-pressed"] for button in buttons] == ["true"] + ["false"] * 4
    assert [button["data-class"] for button in buttons] == list("01234")
    for one in digit("three").classes:
        assert f"{one.label} {wording.percent(one.probability)}" in read.text
        assert wording.says(one) in read.text


def test_page_has_both_maps_of_every_class_and_difference(read):
    explanation, images = digit("three"), read.all("img", class_="heat")
    pairs = [(one, other) for one in range(5) for other in (None, *range(5)) if one != other]
    keys = [f"{one}" if other is None else f"{one}-{other}" for one, other in pairs]
    assert [image["data-view"] for image in images] == 2 * keys
    assert [image["data-view"] for image in images if "hidden" not in image] == ["0", "0"]
    assert len({image["src"] for image in images}) == 2 * 25
    for one, other in pairs:
        one, other = explanation.classes[one], None if other is None else explanation.classes[other]
        view = one if other is None else one.minus(other)
        assert (wording.says(view) if other is None else wording.says_difference(view)) in read.text
        what = "the logit" if other is None else "the difference"
        assert wording.compares(view.occlusion, explanation.agreement(view), what) in read.text
    assert [option["value"] for option in read.all("option")] == ["", *"01234"]
    assert "each patch of 10 × 10 pixels is covered with grey" in read.text and "runs again, 49 times" in read.text


def test_page_of_many_classes_subtracts_only_some():
    explanation = npefficient.explain(noise(9, 9, 3), digits(), topk=10, measure=False, occlusion=False)
    for minus, options in ((None, 5), (explanation.classes[8].index, 6)):
        read = Reader(explanation.to_html(None, minus))
        assert len(read.all("option")) == 1 + options and len(read.all("button", class_="class")) == 10
        assert len(read.all("img", class_="heat")) == 10 * (1 + options) - options


def test_page_without_occlusion_has_one_map():
    made = Reader(npefficient.explain(noise(9, 9, 3), digits(), measure=False, occlusion=False).to_html())
    assert "Occlusion" not in made.text and len(made.all("figure", class_="overlay")) == 1


def test_page_begins_with_a_difference():
    _, second, third, *_ = digit("three").classes
    read = Reader(digit("three").to_html(second.label, third.label))
    (chosen,) = [button for button in read.all("button", class_="class") if button["aria-pressed"] == "true"]
    shown = [tag for _, tag in read.tags if "data-view" in tag and "hidden" not in tag]
    assert chosen["data-class"] == "1" and {tag["data-view"] for tag in shown} == {"1-2"}
    assert [option["value"] for option in read.all("option") if "selected" in option] == ["2"]


def test_page_says_that_it_is_int8(read):
    found = Reader(digit("three", "int8").to_html()).text
    for text in (", computed in int8", "both as the int8 network has them", "“Input of” a layer is the step",
                 "GOP/s that this core reaches in nothing but dot products of integers."):
        assert text in found and text not in read.text
    assert "GFLOP/s" in read.text and "GFLOP/s" not in found


def test_page_begins_with_the_class_chosen():
    second = digit("three").classes[1]
    read = Reader(digit("three").to_html(second.label))
    pressed = [button["data-class"] for button in read.all("button", class_="class")
               if button["aria-pressed"] == "true"]
    shown = [tag for _, tag in read.tags if "data-view" in tag and "hidden" not in tag]
    assert pressed == ["1"] and len(shown) == 5 and {tag["data-view"] for tag in shown} == {"1"}
    assert "three 92.8 %" in read.text, "the answer stays the most probable class"


def test_page_shows_the_way_to_the_input(read):
    assert "As given 64 × 64" in read.text and "Resized 64 × 64, bicubic" in read.text
    assert "Cropped 64 × 64, what the network sees" in read.text
    assert read.all("rect", class_="crop") == [{"class": "crop", "x": "0", "y": "0", "width": "64", "height": "64"}]


def test_page_shows_every_block(read):
    buttons, panels = read.all("button", class_="block"), read.all("div", class_="panel")
    assert [button["aria-controls"] for button in buttons] == [panel["id"] for panel in panels]
    assert ["hidden" in panel for panel in panels] == [False] + 19 * [True], "the first is open"
    assert [button["aria-expanded"] for button in buttons] == ["true"] + 19 * ["false"]
    for block in digit().blocks:
        assert f"{block.name} {block.operator} {wording.channels(block.input_shape)} in" in read.text
        assert f"{wording.channels(block.output_shape)} out" in read.text
        if block.maps.size:
            assert (f"all on one scale: black is {wording.signed(block.maps.min())}, white "
                    f"{wording.signed(block.maps.max())}.") in read.text
        for channel in block.channels:
            assert f"channel {channel} " in read.text
    assert len(read.all("img", alt=f"Feature map of channel {digit().blocks[0].channels[0]}")) >= 1


def test_page_shows_kernels_strides_and_shortcuts(read):
    layers = [layer for block in digit().blocks for layer in block.layers if layer.kernel and layer.op != "classifier"]
    for layer in layers:
        name = layer.name.rpartition(".")[2]
        assert f"{name} {layer.kernel} × {layer.kernel} stride {layer.stride} {layer.in_channels} " in read.text
    skips = sum(block.skip for block in digit().blocks)
    assert len(read.all("path", class_="shortcut")) == len(read.all("div", class_="skips")) == skips == 9
    for block in digit().blocks:
        assert f"Multiply-adds {wording.millions(block.macs)} Parameters {block.params:,}" in read.text


def test_slabs_are_drawn_to_the_scale_that_the_page_states(read):
    slabs = [slab for slab in read.all("rect", rx="1.5")]
    most = [max(block.output_shape[axis] for block in digit().blocks) for axis in (0, 2)]
    for block, drawn in zip(digit().blocks, slabs, strict=True):
        height, width = (max(page.SLAB_LEAST, room * (block.output_shape[axis] / largest) ** 0.5)
                         for axis, largest, room in zip((0, 2), most, (page.SLAB_HEIGHT, page.SLAB_WIDTH)))
        assert abs(float(drawn["height"]) - height) < 0.1 and abs(float(drawn["width"]) - width) < 0.1
    assert "twice as wide is four times as many" in read.text


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_page_holds_the_numbers_of_the_network(precision):
    explanation = digit("three", precision)
    probes = [attributes for _, attributes in Reader(explanation.to_html()).tags if "data-weight" in attributes]
    for one, data in zip(explanation.sums, probes, strict=True):
        values = {name.removeprefix("data-"): json.loads(text) for name, text in data.items()
                  if name.startswith("data-") and name not in ("data-x", "data-type")}
        x = np.frombuffer(base64.b64decode(data["data-x"]), data["data-type"]).reshape(values["shape"])
        read = x * np.float32(values["factor"]) + np.float32(values["offset"])
        np.testing.assert_allclose(read, one.x, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(np.float32(values["weight"]), one.weight.ravel().astype(np.float32))
        assert [values[name] for name in ("kernel", "stride", "scale", "bias", "step")] == [
            one.kernel, one.stride, one.scale, one.bias, one.step]
        assert values["padding"] == list(one.padding) and values["size"] == list(one.out.shape)


def test_page_holds_no_input_that_is_too_large(monkeypatch):
    monkeypatch.setattr(probe, "LARGEST", 3 * 64 * 64)
    kept = [one for one in digit().sums if one.x.nbytes <= 3 * 64 * 64 or one.layer == "conv_stem"]
    assert digit().to_html().count('class="probe ') == len(kept) == 17
    monkeypatch.setattr(probe, "LARGEST", 3 * 64 * 64 - 1)
    assert digit().to_html().count('class="probe ') == 16


def test_page_tells_why_the_classifier_is_slow(read):
    (step,) = [step for step in digit().times.steps if step.layers == ("classifier",)]
    assert page.bound(digit()) == [step]
    assert (f"classifier waits for memory: with {wording.kib(step.bytes)} to read and write for "
            f"{wording.millions(step.macs)} multiply-adds, 12.5 % of the peak is its limit. It reaches "
            f"{wording.percent(digit().times.share([step]))}.") in read.text
    assert "this core reads ( L1 100 GB/s, L2 25 GB/s)" in read.text.replace("(L1", "( L1")
    for one in digit().times.steps:
        row = one.name.replace(".", ". "), wording.kib(one.bytes), wording.milliseconds(one.seconds)
        assert " ".join(row) in read.text
    assert len(read.all("path", class_="limit")) == 1, "where it is below the peak"


def test_page_never_calls_a_little_nothing(written):
    classes = tuple(dataclasses.replace(one, probability=p) for one, p in zip(digit("three").classes, (0.9999, 1e-5)))
    text = Reader(dataclasses.replace(digit("three"), classes=classes).to_html()).text
    assert "three > 99.9 %" in text and f"{classes[1].label} < 0.1 %" in text
    shown = text[: text.index("From the photo to the input")]
    assert " 0.0 %" not in shown and " 100.0 %" not in shown


def test_page_shows_every_layers_time(read):
    steps = digit().times.steps
    fills = [float(fill["width"]) for fill in read.all("rect", class_="fill")]
    bars = fills[len(digit().classes) :]
    longest = max(step.seconds for step in steps)
    np.testing.assert_allclose(bars[::2], [100 * step.seconds / longest for step in steps], atol=0.01)
    np.testing.assert_allclose(bars[1::2], [min(100, 100 * digit().times.share([step])) for step in steps], atol=0.01)
    names = [step.name.replace(".", ". ") for step in steps]  # a line may break there
    assert all(f"{name} {wording.kib(step.bytes)} {1e3 * step.seconds:.3f} ms" in read.text
               for name, step in zip(names, steps))


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
    assert len(written.encode()) < 450_000
    photo = noise(900, 1200, 3)  # noise is what compresses worst
    model = npefficient.create_model("lite4", num_threads=1)
    assert len(npefficient.explain(photo, model, measure=False, patch=190).to_html().encode()) < 3_000_000


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 3000, 3), (700, 2, 3), (30, 40, 3)], ids=str)
def test_page_of_any_photo(shape):
    read = Reader(npefficient.explain(noise(*shape), digits(), measure=False, patch=40).to_html())
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
