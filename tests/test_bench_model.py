"""The benchmarks of our own network: whole models, steps in place, kernels alone; never how fast they are."""
import json

import numpy as np
import pytest
from fake_clock import Clock

from npefficient import architecture
from npefficient.bench import kernels, layers, model, steps, subject
from npefficient.errors import NpefficientError
from npefficient.parameters import random_weights

# --- model -----------------------------------------------------------------------------------------------------------


def test_model_measures_every_combination(bench, tmp_path):
    code, out, err = bench("model", "--size", "40x33", "--batch", "1,3", "--threads", "1,2", "--seconds", "0.01",
                           "--json", tmp_path / "model.json")
    tables = json.loads((tmp_path / "model.json").read_text())["tables"]
    assert code == 0 and err == ""
    assert [(r["batch"], r["threads"]) for r in tables["speed"]] == [(1, 1), (1, 2), (3, 1), (3, 2)]
    for row in tables["speed"]:
        assert row["min ms"] <= row["p50"] <= row["p90"] <= row["p99"] and row["best"] >= row["of peak"] > 0
        assert row["images/s"] == pytest.approx(row["batch"] / row["p50"] * 1e3)
    assert all(row["peak MB"] > 20 and row["differs"] < 1e-4 for row in tables["start"])


def test_model_refuses_wrong_logits(tmp_path):
    made = subject.make_subject("lite0", tmp_path, (33, 20))
    logits = made._file("logits")
    np.save(logits, np.load(logits) + np.float32(1e-3))
    with pytest.raises(NpefficientError, match="lite0 33x20, batch 1, 1 threads: WRONG RESULT"):
        model.child("lite0", 33, 20, str(tmp_path), 1, 1, 0.01)


# --- layers and kernels ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_steps():
    weights = random_weights(architecture.build("lite0"))
    return steps.Steps(weights, np.random.default_rng(0).uniform(-1, 1, (2, 41, 50, 3)).astype(np.float32))


def test_every_step_is_what_numpy_makes_of_its_input(small_steps):
    layers_, macs = small_steps.weights.architecture.layers(41, 50), small_steps.weights.architecture.macs(41, 50)
    assert [step.layer for step in small_steps.steps] == layers_
    for i in range(len(layers_)):
        assert small_steps.run_verified(i) < 1e-4
    pool = 2 * 2 * 1280
    assert sum(step.flops(2) for step in small_steps.steps) == 2 * (2 * macs + pool)


def test_a_wrong_step_is_found(small_steps):
    i = small_steps.plan.names.index("blocks.2.1.conv_pwl")
    for call in small_steps.calls[:i]:
        call()
    right, small_steps.calls[i] = small_steps.calls[i], lambda: None  # the buffer keeps what was there before
    try:
        with pytest.raises(NpefficientError, match=r"step \d+, blocks.2.1.conv_pwl: WRONG RESULT"):
            small_steps.run_verified(i)
    finally:
        small_steps.calls[i] = right


def test_bytes_of_a_step(small_steps):
    byname = {step.layer.name: step for step in small_steps.steps}
    assert byname["conv_stem"].bytes(2) == 4 * (2 * (41 * 50 * 3 + 21 * 25 * 32) + 32 * 27 + 32)
    pixels = 6 * 7  # of stage 2
    assert byname["blocks.2.1.conv_pwl"].bytes(1) == 4 * (pixels * (240 + 2 * 40) + 240 * 40 + 40)


def test_a_repeated_step_runs_as_often(small_steps):
    """Through the bits: depthwise steps repeated give the same, as each only reads what others wrote."""
    once = small_steps.logits() if small_steps.whole() is None else None
    for i in range(len(small_steps.steps)):
        small_steps.repeated(i, 3)()
    small_steps.nothing()()
    assert np.array_equal(small_steps.logits(), once)


def test_layers_add_up(bench, tmp_path):
    code, out, err = bench("layers", "--size", "40", "--seconds", "0.01", "--json", tmp_path / "layers.json")
    rows = json.loads((tmp_path / "layers.json").read_text())["tables"]["layers"]
    assert code == 0 and err == ""
    *rows, total, whole, over = rows
    assert [row["layer"] for row in rows] == [layer.name for layer in architecture.build("lite0").layers(40, 40)]
    assert sum(row["us"] for row in rows) == pytest.approx(total["us"])
    assert sum(row["of time"] for row in rows) == pytest.approx(1)
    assert total["us"] + over["us"] == pytest.approx(whole["us"])


def test_layers_refuses_wrong_logits(monkeypatch, small_steps):
    class Other:
        title = "other"

        @staticmethod
        def logits(batch):
            return np.zeros((2, 1000), np.float32)

    with pytest.raises(NpefficientError, match="other, the whole pass: WRONG RESULT"):
        layers.check(small_steps, Other)


def test_time_rounds_counts_what_the_clock_says():
    clock = Clock()

    class Fake:
        whole = staticmethod(lambda: setattr(clock, "now", clock.now + 7))
        calls = [lambda: setattr(clock, "now", clock.now + 1), lambda: setattr(clock, "now", clock.now + 4)]
        nothing = staticmethod(lambda: lambda: setattr(clock, "now", clock.now + 0.5))

    taken, whole, idle = layers.time_rounds(Fake, 100.0, clock)
    assert taken.tolist() == [[1, 4]] * 8 and whole.median == 7 and idle.minimum == 0.5


@pytest.mark.parametrize("arguments, ops", [
    (("--op", "depthwise", "--layer", "blocks.[01].*"), ["depthwise"] * 3),
    (("--layer", "*_stem"), ["stem"]), (("--op", "pool"), ["pool"]), (("--op", "classifier"), ["classifier"])])
def test_kernels_of_some_layers(bench, tmp_path, arguments, ops):
    code, _, err = bench("kernels", "--size", "40", "--seconds", "0.001", *arguments, "--json", tmp_path / "k.json")
    rows = json.loads((tmp_path / "k.json").read_text())["tables"]["kernels"]
    assert code == 0 and err == "" and [row["op"] for row in rows] == ops
    assert all(row["us"] >= row["best"] > 0 and row["GB/s"] > 0 and row["differs"] < 1e-4 for row in rows)


def test_kernels_take_each_shape_once(small_steps):
    counts = kernels.choose(small_steps, None, None)
    assert sum(counts.values()) == len(small_steps.steps)
    shapes = [small_steps.steps[i].shape for i in counts]
    assert len(set(shapes)) == len(shapes) and max(counts.values()) == 4


def test_kernels_refuse_a_wrong_one(bench, monkeypatch):
    right = steps.Steps._expected
    monkeypatch.setattr(steps.Steps, "_expected", lambda *arguments: right(*arguments) + np.float32(1e-3))
    code, _, err = bench("kernels", "--size", "40", "--seconds", "0.001", "--op", "stem")
    assert code == 1 and "step 0, conv_stem: WRONG RESULT" in err
