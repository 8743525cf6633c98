"""The ladders' benchmark and its pictures: what is asked for, what is refused, what is counted; never how fast."""
import sys
from dataclasses import replace

import numpy as np
import pytest
from fake_clock import Clock
from json_tables import tables
from PIL import Image

from npefficient.bench import kernels, ladder, plots
from npefficient.bench.measure import Timing
from npefficient.ladder.case import Prepared, Rung
from npefficient.ladder.registry import LADDERS
from npefficient.network import architecture, quantized_reference, reference
from npefficient.network.parameters import random_weights
from npefficient.network.quantization import quantize

NETWORK = architecture.build("lite0")
SIZE = 40, 33


@pytest.fixture(scope="module")
def weights():
    return random_weights(NETWORK)


@pytest.fixture(scope="module")
def quantized(weights):
    return quantize(weights)


@pytest.fixture
def run(bench, tmp_path):
    """run(...) -> (exit code, stdout, stderr, tables) of `bench kernels` on small pictures."""

    def call(*arguments):
        file = tmp_path / "k.json"
        code, out, err = bench("kernels", "--size", "40x33", "--seconds", "0.001", "--json", file, *arguments)
        return code, out, err, tables(file) if file.exists() else None

    return call


def pixels_of(picture):
    """(pixels, 3), 0 to 255."""
    with Image.open(picture) as image:
        return np.asarray(image.convert("RGB"), int).reshape(-1, 3)


# --- what is asked for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op, layer, expected", [
    (None, "blocks.3.1.conv_pw", "pointwise"), ("pointwise", "blocks.3.1.conv_pwl", "pointwise"),
    (None, "blocks.0.0.conv_dw", "depthwise"), ("block", "blocks.2.1", "block"), (None, "blocks.2.1", "block"),
    (None, None, None), ("pointwise", None, None), (None, "*.conv_pw", None), (None, "conv_stem", None),
    (None, "blocks.0.0", None), ("depthwise", "blocks.3.1.conv_pw", None), (None, "classifier", None),
    ("depthwise", "blocks.2.1", None)])
def test_a_ladder_is_wanted_where_one_layer_is_named(op, layer, expected):
    assert ladder.wanted(NETWORK, op, layer) == expected


@pytest.mark.parametrize("op, layer, expected", [
    (None, "blocks.3.1.conv_pw", "pointwise-int8"), ("pointwise", "conv_head", "pointwise-int8"),
    ("depthwise", "blocks.3.1.conv_pw", None), (None, "blocks.2.1.conv_dw", None), (None, "conv_stem", None),
    (None, None, None), (None, "*.conv_pw", None)])
def test_in_8_bits_only_a_1x1_convolution_has_a_ladder(op, layer, expected):
    assert ladder.wanted(NETWORK, op, layer, "int8") == expected


@pytest.mark.parametrize("layer", [None, "blocks.0.0", "blocks.2.1.conv_dw", "blocks.2.9", "blocks.*"])
def test_only_an_inverted_residual_block_has_the_ladder_of_a_block(run, layer):
    code, _, err, _ = run("--op", "block", *([] if layer is None else ["--layer", layer]))
    assert code == 1 and f"--op block --layer {layer!r}: name one inverted residual block, such as blocks.1.0" in err


@pytest.mark.parametrize("arguments, op", [
    (("--op", "pointwise", "--layer", "blocks.3.1.conv_pw"), "pointwise"),
    (("--layer", "blocks.2.1.conv_dw"), "depthwise"),
    (("--op", "block", "--layer", "blocks.2.1"), "block")], ids=["pointwise", "depthwise", "block"])
