"""The benchmark of a training step: what it refuses, counts and prints; never how fast."""

import numpy as np
import pytest
from json_tables import tables

from npefficient.bench import process
from npefficient.bench.peak import Core
from npefficient.bench.peers import peer, training, training_check, training_costs, training_engines
from npefficient.bench.peers.peer import OURS, Needs, Peer
from npefficient.bench.subject import make_subject
from npefficient.bench.verify import LOGITS, tolerance
from npefficient.commands import bench
from npefficient.engine import training_steps
from npefficient.engine.training import TrainingEngine
from npefficient.errors import NpefficientError
from npefficient.network.architecture import build
from npefficient.network.parameters import random_weights

TRAINERS = [one for one in peer.PEERS if one.trains]
INSTALLED = [one for one in TRAINERS
             if not one.obstacle("float32", 1) and one.engine != "torch_compile"]  # that takes minutes
SIZE = 47, 64  # odd rows: pads differ from axis to axis


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_subject("lite0", tmp_path_factory.mktemp("small"), SIZE, precisions=())


@pytest.fixture
def only_small(monkeypatch, small):
    monkeypatch.setattr(training, "make_subject", lambda name, directory, precisions: small)


def case(subject, batch=3, threads=1):
    return training.Case(subject, batch, threads)


# --- what a step costs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lite0", "lite4"])
def test_each_convolution_is_computed_forward_and_twice_backward_but_for_the_stem(name):
    layers = build(name).layers(*SIZE)
    expected = sum(layer.macs * (2 if layer.op == "stem" else 3) for layer in layers)
    assert training_costs.step_macs(build(name), *SIZE) == expected


def test_bytes_moved_are_those_of_the_maps_that_the_engines_steps_are_given(monkeypatch):
    weights, batch, passes = random_weights(build("lite0")), 2, []

    class Noted(training_steps.Pass):
        def __init__(self, layout, scratch_size, steps):
            super().__init__(layout, scratch_size, steps)
            passes.append(self)

    monkeypatch.setattr(training_steps, "Pass", Noted)
    engine = TrainingEngine(weights.architecture, (batch, *SIZE, 3), 1)
    x, _ = training_check.batch_of((batch, *SIZE, 3))
    engine.backward(engine.forward(weights.parameters, x))

    channels = {layer.z.ctypes.data: layer.conv.out_channels for layer in engine.layers}
    layers = {layer.name: layer for layer in build("lite0").layers(*SIZE)}
    head, floats = layers["conv_head"].activations, 0
    for step in np.concatenate([one.steps for one in passes]):
        z = int(step["out_height"] * step["out_width"] * channels.get(int(step["z"]), 0))
        x = int(step["height"] * step["width"]) * channels.get(int(step["x"]), 3)
        if step["op"] == training_steps.ACTIVATE:
            floats += 2 * x
        elif step["op"] == training_steps.SUMS:
            floats += 3 * x
        elif step["norm"]:  # not the classifier
            backward = step["op"] >= training_steps.BACKWARD_STEM
            floats += z * (2 if backward else 1)  # dy too
            floats += x * (1 + sum(bool(step[name]) for name in ("y", "residual", "x_dy", "skip")))
    floats += 2 * head  # the pool, forward and backward
    per_picture = training_costs.bytes_moved(build("lite0"), *SIZE, 1)
    parameters = 4 * training_costs.PARAMETER_PASSES * build("lite0").param_count()
    assert per_picture == 4 * floats + parameters
    assert training_costs.bytes_moved(build("lite0"), *SIZE, 8) == 4 * floats + parameters / 8


# --- what is refused -------------------------------------------------------------------------------------------------


def test_first_gradients_are_compared_with_the_plain_network(monkeypatch, small):
    monkeypatch.setattr(training_check, "SHAPE", (3, 45, 52, 3))
    once, twice = training_check.check(str(small.weights), [1, 2])
    assert 0 < once == twice < training_check.GRADIENTS
    right = TrainingEngine.backward

    def without_a_shift(engine, dlogits):
        gradients = right(engine, dlogits)
        return gradients | {"blocks.3.1.bn1.bias": 0 * gradients["blocks.3.1.bn1.bias"]}

    monkeypatch.setattr(TrainingEngine, "backward", without_a_shift)
    with pytest.raises(NpefficientError, match="lite0, training, 2 threads: WRONG RESULT, the gradient for "
                                               "'blocks.3.1.bn1.bias' differs by 100.0% in norm where 10% is allowed"):
        training_check.check(str(small.weights), [2])
    forward = TrainingEngine.forward
    monkeypatch.setattr(TrainingEngine, "forward", lambda *arguments: forward(*arguments) * np.float32(1.001))
    with pytest.raises(NpefficientError, match="npefficient, lite0, training, 2 threads, loss: WRONG RESULT"):
        training_check.check(str(small.weights), [2])


