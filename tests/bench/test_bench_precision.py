"""The benchmarks in 8 bits: every step equal to the plain integer network, to the bit, and figures of its own peak."""
import functools
from dataclasses import replace

import numpy as np
import pytest
from json_tables import tables

from npefficient.bench import kernels, layers, model, peak, steps
from npefficient.engine.engine import Engine
from npefficient.errors import NpefficientError
from npefficient.kernels.layout import INT8
from npefficient.network.architecture import build
from npefficient.network.parameters import random_weights
from npefficient.network.quantization import quantize

SIZE = 41, 50
ITEM = INT8.item


@pytest.fixture(scope="module")
def weights():
    return quantize(random_weights(build("lite0")))


# --- steps -----------------------------------------------------------------------------------------------------------


def test_every_step_equals_the_plain_network(some_steps):
    network = some_steps.weights.architecture
    for i in range(len(some_steps.steps)):
        assert some_steps.run_verified(i) == 0
    every = [layer for step in some_steps.steps for layer in step.layers]
    assert [layer for layer in every if layer.op != "quantize"] == network.layers(*SIZE)
    values = sum(layer.activations for layer in every if layer.op == "quantize")
    pool = 2 * 2 * 1280
    assert sum(step.flops() for step in some_steps.steps) == 2 * network.macs(*SIZE) + pool + values


def test_every_step_with_values_of_16_bits(monkeypatch, weights, picture):
    """Those of processors without dot products of bytes."""
    monkeypatch.setattr(steps, "Engine", functools.partial(Engine, layout=replace(INT8, item=2)))
    made = steps.Steps(weights, picture)
    assert [made.run_verified(i) for i in range(len(made.steps))] == [0] * len(made.steps)
    assert made.steps[3].items == (2, 2)


def test_quantising_is_a_step_before_each_layer_that_reads_floats(fused):
    names = [step.name for step in fused.steps]
    readers = [names[i + 1] for i, step in enumerate(fused.steps) if step.op == "quantize"]
    assert [name.partition(" ")[0] for name in readers] == [
        *(conv.name for conv in fused.weights.architecture.convs[2:] if conv.op == "pointwise" and conv.relu6),
        "classifier"]
    step = fused.steps[names.index("input of blocks.1.0.conv_pw")]
    assert step.describe() == {"op": "quantize", "input": "21x25x16", "k": None, "s": 1, "out": 16}
    assert step.end == "int8" and step.macs == 0 and step.flops() == 21 * 25 * 16


def test_bytes_of_a_step(fused, unfused):
    """Values of 8 bits (of 16 without dot products of bytes), scales and biases of 4 bytes for each channel."""
    byname = {step.name: step for one in (fused, unfused) for step in one.steps}
    pixels = 21 * 25  # of stages 0 and 1
    assert byname["conv_stem"].bytes() == 4 * (41 * 50 * 3 + pixels * 32 + 32 * 27 + 32)
    assert byname["blocks.0.0.conv_dw"].bytes() == 4 * (pixels * 32 + 32 * 9 + 32) + ITEM * pixels * 32
    assert byname["blocks.0.0.conv_pw"].bytes() == ITEM * (pixels * 32 + 32 * 16) + 4 * (pixels * 16 + 2 * 16)
    assert byname["input of blocks.1.0.conv_pw"].bytes() == pixels * (4 * 16 + ITEM * 16) + 4 * 21
    assert byname["blocks.1.0.conv_pw"].bytes() == ITEM * (pixels * (16 + 96) + 16 * 96) + 4 * (21 + 2 * 96)
    pixels = 6 * 7  # of stage 2
    assert byname["blocks.2.1.conv_pwl"].bytes() == ITEM * (pixels * 240 + 240 * 40) + 4 * (2 * pixels * 40 + 2 * 40)
    assert byname["global_pool"].bytes() == ITEM * 2 * 2 * 1280 + 4 * 1280