def test_every_rung_of_a_ladder(monkeypatch, run, tmp_path, arguments, op):
    monkeypatch.setattr(ladder, "LONGEST", 0.01)
    code, out, err, tables = run(*arguments, "--plot", tmp_path / "ladder.png")
    rows = tables["ladder"]
    assert code == 0 and err == "" and ladder.LEGEND in out
    assert [(row["rung"], row["reason"]) for row in rows] == [(rung.name, rung.reason) for rung in LADDERS[op]]
    assert all(row["us"] >= row["best"] > 0 and 0 < row["of peak"] < 1 and row["differs"] < 1e-4 for row in rows)
    assert rows[0]["x before"] is None
    assert [row["x before"] for row in rows[1:]] == pytest.approx([a["us"] / b["us"] for a, b in zip(rows, rows[1:])])
    assert len(tables.get("kernels", [])) == (op != "block") and ("reads" in tables) == (op != "block")
    assert [bool(row["predicted"]) for row in rows] == [rung.cost is not None for rung in LADDERS[op]]
    assert len(tables.get("blas", [])) == 2 * (op == "pointwise")
    assert len(pixels_of(tmp_path / "ladder.png")) > 600 * 300


@pytest.mark.parametrize("arguments", [("--layer", "blocks.2.1"), ("--op", "block", "--layer", "blocks.2.1")])
def test_a_block_has_no_ladder_in_8_bits(run, arguments):
    code, _, err, _ = run("--precision", "int8", *arguments)
    assert code == 1
    assert "--precision int8 --layer 'blocks.2.1': a block's ladder is in float32; in int8 there is one for each" in err


@pytest.mark.parametrize("layer", ["blocks.3.1.conv_pw", "blocks.3.1.conv_pwl", "blocks.3.0.conv_pwl"])
def test_every_rung_in_8_bits_has_the_bits_of_the_definition(monkeypatch, run, tmp_path, layer):
    monkeypatch.setattr(ladder, "LONGEST", 0.01)
    code, out, err, tables = run("--precision", "int8", "--layer", layer, "--plot", tmp_path / "ladder.png")
    assert code == 0 and err == "" and " MOPs, " in out and set(tables) == {"kernels", "reads", "ladder"}
    rungs, rows = LADDERS["pointwise-int8"], tables["ladder"]
    assert [(row["rung"], row["reason"]) for row in rows] == [(rung.name, rung.reason) for rung in rungs]
    assert all(row["GOP/s"] > 0 and row["differs"] == 0 for row in rows if "lacking" not in row)
    assert [row.get("lacking") for row in rows] == [rung.lacking for rung in rungs]
    assert len(pixels_of(tmp_path / "ladder.png")) > 600 * 300


def test_a_rung_that_the_processor_lacks_something_for_is_named(monkeypatch, run, tmp_path):
    first, *_, last = LADDERS["pointwise-int8"]
    lacking = Rung(first.op, "never run", "limited by nothing", lambda case: 1 / 0, "wings")
    monkeypatch.setitem(ladder.LADDERS, "pointwise-int8", (first, lacking, last))
    asked = "--precision", "int8", "--layer", "blocks.5.1.conv_pw"
    code, out, err, tables = run(*asked, "--plot", tmp_path / "ladder.png")
    assert code == 0 and err == ""
    assert "- never run: limited by nothing; not measured, as this processor lacks wings." in out
    before, row, after = tables["ladder"]
    assert row == {"rung": "never run", "reason": "limited by nothing", "lacking": "wings"}
    assert after["x before"] == pytest.approx(before["us"] / after["us"])


def test_a_wrong_bit_in_8_bits_is_not_timed(monkeypatch, run):
    right = LADDERS["pointwise-int8"][1]

    def prepare(case):
        ready = right.prepare(case)
        return Prepared(ready.function, ready.arguments, lambda: ready.result() ^ np.uint8(1))

    monkeypatch.setitem(ladder.LADDERS, "pointwise-int8", (Rung(right.op, "spoilt", "to be found", prepare),))
    code, _, err, _ = run("--precision", "int8", "--layer", "blocks.3.1.conv_pw")
    assert code == 1 and "spoilt: WRONG RESULT, it differs by 1 where 0 is allowed" in err