@pytest.mark.parametrize("change", [
    lambda g: {"a": g["a"]}, lambda g: g | {"c": g["a"]}, lambda g: g | {"a": -g["a"]}, lambda g: g | {"b": g["a"]},
    lambda g: g | {"a": g["a"] * np.nan}, lambda g: g | {"a": g["a"] + [0.6, 0]},
], ids=["missing", "unknown", "sign", "zero", "nan", "one value"])
def test_gradients_that_are_no_roundings_apart_are_refused(change):
    expected = {"a": np.array([3.0, 4.0]), "b": np.zeros(2)}
    assert training_check.compare("it", expected, expected) == 0
    close = expected | {"a": np.array([3.0, 4.1]), "b": np.array([0.01, 0])}
    assert training_check.compare("it", close, expected) == pytest.approx(0.01 / (0.1 * 2.5))
    with pytest.raises(NpefficientError, match="it: WRONG RESULT, .* nothing is timed"):
        training_check.compare("it", change(expected), expected)


def test_the_second_loss_tells_whether_the_first_step_was_right(small):
    first, second = training.first_losses(case(small))
    assert first - second > 20 * training.SLACK * tolerance(LOGITS, first)


@pytest.mark.parametrize("engine", ["npefficient", *(one.engine for one in INSTALLED)])
def test_wrong_losses_of_an_engine_are_found(small, engine):
    chosen = next(one for one in (OURS, *TRAINERS) if one.engine == engine)
    first, second = training.first_losses(case(small))
    found = training.time_peer(chosen, case(small), [first, second], 0.01)
    assert found["differs"] <= (0 if engine == "npefficient" else training.SLACK * tolerance(LOGITS, first))
    with pytest.raises(NpefficientError, match=f"{engine}, lite0 47x64, training, batch 3, 1 thread, losses of the "
                                               "first steps: WRONG RESULT"):
        training.time_peer(chosen, case(small), [first, second + 0.01], 0.01)


def test_pictures_and_labels_are_the_same_in_every_process():
    (x, labels), (again, _) = training_check.batch_of((2, 3, 4, 3)), training_check.batch_of((2, 3, 4, 3))
    assert x.dtype == np.float32 and labels.dtype == np.int64 and labels.tolist() == [0, 37]
    np.testing.assert_array_equal(x, again)


# --- turns and the table ---------------------------------------------------------------------------------------------


def result(seconds):
    return {"minimum": seconds / 2, "median": seconds, "memory": 10**8, "differs": 0.0}


@pytest.fixture
def stand_ins(monkeypatch, only_small):
    """Nothing is computed; returns the calls of `time_peer`: (engine, batch, threads)."""
    calls = []

    def time_peer(one, case, losses, seconds):
        calls.append((one.engine, case.batch, case.threads))
        assert losses == [7.0, 6.5]
        return result(1.0)

    monkeypatch.setattr(peer, "PEERS", (Peer("numpy", "numpy", trains=True), Peer("answers", "numpy"),
                                        Peer("ghost", "ghost", Needs(("no_such_module",)), trains=True)))
    monkeypatch.setattr(training, "isolated", lambda *arguments, **named: [0.0])
    monkeypatch.setattr(training, "first_losses", lambda case: [7.0, 6.5])
    monkeypatch.setattr(training, "core_now", lambda precision: Core(1e11, 3e9))
    monkeypatch.setattr(training, "time_peer", time_peer)
    return calls