@pytest.mark.parametrize("plan, name, field, by", [
    ("fused", "conv_stem + conv_dw", "picture_top", -1),
    ("fused", "input of blocks.1.0.conv_pw", "x", 4),
    ("fused", "blocks.1.0.conv_pw + conv_dw", "depthwise_bias", 64),
    ("fused", "blocks.2.1.conv_pw + conv_dw", "scale", 4),
    ("fused", "blocks.2.1.conv_pwl", "has_residual", -1),
    ("unfused", "blocks.0.0.conv_dw", "left", -1),
    ("unfused", "blocks.1.0.conv_pw", "relu6", -1),
    ("unfused", "global_pool", "pixels", -1),
    ("unfused", "classifier", "scale", 4)])
def test_a_wrong_step_is_found(request, monkeypatch, plan, name, field, by):
    chosen = request.getfixturevalue(plan)
    i = [step.name for step in chosen.steps].index(name)
    wrong = chosen.buffers.plan.steps[i : i + 1].copy()
    wrong[field] += by
    assert_found(monkeypatch, chosen, i, chosen.runner(wrong))


@pytest.mark.parametrize("name, field", [
    ("input of blocks.1.0.conv_pw", "out"), ("input of blocks.1.0.conv_pw", "scale"), ("blocks.1.0.conv_pw", "out"),
    ("blocks.1.0.conv_pwl", "out"), ("global_pool", "out"), ("classifier", "out")])
def test_a_single_wrong_bit_is_found(monkeypatch, unfused, name, field):
    """The last one of the first value."""
    i = [step.name for step in unfused.steps].index(name)
    right = unfused.calls[i]

    def wrong():
        right()
        unfused.buffers.arena[unfused.steps[i].row[field]] ^= 1

    assert_found(monkeypatch, unfused, i, wrong)


def assert_found(monkeypatch, chosen, i, wrong):
    for call in chosen.calls[:i]:
        call()
    monkeypatch.setattr(chosen, "calls", [*chosen.calls[:i], wrong, *chosen.calls[i + 1 :]])
    with pytest.raises(NpefficientError, match=rf"step {i}, {chosen.steps[i].name.replace('+', '[+]')}: WRONG RESULT"):
        chosen.run_verified(i)


def test_logits_must_be_equal_to_the_bit(fused):
    fused.whole()
    logits = fused.logits()
    layers.check(fused, "right", logits)
    with pytest.raises(NpefficientError, match="other, the whole pass: WRONG RESULT"):
        layers.check(fused, "other", np.nextafter(logits, np.float32(np.inf)))


# --- the command -----------------------------------------------------------------------------------------------------


def test_model_measures_both_precisions(bench, tmp_path, monkeypatch):
    """float32 first, whatever the order; the logits of int8 are equal to the plain integer network's."""
    peaks = {"float32": 100.0, "int8": 450.0}
    monkeypatch.setattr(model, "core_now", lambda precision: peak.Core(peaks[precision] * 1e9, 3e9))
    code, out, err = bench("model", "--size", "33", "--batch", "1,2", "--precision", "int8,float32", "--seconds",
                           "0.01", "--json", tmp_path / "m.json")
    assert code == 0 and err == "" and model.SPEED_LEGEND in out
    speed, start = tables(tmp_path / "m.json").values()
    assert [(row["precision"], row["differs"] > 0) for row in start] == 2 * [("float32", True), ("int8", False)]
    for floats, integers in (speed[:2], speed[2:]):
        assert floats["x float32"] is None and floats["batch"] == integers["batch"]
        assert integers["x float32"] == pytest.approx(floats["p50"] / integers["p50"])
        for row in (floats, integers):
            assert row["peak GOP/s"] == row["peak 1"] == row["peak 2"] == peaks[row["precision"]]
            assert row["of peak"] == pytest.approx(row["GOP/s"] / peaks[row["precision"]])
        assert integers["GOP/s"] * integers["p50"] == pytest.approx(floats["GOP/s"] * floats["p50"])