def test_without_one_layer_there_is_no_ladder(run):
    code, out, err, tables = run("--op", "depthwise", "--layer", "blocks.[01].*")
    assert code == 0 and err == "" and set(tables) == {"kernels", "reads"} and ladder.LEGEND not in out


# --- cases and rungs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer, op", [(conv.name, conv.op) for conv in NETWORK.convs[1:]]
                         + [(block.name, "block") for block in NETWORK.blocks[1:]])
def test_a_case_is_the_layer(weights, layer, op):
    case = ladder.case_of(weights, op, layer, *SIZE)
    shapes = [one for one in NETWORK.layers(*SIZE) if one.name == layer or one.name.startswith(f"{layer}.")]
    assert case.x.shape == (shapes[0].height, shapes[0].width, shapes[0].in_channels)
    assert case.out_shape == (shapes[-1].out_height, shapes[-1].out_width, shapes[-1].out_channels)
    assert case.flops == 2 * sum(one.macs for one in shapes)
    block = next((block for block in NETWORK.blocks if layer.startswith(block.name)), None)
    assert (case.residual is not None) == bool(block and block.skip and (op == "block" or layer.endswith("pwl")))


def test_the_expected_block_is_the_plain_network_s(weights):
    block = NETWORK.blocks[2]
    case = ladder.case_of(weights, "block", block.name, *SIZE)
    plain, x = reference.Network(NETWORK, weights.parameters, np.float64), case.x[None].astype(np.float64)
    for conv in block.convs:
        x = plain.conv(x, conv)
    assert block.skip and np.abs(ladder.expected(case) - (x + case.x)[0]).max() < 1e-5


@pytest.mark.parametrize("layer", [conv.name for conv in NETWORK.convs if conv.op == "pointwise"])
def test_a_case_in_8_bits_is_the_layer(quantized, layer):
    case = ladder.quantized_case_of(quantized, layer, *SIZE)
    (shape,) = (one for one in NETWORK.layers(*SIZE) if one.name == layer)
    assert case.x.shape == (shape.height, shape.width, shape.in_channels) and case.flops == 2 * shape.macs
    assert case.out_shape == (shape.out_height, shape.out_width, shape.out_channels)
    assert case.relu6 == (case.scale is not None) == (layer == "conv_head" or shape.out_channels > shape.in_channels)
    block = next((block for block in NETWORK.blocks if layer.startswith(block.name)), None)
    assert (case.residual is not None) == bool(block and block.skip and layer.endswith("pwl"))


def test_the_expected_result_in_8_bits_is_the_definition_s(quantized):
    """The definition quantises a float itself: as floats, 127ths of the largest value of each row."""
    layer = "blocks.3.1.conv_pw"
    case = ladder.quantized_case_of(quantized, layer, *SIZE)
    case.x[:, 0, 0] = 255  # the largest value of each row
    integers, largest = case.x.astype(np.float32) - 128, case.scale[:, None, None] * np.float32(127)
    y = integers * (largest / np.float32(127))
    expected = quantized_reference.clamp(quantized_reference.from_float32(y, case.layer))
    scale = np.abs(y).max((1, 2)) * quantized_reference.SHARE
    assert np.array_equal(ladder.expected(replace(case, scale=scale)), expected) and len(np.unique(expected)) > 9
    case = ladder.quantized_case_of(quantized, "blocks.3.1.conv_pwl", *SIZE)
    conv = next(conv for conv in NETWORK.convs if conv.name == "blocks.3.1.conv_pwl")
    expected = quantized_reference.from_uint8(case.x[None], case.layer, conv)[0] + case.residual
    assert np.array_equal(ladder.expected(case), expected)


def timed(seconds_a_row, clock, rows):
    def prepare(case):
        def call():
            clock.now += seconds_a_row * len(case.x)
            rows.append(len(case.x))

        return Prepared(call, (), lambda: ladder.expected(case).astype(np.float32))

    return Rung("pointwise", "timed", "a clock of its own", prepare)


