"""The three limits of a core: that wrong sums are refused, and that a prediction is what the slowest leaves."""
import pytest

from npefficient.bench import limits, measure, probes, report
from npefficient.errors import NpefficientError
from npefficient.kernels.layout import FLOAT32
from npefficient.kernels.processor import features, is_x86
from npefficient.ladder.case import Cost
from npefficient.ladder.machine_code import loop_of

CORE = {1: limits.Limits(1, fma=4.0, addition=3.0, load=0.5, unit=0.5),
        16: limits.Limits(16, fma=4.0, addition=3.0, load=1.0, unit=1.0)}


@pytest.mark.parametrize("cost, limit, seconds", [
    (Cost(lanes=1, sums=1, loads=2, fused=False), "latency", 3.0), (Cost(lanes=1, sums=1, loads=2), "latency", 4.0),
    (Cost(lanes=1, sums=4, loads=1.25), "latency", 1.0), (Cost(lanes=1, sums=16, loads=0.5), "units", 0.5),
    (Cost(lanes=16, sums=None, loads=2, stores=1), "loads", 3.0),
    (Cost(lanes=16, sums=24, loads=11 / 24), "units", 1.0),
])
def test_the_slowest_of_three_limits_a_rung(cost, limit, seconds):
    found = limits.predict(cost, CORE)
    assert found.limit == limit and max(found.parts.values()) == found.parts[limit] == seconds
    assert found.flops == pytest.approx(2 * cost.lanes / seconds)


def test_single_floats_have_the_rates_of_the_narrowest_vectors():
    found = limits.predict(Cost(lanes=1, sums=None, loads=2), {4: CORE[1], 16: CORE[16]})
    assert found.parts["loads"] == 1.0 and found.flops == 2.0


def test_limits_are_read_from_the_experiment():
    grid = {(sums, loads): max(4 / sums, 1.0, loads * 0.75) for sums in probes.IN_FLIGHT for loads in limits.LOADS}
    found = limits.limits_of(FLOAT32, grid, 3.0)
    assert (found.fma, found.addition, found.load, found.unit) == (4.0, 3.0, 0.75, 1.0)


@pytest.mark.parametrize("loads", limits.LOADS)
@pytest.mark.parametrize("sums", [1, 3, 12])
def test_seconds_are_those_of_one_multiply_add(monkeypatch, sums, loads):
    monkeypatch.setattr(limits, "repeats_for", lambda call, seconds: 5)
    monkeypatch.setattr(limits, "measure", lambda call, seconds: measure.Timing(9, 1e-3, 1.0, 1.0, 1.0))
    assert limits.seconds_each(FLOAT32, sums, loads, 0.1) == pytest.approx(1e-3 / (5 * probes.ROUNDS * sums))
    assert limits.seconds_of_an_addition(FLOAT32, 0.1) == pytest.approx(1e-3 / (5 * probes.ROUNDS))


def test_wrong_sums_are_refused(monkeypatch):
    summer, adder = probes.summer(FLOAT32), probes.float_adder(FLOAT32)
    monkeypatch.setattr(probes, "summer", lambda layout: lambda *rest: summer(*rest[:-1], rest[-1] + 1))
    monkeypatch.setattr(probes, "float_adder", lambda layout: lambda acc, x, turns: adder(acc, x, turns + 1))
    with pytest.raises(NpefficientError, match="3 sums with 2 loads: WRONG RESULT"):
        limits.seconds_each(FLOAT32, 3, 2, 0.01)
    with pytest.raises(NpefficientError, match="a chain of additions of floats: WRONG RESULT"):
        limits.seconds_of_an_addition(FLOAT32, 0.01)


@pytest.mark.skipif(not is_x86() or "fma" not in features(), reason="x86-64 with FMA")
def test_llvm_leaves_every_load_and_every_sum():
    """None is moved out of the loop or done once for several."""
    limits.seconds_each(FLOAT32, 3, 2, 0.001)
    (text,) = probes.summer(FLOAT32).inspect_asm().values()
    for sums in probes.IN_FLIGHT:
        for loads in limits.LOADS:
            found = loop_of(text, f"npefficient_sums_in_flight_x{FLOAT32.lanes}_{sums}_{loads}")
            assert found.lanes == FLOAT32.lanes and found.multiplications % (sums * probes.ROUNDS) == 0
            assert found.memory == loads


def test_the_experiment_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(limits, "seconds_each", lambda layout, sums, loads, seconds: 2e-9 * layout.lanes / sums)
    table = report.Report()
    grid = limits.run(table, 0.001)
    assert set(grid) == {(sums, loads) for sums in probes.IN_FLIGHT for loads in limits.LOADS}
    assert [row["sums"] for row in table.tables["in flight"]] == list(probes.IN_FLIGHT)
    assert table.tables["in flight"][2]["no loads"] == pytest.approx(3.0)
    assert "2 loads per FMA" in capsys.readouterr().out
