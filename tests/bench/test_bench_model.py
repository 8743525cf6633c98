"""The benchmarks of our own network: whole models, steps in place, kernels alone; never how fast they are."""

import numpy as np
import pytest
from fake_clock import Clock
from json_tables import tables

from npefficient.bench import kernels, layers, model, steps, subject
from npefficient.bench.measure import summary
from npefficient.bench.peak import cores_of
from npefficient.engine.engine import Engine
from npefficient.engine.plan import make_plan
from npefficient.errors import NpefficientError
from npefficient.network import architecture
from npefficient.network.parameters import random_weights

SIZE = 41, 50  # odd and even; the later stages have more channels than pixels


# --- model -----------------------------------------------------------------------------------------------------------


def test_model_measures_every_combination(bench, tmp_path):
    code, out, err = bench("model", "--size", "40x33", "--batch", "1,3", "--threads", "1,2", "--seconds", "0.01",
                           "--json", tmp_path / "model.json")
    speed, start = tables(tmp_path / "model.json").values()
    assert code == 0 and err == "" and model.SPEED_LEGEND in out and model.LEGEND in out
    for rows in (speed, start):
        assert [(r["batch"], r["threads"]) for r in rows] == [(1, 1), (1, 2), (3, 1), (3, 2)]
    for row in speed:
        assert row["min ms"] <= row["p50"] <= row["p90"] <= row["p99"] and row["best"] >= row["of peak"] > 0
        assert row["images/s"] == pytest.approx(row["batch"] / row["p50"] * 1e3)
        mean = (row["peak 1"] + row["peak 2"]) / 2
        assert row["peak GOP/s"] == pytest.approx(mean * cores_of(row["threads"]))
        assert row["of peak"] == pytest.approx(row["GOP/s"] / row["peak GOP/s"])
        assert min(row["GHz 1"], row["GHz 2"]) > 0 and (model.unsteady(row) or "") in out
    for row in start:
        assert set(model.START) == set(row) and row["from"] in ("cache", "Numba")
        assert row["peak MB"] > 20 and row["differs"] < 1e-4 and row["scratch"] > 0


@pytest.mark.parametrize("first, second, change", [(100, 100, None), (102, 98, None), (97, 103, "6%"),
                                                   (80, 120, "40%")])
def test_a_peak_that_changes_is_warned_of(first, second, change):
    row = {"model": "lite0 33x20", "precision": "int8", "batch": 3, "threads": 1, "peak 1": first, "peak 2": second}
    assert model.unsteady(row) == (change and f"WARNING: the peak changed by {change} while lite0 33x20, int8, batch "
                                   "3, 1 thread was measured: its shares of the peak are uncertain")


def test_model_takes_more_threads_than_there_are_cores(bench, tmp_path):
    code, _, err = bench("model", "--size", "33", "--threads", "5", "--seconds", "0.01", "--json", tmp_path / "m.json")
    assert code == 0 and err == "" and tables(tmp_path / "m.json")["speed"][0]["threads"] == 5


def test_model_refuses_wrong_logits(tmp_path):
    made = subject.make_subject("lite0", tmp_path, (33, 20))
    logits = made._file("float32-logits")
    np.save(logits, np.load(logits) + np.float32(1e-3))
    with pytest.raises(NpefficientError, match="lite0 33x20, float32, batch 1, 1 thread: WRONG RESULT"):
        model.child("lite0", 33, 20, str(tmp_path), "float32", 1, 1, 0.01)


@pytest.mark.parametrize("batch, threads, alone, together", [(1, 1, 1, 0), (3, 1, 1, 0), (1, 2, 0, 1), (4, 2, 2, 0),
                                                             (3, 2, 2, 1)])
def test_memory_held_is_what_pictures_on_their_way_need(weights, batch, threads, alone, together):
    """The arenas for pictures that have a thread each, and for one that all threads share."""
    engine = Engine(weights, threads)
    engine.outputs(np.zeros((batch, 33, 20, 3), np.float32), ["global_pool"])
    keep = frozenset(["global_pool"])
    one, shared = (make_plan(weights.architecture, engine.packed, 33, 20, count, keep) for count in (1, threads))
    scratch = max([one.scratch_size] * bool(alone) + [shared.scratch_size] * bool(together))
    assert steps.memory_held(engine) == (alone * one.arena_size + together * shared.arena_size, threads * scratch)


# --- steps -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights():
    return random_weights(architecture.build("lite0"))


