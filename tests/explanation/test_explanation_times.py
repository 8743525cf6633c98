"""Times of an explanation: every layer has one, and a wrong pass is not timed."""
import numpy as np
import pytest

import npefficient
from npefficient.bench import peak
from npefficient.errors import NpefficientError
from npefficient.explanation import times
from npefficient.explanation.times import StepTime, Times, measure_times
from npefficient.network.quantization import quantize
from npefficient.network.quantized_reference import QuantizedNetwork


@pytest.fixture(scope="module")
def subject():
    model = npefficient.create_model("lite0", num_classes=5, num_threads=1)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    return model, x


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(times, "SECONDS", 0.01)
    monkeypatch.setattr(times, "PEAK_SECONDS", 0.001)
    monkeypatch.setattr(times, "READ_SECONDS", 0.001)


def test_every_layer_is_timed_once(subject):
    model, x = subject
    got = measure_times(model.weights(), x, model(x))
    network = model.architecture
    assert [layer for step in got.steps for layer in step.layers] == [layer.name for layer in network.layers(32, 32)]
    assert sum(step.macs for step in got.steps) == network.macs(32, 32)
    assert all(step.seconds > 0 for step in got.steps) and got.passes >= times.FEWEST and got.peak > 0
    assert got.seconds == sum(step.seconds for step in got.steps)
    weights = sum(4 * layer.params for layer in network.layers(32, 32))
    assert sum(step.bytes for step in got.steps) > 0.98 * weights, "batch norm is folded in"
    assert all(0 < step.limit <= 1 for step in got.steps) and min(got.bandwidths.values()) > 0
    (classifier,) = [step for step in got.steps if step.layers == ("classifier",)]
    assert classifier.bytes / classifier.seconds < 1.5 * max(got.bandwidths.values()), "it counts as a measurement, too"


def test_limit_by_hand(monkeypatch):
    """Weights from the level that holds those of the whole network, the rest from the one that holds it."""
    monkeypatch.setattr(peak, "working_sets", lambda caches: {"L1": 100, "L2": 1000, "memory": 100_000})
    rates = {"L1": 50.0, "L2": 20.0, "memory": 4.0}

    class Step:
        constants = 80

        def bytes(self):
            return 130

        def flops(self):
            return 900

    assert times._limit(Step(), 500, 20.0, rates) == 1, "80 / 20 + 50 / 50 seconds, for 45 at the peak"
    assert times._limit(Step(), 500, 360.0, rates) == 0.5
    assert times._limit(Step(), 5000, 90.0, rates) == 10 / (80 / 4 + 50 / 50)
    del rates["memory"]
    assert times._limit(Step(), 5000, 360.0, rates) == 0.5, "the last level that was measured"


def test_every_layer_of_int8_is_timed_with_the_rounding_of_its_input(subject):
    model, x = subject
    weights = quantize(model.weights())
    logits = QuantizedNetwork(weights)(x)
    got = measure_times(weights, x, logits)
    inputs = [step for step in got.steps if step.name.startswith("input of ")]
    assert [step.layers for step in inputs] == [(step.name.removeprefix("input of "),) for step in inputs]
    assert len(inputs) == 17 and all(step.macs == 0 < step.seconds for step in inputs)
    layers = [layer.name for layer in model.architecture.layers(32, 32)]
    assert [layer for step in got.steps if step not in inputs for layer in step.layers] == layers
    with pytest.raises(NpefficientError, match="the timed pass: WRONG RESULT"):
        measure_times(weights, x, np.nextafter(logits, np.float32(np.inf)))


def test_wrong_pass_is_not_timed(subject):
    model, x = subject
    with pytest.raises(NpefficientError, match="the timed pass: WRONG RESULT"):
        measure_times(model.weights(), x, model(x) + 1)


def test_share_of_the_peak_by_hand():
    steps = (StepTime("a", ("a",), 10, 20, 2.0), StepTime("b", ("b",), 5, 10, 1.0))
    made = Times(steps, 40.0, 9)
    assert made.share(steps) == 30 / 3 / 40 and made.share(steps[1:]) == 0.25 and made.seconds == 3


def test_explain_measures_when_asked(subject):
    model, _ = subject
    model.preprocessing = npefficient.Preprocessing((32, 32))
    got = npefficient.explain(np.zeros((40, 40, 3), np.uint8), model)
    assert got.times.peak > 0
    assert [block.name for block in got.blocks if block.seconds is None] == ["conv_stem"]