def test_installed_peers_and_we_are_timed(bench, tmp_path, monkeypatch, only_small):
    monkeypatch.setattr(peer, "PEERS", tuple(INSTALLED))
    code, out, err = bench("training", "--batch", "3", "--rounds", "1", "--seconds", "0.01", "--json",
                           tmp_path / "t.json")
    rows = tables(tmp_path / "t.json")["training"]
    assert code == 0 and "left out" not in err
    assert [row["engine"] for row in rows] == ["npefficient", *(one.engine for one in INSTALLED)]
    assert rows[0]["/ ours"] == 1 and rows[0]["GB/s"] > 0
    for row in rows:
        assert row["min ms"] <= row["median"] and row["images/s"] == pytest.approx(1e3 / row["median"])
        assert 0 < row["of peak"] < 1 and row["peak MB"] > 20
        assert row["rounds"][0]["median"] == pytest.approx(row["median"])


def test_every_batch_and_number_of_threads_is_timed_in_turns(bench, stand_ins):
    code, out, err = bench("training", "--batch", "16,32", "--threads", "1,2", "--rounds", "2")
    assert code == 0 and "left out: ghost (not installed: no_such_module)" in err
    assert "lite0 47x64, training, batch 16, 2 threads, round 2 of 2: numpy" in err
    turns = ["npefficient", "numpy", "numpy", "npefficient"]
    assert stand_ins == [(engine, batch, threads) for batch in (16, 32) for threads in (1, 2) for engine in turns]
    lines = out.splitlines()
    heading = next(i for i, line in enumerate(lines) if line.startswith("model "))
    assert lines[heading - 1] == "training, 2 rounds of 2 s"
    words = [line.split() for line in lines[heading + 1:heading + 9]]
    assert [(engine, threads, batch) for _, _, engine, _, threads, batch, *_ in words] == [
        (engine, threads, batch) for batch in ("16", "32") for threads in "12" for engine in ("npefficient", "numpy")]
    assert lines[heading + 9] == training.LEGEND.splitlines()[0]


def test_after_an_interrupt_what_was_measured_is_printed(bench, monkeypatch, stand_ins):
    def time_peer(one, case, losses, seconds):
        if case.batch == 32:
            raise KeyboardInterrupt
        return result(1.0)

    monkeypatch.setattr(training, "time_peer", time_peer)
    code, out, _ = bench("training", "--batch", "16,32", "--rounds", "1")
    assert code == 130 and out.count("lite0 47x64") == 2


def test_a_peer_that_fails_is_left_out(bench, monkeypatch, stand_ins):
    def time_peer(one, case, losses, seconds):
        if one is not OURS:
            raise process.ProcessFailed("no compiler")
        return result(1.0)

    monkeypatch.setattr(training, "time_peer", time_peer)
    code, out, err = bench("training", "--rounds", "1")
    assert code == 0 and "left out: numpy, lite0 47x64, training, batch 16, 1 thread (no compiler)" in err
    assert out.count("lite0 47x64") == 1


def test_figures_are_of_a_picture_and_ratios_of_a_round(small):
    rows = []

    class Table:
        @staticmethod
        def add(**row):
            rows.append(row)

    results = {OURS: [result(1.0), result(2.0), result(4.0)],
               Peer("numpy", "numpy"): [result(2.0), result(3.0), result(12.0)]}
    training.add_rows(Table, training.Timed(case(small, 4), results, Core(1e11, 3e9), Core(3e11, 3e9)))
    ours, theirs = rows
    assert (theirs["/ ours"], theirs["from"], theirs["to"]) == (2.0, 1.5, 3.0)
    assert (theirs["min ms"], theirs["median"], theirs["images/s"]) == (250, 750, pytest.approx(4 / 3))
    assert theirs["version"] == np.__version__ and "MB" not in theirs
    flops = 2 * training_costs.step_macs(build("lite0"), *SIZE)
    assert ours["of peak"] == pytest.approx(flops / 0.5 / 2e11)
    moved = training_costs.bytes_moved(build("lite0"), *SIZE, 4)
    assert ours["MB"] == moved / 1e6 and ours["GB/s"] == pytest.approx(moved / 0.5 / 1e9)


def test_help_names_every_engine_that_trains():
    assert bench.TRAINING_PEERS == tuple(one.engine for one in TRAINERS)
    for one in (OURS, *TRAINERS):
        assert one.trains and callable(getattr(training_engines, one.engine))


def test_a_peer_that_does_not_train_is_unknown(bench):
    code, _, err = bench("training", "--peer", "openvino")
    assert code == 2 and "unknown peer 'openvino': known are torch_compile, torch_eager" in err