def test_every_step_is_what_numpy_makes_of_its_input(some_steps):
    network = some_steps.weights.architecture
    assert [layer for step in some_steps.steps for layer in step.layers] == network.layers(*SIZE)
    for i in range(len(some_steps.steps)):
        assert some_steps.run_verified(i) < 1e-4
    pool = 2 * 2 * 1280
    assert sum(step.flops() for step in some_steps.steps) == 2 * network.macs(*SIZE) + pool
    assert sum(step.constants for step in some_steps.steps) == 4 * (network.param_count() - sum(
        conv.out_channels for conv in network.convs))  # a bias for scale and shift


def test_a_depthwise_step_takes_the_layer_before_it_along(fused, unfused):
    depthwise = [step for step in fused.steps if step.layers[-1].op == "depthwise"]
    assert all(len(step.layers) == (2 if step in depthwise else 1) for step in fused.steps)
    assert {step.op for step in depthwise} == {"stem + depthwise", "pointwise + depthwise"}
    assert depthwise[1].name == "blocks.1.0.conv_pw + conv_dw"
    assert depthwise[1].describe() == {"op": "pointwise + depthwise", "input": "21x25x16", "k": 3, "s": 2, "out": 96}
    assert all(len(step.layers) == 1 for step in unfused.steps) and len(unfused.steps) == len(fused.steps) + 16


@pytest.mark.parametrize("plan, name, field, by", [
    ("fused", "conv_stem + conv_dw", "picture_top", -1),
    ("fused", "blocks.1.0.conv_pw + conv_dw", "depthwise_bias", 64),
    ("fused", "blocks.2.1.conv_pw + conv_dw", "top", -1),
    ("fused", "blocks.2.1.conv_pwl", "relu6", 1),
    ("fused", "blocks.2.1.conv_pwl", "has_residual", -1),
    ("unfused", "conv_stem", "bias", 64),
    ("unfused", "blocks.0.0.conv_dw", "left", -1),
    ("unfused", "blocks.1.0.conv_pw", "relu6", -1),
    ("unfused", "global_pool", "pixels", -1),
    ("unfused", "classifier", "relu6", 1)])
def test_a_wrong_step_is_found(request, monkeypatch, plan, name, field, by):
    chosen = request.getfixturevalue(plan)
    i = [step.name for step in chosen.steps].index(name)
    chosen.whole()
    for call in chosen.calls[:i]:
        call()
    wrong = chosen.buffers.plan.steps[i : i + 1].copy()
    wrong[field] += by
    monkeypatch.setattr(chosen, "calls", [chosen.runner(wrong) if call is chosen.calls[i] else call
                                          for call in chosen.calls])
    with pytest.raises(NpefficientError, match=rf"step {i}, {name.replace('+', '[+]')}: WRONG RESULT"):
        chosen.run_verified(i)


def test_bytes_of_a_step(fused, unfused):
    byname = {step.name: step for one in (fused, unfused) for step in one.steps}
    stem, depthwise = 32 * 27 + 32, 32 * 9 + 32  # weights and biases
    assert byname["conv_stem"].bytes() == 4 * (41 * 50 * 3 + 21 * 25 * 32 + stem)
    assert byname["blocks.0.0.conv_dw"].bytes() == 4 * (21 * 25 * (32 + 32) + depthwise)
    assert byname["conv_stem + conv_dw"].bytes() == 4 * (41 * 50 * 3 + 21 * 25 * 32 + stem + depthwise)
    pixels = 6 * 7  # of stage 2
    assert byname["blocks.2.1.conv_pwl"].bytes() == 4 * (pixels * (240 + 2 * 40) + 240 * 40 + 40)


def test_every_way_through_the_steps_gives_the_same_bits(some_steps):
    some_steps.whole()
    expected = some_steps.logits()
    assert expected.shape == (1, 1000)

    def forget():
        some_steps.buffers.arena[:] = 0xFF  # NaN wherever a step should have written

    forget()
    some_steps.in_place()
    assert np.array_equal(some_steps.logits(), expected)
    forget()
    for i in range(len(some_steps.steps)):  # each reads only what those before it wrote, so it may run again
        some_steps.repeated(i, 3)()
    assert np.array_equal(some_steps.logits(), expected)
    forget()
    some_steps.nothing()()
    some_steps.looks()
    assert (some_steps.buffers.arena == 0xFF).all()


def test_a_pass_in_place_is_cut_into_its_steps(some_steps):
    clock = Clock()

    def ticking():
        clock.now += 1
        return clock.now

    assert some_steps.in_place(ticking).tolist() == [1] * (1 + len(some_steps.steps))
    assert some_steps.looks(ticking) == 1