def test_model_without_floats_compares_nothing(bench, tmp_path):
    code, _, err = bench("model", "--size", "33", "--precision", "int8", "--seconds", "0.01", "--json",
                         tmp_path / "m.json")
    assert code == 0 and err == ""
    assert [row["x float32"] for row in tables(tmp_path / "m.json")["speed"]] == [None]


def test_layers_add_up(bench, tmp_path, fused):
    code, out, err = bench("layers", "--size", "41x50", "--seconds", "0.01", "--precision", "int8", "--json",
                           tmp_path / "layers.json")
    *rows, total, whole, difference = tables(tmp_path / "layers.json")["layers"]
    assert code == 0 and err == "" and "lite0 41x50 int8, 1 thread, every step in its place; peak " in out
    assert [row["layer"] for row in rows] == [layers.BEFORE, *(step.name for step in fused.steps)]
    for row, step in zip(rows[1:], fused.steps, strict=True):
        assert row["GOP/s"] == pytest.approx(step.flops() / row["us"] / 1e3) and row["KiB"] == step.bytes() / 1024
        assert 0 < row["of peak"] < 1 and 0 < row["limit"] <= 1
    assert sum(row["us"] for row in rows) == pytest.approx(total["us"])
    assert total["us"] + difference["us"] == pytest.approx(whole["us"])


@pytest.mark.parametrize("arguments, ops", [
    (("--op", "depthwise", "--layer", "blocks.[01].*"), ["depthwise"] * 3),
    (("--op", "quantize", "--layer", "* blocks.[12].*"), ["quantize"] * 3),
    (("--layer", "blocks.3.1.conv_p?", "--plot", "roof.png"), ["pointwise"])], ids=["depthwise", "quantize", "one"])
def test_kernels_of_some_layers(bench, tmp_path, monkeypatch, arguments, ops):
    monkeypatch.chdir(tmp_path)
    code, out, err = bench("kernels", "--size", "40", "--seconds", "0.001", "--precision", "int8", *arguments, "--json",
                           tmp_path / "k.json")
    written = tables(tmp_path / "k.json")
    assert code == 0 and err == "" and kernels.LEGEND in out and set(written) == {"reads", "kernels"}
    assert [row["op"] for row in written["kernels"]] == ops
    for row in written["kernels"]:
        assert row["us"] >= row["best"] > 0 and row["GOP/s"] > 0 and 0 < row["limit"] <= 1 and row["differs"] == 0
    assert (tmp_path / "roof.png").exists() is ("--plot" in arguments)


def test_kernels_take_each_shape_once(unfused):
    counts = kernels.choose(unfused, None, None)
    assert sum(counts.values()) == len(unfused.steps)
    assert {unfused.steps[i].op for i in counts} == {"stem", "depthwise", "pointwise", "quantize", "pool", "classifier"}


def test_kernels_refuse_a_wrong_one(bench, monkeypatch):
    right = steps.Steps._expected
    monkeypatch.setattr(steps.Steps, "_expected", lambda *arguments: np.nextafter(right(*arguments), np.float32(9)))
    code, _, err = bench("kernels", "--size", "40", "--seconds", "0.001", "--op", "stem", "--precision", "int8")
    assert code == 1 and "step 0, conv_stem: WRONG RESULT" in err


def test_quantising_is_no_kernel_of_floats(bench):
    code, _, err = bench("kernels", "--size", "40", "--op", "quantize")
    assert code == 1 and "no layer matches --op 'quantize': 'npefficient info" in err


def test_each_precision_has_its_peak(monkeypatch):
    asked = []
    monkeypatch.setattr(peak, "core_peak", lambda seconds, precision: asked.append(precision) or 1.0)
    monkeypatch.setattr(peak, "clock_rate", lambda seconds: 2.0)
    assert [peak.core_now(precision) for precision in peak.UNITS] == [peak.Core(1.0, 2.0)] * 2
    assert asked == ["float32", "int8"]