@pytest.mark.parametrize("seconds, rows", [(1e-6, 20), (ladder.LONGEST / 20.5, 20), (ladder.LONGEST / 6.5, 6),
                                           (60.0, 1)])
def test_a_slow_rung_is_timed_on_some_rows(weights, seconds, rows):
    clock, case = Clock(), ladder.case_of(weights, "pointwise", "blocks.1.0.conv_pw", *SIZE)
    part = ladder.portion(timed(seconds, clock, []), case, lambda: clock.now)
    assert len(part.x) == rows and (part is case) == (rows == 20)


def test_the_time_of_some_rows_is_scaled_up(monkeypatch, run):
    called = []
    monkeypatch.setattr(ladder, "portion", lambda rung, case: case.top(2))
    monkeypatch.setattr(ladder, "compare", lambda case, seconds: {"library": "none", "product": 1.0, "layer": 2.0})
    monkeypatch.setitem(ladder.LADDERS, "pointwise", (timed(0.0, Clock(), called),))
    monkeypatch.setattr(ladder, "measure", lambda call, seconds: Timing(5, 1.0, 2.0, 3.0, 4.0))
    code, out, _, tables = run("--layer", "blocks.3.1.conv_pw")
    (row,) = tables["ladder"]
    assert code == 0 and row["rows"] == "2/3" and "2/3" in out and set(called) == {2}
    assert row["us"] == pytest.approx(2e6 * 3 / 2) and row["best"] == pytest.approx(1e6 * 3 / 2)
    product, layer = tables["blas"]
    assert product["GFLOP/s"] == pytest.approx(2 * layer["GFLOP/s"]) and product["us"] == 1e6


def test_a_wrong_rung_is_not_timed(monkeypatch, run):
    right = LADDERS["pointwise"][1]

    def prepare(case):
        ready = right.prepare(case)
        return Prepared(ready.function, ready.arguments, lambda: ready.result() + np.float32(1e-3))

    monkeypatch.setitem(ladder.LADDERS, "pointwise", (Rung("pointwise", "spoilt", "to be found", prepare),))
    code, _, err, _ = run("--layer", "blocks.3.1.conv_pw")
    assert code == 1 and "blocks.3.1.conv_pw of lite0 40x33, spoilt: WRONG RESULT" in err


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, message, expected", [
    ("ladder.txt", "its name must end in .png or .pdf or .svg or .jpg", 2), ("ladder", "its name must end in", 2),
    ("none/ladder.png", "its directory does not exist", 1)])
def test_a_picture_needs_a_place(run, tmp_path, name, message, expected):
    code, _, err, tables = run("--layer", "blocks.3.1.conv_pw", "--plot", tmp_path / name)
    assert code == expected and f"{str(tmp_path / name)!r}: {message}" in err and tables is None


def test_a_picture_needs_matplotlib(monkeypatch, run, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err, tables = run("--layer", "blocks.3.1.conv_pw", "--plot", tmp_path / "ladder.png")
    assert code == 1 and 'python -m pip install matplotlib' in err and tables is None


def test_a_roofline_of_the_layers(monkeypatch, run, tmp_path):
    monkeypatch.setattr(kernels, "reads", lambda report, seconds: {"L1": 2e11, "memory": 2e10})
    drawn = []
    draw = plots.roofline
    monkeypatch.setattr(plots, "roofline", lambda rows, *rest: (drawn.extend(rows), draw(rows, *rest))[1])
    code, out, err, tables = run("--layer", "blocks.[01].*", "--plot", tmp_path / "roof.png")
    assert code == 0 and err == "" and f"wrote {tmp_path / 'roof.png'}: the picture" in out
    assert drawn == tables["kernels"]
    pixels = pixels_of(tmp_path / "roof.png")
    for colour in (plots.COLOURS["depthwise"], plots.COLOURS["pointwise"], plots.PEAK):
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(1) < 60).any(), f"nothing is drawn in {colour}"