# --- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_layers_add_up(bench, tmp_path, fused, threads):
    code, out, err = bench("layers", "--size", "41x50", "--seconds", "0.01", "--threads", threads, "--json",
                           tmp_path / "layers.json")
    *rows, total, whole, difference = tables(tmp_path / "layers.json")["layers"]
    assert code == 0 and err == ""
    assert [row["layer"] for row in rows] == [layers.BEFORE, *(step.name for step in fused.steps)]
    assert all(row["us"] > 0 and row["best"] > 0 for row in rows) and whole["us"] >= whole["best"] > 0
    assert sum(row["us"] for row in rows) == pytest.approx(total["us"])
    assert sum(row["best"] for row in rows) == pytest.approx(total["best"])
    assert sum(row["of time"] for row in rows) == pytest.approx(1)
    assert total["us"] + difference["us"] == pytest.approx(whole["us"])
    assert sum(row["MMACs"] for row in rows[1:]) == pytest.approx(architecture.build("lite0").macs(*SIZE) / 1e6)
    assert difference["rounds"] >= layers.FEWEST and f"costs {difference['look us']:.1f} us" in out


def test_layers_refuses_wrong_logits(fused):
    with pytest.raises(NpefficientError, match="other, the whole pass: WRONG RESULT"):
        layers.check(fused, "other", np.zeros((1, 1000), np.float32))


@pytest.mark.parametrize("way, message", [("in_place", "with a look after each step"), ("calls", "step by step")])
def test_layers_refuses_other_bits_step_by_step(weights, picture, way, message):
    made = steps.Steps(weights, picture)
    made.whole()
    right = made.logits()
    layers.check(made, "right", right)

    def spoil():
        start = made.buffers.plan.outputs["classifier"].offset
        made.buffers.arena[start : start + 4].view(np.float32)[:] += 1

    setattr(made, way, {"in_place": spoil, "calls": [*made.calls, spoil]}[way])
    with pytest.raises(NpefficientError, match=f"right, {message}: WRONG RESULT"):
        layers.check(made, "right", right)


def test_time_rounds_counts_what_the_clock_says():
    clock = Clock()

    class Fake:
        @staticmethod
        def whole():
            clock.now += 7

        @staticmethod
        def in_place(clock):
            clock.now += 5.5
            return [1, 4]

        looks = staticmethod(lambda clock: 0.25)

    taken, whole, look = layers.time_rounds(Fake, 100.0, clock)
    assert taken.tolist() == [[1, 4]] * 8 and whole.median == 7 and whole.runs == 8 and look == 0.25


# --- kernels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, ops", [
    (("--op", "depthwise", "--layer", "blocks.[01].*"), ["depthwise"] * 3),
    (("--layer", "*_stem"), ["stem"]), (("--op", "pool"), ["pool"]), (("--op", "classifier"), ["classifier"])])
def test_kernels_of_some_layers(bench, tmp_path, arguments, ops):
    code, out, err = bench("kernels", "--size", "40", "--seconds", "0.001", *arguments, "--json", tmp_path / "k.json")
    rows = tables(tmp_path / "k.json")["kernels"]
    assert code == 0 and err == "" and [row["op"] for row in rows] == ops and kernels.LEGEND in out
    assert all(row["us"] >= row["best"] > 0 and row["GB/s"] > 0 and row["differs"] < 1e-4 for row in rows)


def test_kernels_take_each_shape_once(unfused):
    counts = kernels.choose(unfused, None, None)
    assert sum(counts.values()) == len(unfused.steps)
    shapes = [unfused.steps[i].shape for i in counts]
    assert len(set(shapes)) == len(shapes) and max(counts.values()) == 4


@pytest.mark.parametrize("each", [1e-7, 1e-5, 1e-3, 5.0])
def test_a_step_is_repeated_until_its_call_is_long_enough(monkeypatch, each):
    """A call costs more than a short step, and must not hide the step's time."""
    calls = []

    class Fake:
        @staticmethod
        def repeated(i, times):
            calls.append(times)
            return times

    def measure(call, seconds):
        taken = 2e-5 + each * call
        return summary([taken])

    monkeypatch.setattr(kernels, "measure", measure)
    timing, repeats = kernels.time_step(Fake, 3, 1.0)
    assert repeats == calls[-1] and timing.median == 2e-5 + each * repeats and calls == sorted(set(calls))
    assert repeats == kernels.MOST or timing.minimum >= kernels.CALL / 2
    assert repeats == 1 or timing.minimum < 2 * kernels.CALL


def test_kernels_refuse_a_wrong_one(bench, monkeypatch):
    right = steps.Steps._expected
    monkeypatch.setattr(steps.Steps, "_expected", lambda *arguments: right(*arguments) + np.float32(1e-3))
    code, _, err = bench("kernels", "--size", "40", "--seconds", "0.001", "--op", "stem")
    assert code == 1 and "step 0, conv_stem: WRONG RESULT" in err
