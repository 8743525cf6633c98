"""The benchmark of one core: that it refuses wrong results, and that what it counts and prints is right."""
import ctypes
import re

import numpy as np
import pytest
from json_tables import tables

from npefficient.bench import machine, measure, peak, probes, report
from npefficient.engine import cpus
from npefficient.errors import NpefficientError
from npefficient.kernels.layout import INT8, Layout

UNITS = {"SSE": ("SSE", 4, 16), "AVX2": ("AVX2", 8, 16), "NEON": ("NEON", 4, 32), "AVX-512": ("AVX-512", 16, 32)}
integers = pytest.mark.parametrize("width", peak.widths("int8"), ids=str)


# --- widths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, chains", [("SSE", 12), ("AVX2", 12), ("NEON", 24), ("AVX-512", 24)])
def test_widths_are_the_processors_vectors(monkeypatch, name, chains):
    monkeypatch.setattr(peak, "vector_units", lambda: [UNITS[name]])
    assert peak.widths() == [peak.Width(*UNITS[name])] and peak.widths()[0].chains == chains
    assert peak.widths()[0].layout == Layout(*UNITS[name][1:])


@pytest.mark.parametrize("having, expected", [
    ((), [("SSE", 2), ("AVX2", 2)]), ((8,), [("SSE", 2), ("AVX2", 2), ("AVX2", 1)])])
def test_widths_of_integers_end_with_the_best_values(monkeypatch, having, expected):
    monkeypatch.setattr(peak, "vector_units", lambda: [UNITS["SSE"], UNITS["AVX2"]])
    monkeypatch.setattr(peak, "has_dot_products", lambda lanes: lanes in having)
    assert peak.widths("int8") == [peak.Width(*UNITS[name], item) for name, item in expected]


def test_the_kernels_of_integers_have_the_last_width():
    assert peak.widths("int8")[-1].layout == INT8


def test_no_more_cores_than_there_are(monkeypatch):
    monkeypatch.setattr(cpus, "available_threads", lambda: 3)
    assert [peak.cores_of(threads) for threads in (1, 3, 8)] == [1, 3, 3]


@pytest.mark.parametrize("precision", peak.UNITS)
def test_the_best_width_is_the_core_s_peak(monkeypatch, precision):
    """Wider vectors need not be faster: a core may execute them in halves."""
    widths = [peak.Width(str(lanes), lanes, 32) for lanes in (4, 8, 16)]
    monkeypatch.setattr(peak, "widths", {precision: widths}.__getitem__)
    for figures in ((1, 2, 3), (1, 4, 3)):
        monkeypatch.setattr(peak, "width_peak", lambda width, seconds: dict(zip((4, 8, 16), figures))[width.lanes])
        assert peak.core_peak(precision=precision) == max(figures)


# --- multiply-adds ---------------------------------------------------------------------------------------------------


def test_peak_prints_all_tables(bench, tmp_path):
    code, out, err = bench("peak", "--seconds", "0.01", "--json", tmp_path / "peak.json")
    written = tables(tmp_path / "peak.json")
    assert code == 0 and err == "" and report.NOTE in out
    assert [row["lanes"] for row in written["fma"]] == [w.lanes for w in peak.widths()]
    assert [(row["values"], row["lanes"]) for row in written["dot"]] == [
        ({1: "8 bits", 2: "16 bits"}[w.item], w.lanes) for w in peak.widths("int8")]
    for table, unit, per_cycle in (("fma", "GFLOP/s", "FLOP/cycle"), ("dot", "GOP/s", "OP/cycle")):
        for row in written[table]:
            assert row[unit] > 0 and row[per_cycle] == pytest.approx(row[unit] / row["GHz"])
    assert {"L1", "memory"} <= {row["level"] for row in written["reads"]}


@pytest.mark.parametrize("width, operations", [
    (peak.widths()[-1], 1), *((width, 4 // width.item) for width in peak.widths("int8"))], ids=str)
def test_a_multiply_add_is_two_operations(monkeypatch, width, operations):
    """For each of the values that a lane has."""
    monkeypatch.setattr(peak, "repeats_for", lambda call, seconds: 5)
    monkeypatch.setattr(peak, "measure", lambda call, seconds: measure.Timing(9, 1e-3, 1.0, 1.0, 1.0))
    for chains in (1, width.chains):
        expected = 2 * width.lanes * operations * chains * probes.ROUNDS * 5 / 1e-3
        assert peak.width_peak(width, 0.1, chains) == pytest.approx(expected)


@pytest.mark.parametrize("probe, message", [("multiply_adder", "multiply-add of"), ("dot_adder", "dot product of 16")])
def test_peak_refuses_a_wrong_kernel(bench, monkeypatch, probe, message):
    right = getattr(probes, probe)

    def wrong(layout, chains):
        return lambda *arguments: right(layout, chains)(*arguments[:-1], arguments[-1] + 1)

    monkeypatch.setattr(probes, probe, wrong)
    code, _, err = bench("peak", "--seconds", "0.01")
    assert code == 1 and message in err and "WRONG RESULT" in err


@integers
def test_a_wrong_bit_of_a_dot_product_is_found(monkeypatch, width):
    right = probes.dot_adder

    def wrong(layout, chains):
        def call(acc, weight, turns):
            right(layout, chains)(acc, weight, turns)
            ctypes.c_int32.from_address(acc).value ^= 1
        return call

    monkeypatch.setattr(probes, "dot_adder", wrong)
    with pytest.raises(NpefficientError, match="WRONG RESULT, it differs by 1 "):
        peak.dot_products(width, 4)


@integers
def test_llvm_leaves_every_dot_product(width):
    """None is moved out of the loop: a product of what stays the same would be computed once."""
    peak.dot_products(width, width.chains)(1)
    (text,) = probes.dot_adder(width.layout, width.chains).inspect_llvm().values()
    product = r"call <\d+ x i32> @llvm\.x86\.avx512\.vpdpbusd" if width.item == 1 else r"= mul [^%]*<\d+ x i32> %"
    assert len(re.findall(product, text)) == width.chains * probes.ROUNDS


# --- the clock -------------------------------------------------------------------------------------------------------


def test_the_clock_is_the_additions_of_the_fastest_call(monkeypatch):
    totals, adder = [], probes.adder

    def measured(call, seconds):
        call()
        return measure.Timing(9, peak.CHAIN / 2.5e9, 1.0, 1.0, 1.0)

    def recorded():
        def call(total, step, turns):
            adder()(total, step, turns)
            totals.append(turns * probes.ADDITIONS)
        return call

    monkeypatch.setattr(peak, "measure", measured)
    monkeypatch.setattr(probes, "adder", recorded)
    assert peak.clock_rate(0.1) == pytest.approx(2.5e9) and totals[-1] == peak.CHAIN


def test_llvm_leaves_every_addition_of_the_chain():
    call, total = probes.adder(), np.zeros(1, np.int64)
    call(total.ctypes.data, -7, 3)
    assert total[0] == -7 * 3 * probes.ADDITIONS
    (text,) = call.inspect_llvm().values()
    chain = text[text.index("define internal"):].partition("\n}")[0]
    assert "add_chain" in chain and len(re.findall(r"= add [^%]*i64 %", chain)) > probes.ADDITIONS


def test_clock_refuses_a_wrong_sum(monkeypatch):
    right = probes.adder
    monkeypatch.setattr(probes, "adder", lambda: lambda total, step, turns: right()(total, step, turns + 1))
    with pytest.raises(NpefficientError, match="a chain of additions: WRONG RESULT"):
        peak.clock_rate(0.01)


# --- reads -----------------------------------------------------------------------------------------------------------


def test_working_sets_fit_their_level():
    sets = peak.working_sets({"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20})
    assert sets == {"L1": 16 << 10, "L2": 512 << 10, "L3": 8 << 20, "memory": 128 << 20}
    assert list(peak.working_sets({"L1": 64 << 10, "L2": 128 << 10})) == ["L1", "memory"]


def test_read_bandwidth_refuses_a_wrong_sum(monkeypatch):
    right = probes.reader
    monkeypatch.setattr(probes, "reader", lambda lanes: lambda x, turns, acc, n: right(lanes)(x, turns - 1, acc, n))
    with pytest.raises(NpefficientError, match="reading 4,096 bytes: WRONG RESULT"):
        peak.read_bandwidth(4096, 4, 0.01)


@pytest.mark.parametrize("most, expected", [(None, ["L1", "L2", "memory"]), (16 << 10, ["L1"]),
                                            ((16 << 10) + 1, ["L1", "L2"]), (1 << 40, ["L1", "L2", "memory"])])
def test_no_level_is_read_that_nothing_needs(monkeypatch, most, expected):
    monkeypatch.setattr(peak, "cache_sizes", lambda: {"L1": 32 << 10, "L2": 1 << 20})
    monkeypatch.setattr(peak, "read_bandwidth", lambda size, lanes, seconds, best: 1e9)
    assert list(peak.reads(report.Report(), 0.1, most)) == expected


@pytest.mark.parametrize("speeds, expected", [
    ((3.0, 2.0, 1.0), []), ((1.0, 2.0, 1.0), ["L1"]), ((2.0, 2.0, 2.0), []), ((3.0, 1.0, 2.0), ["L2"]),
    ((1.0, 2.0, 3.0), ["L1", "L2"])])
def test_a_level_slower_than_one_beyond_it_was_disturbed(speeds, expected):
    assert peak.disturbed(dict(zip(("L1", "L2", "memory"), speeds))) == expected


@pytest.mark.parametrize("second, marked", [(4e9, False), (0.5e9, True)])
def test_a_disturbed_level_is_read_again_and_then_marked(monkeypatch, capsys, second, marked):
    speeds = iter([1e9, 2e9, 0.3e9, second])
    monkeypatch.setattr(peak, "cache_sizes", lambda: {"L1": 32 << 10, "L2": 1 << 20})
    monkeypatch.setattr(peak, "read_bandwidth", lambda size, lanes, seconds, best: next(speeds))
    found = peak.reads(report.Report(), 0.1)
    assert found == {"L1": max(1e9, second), "L2": 2e9, "memory": 0.3e9}
    assert ("L1 came out slower" in capsys.readouterr().out) == marked


@pytest.mark.parametrize("load, running, expected", [
    ([9.0], 0.2, False), ([0.0], 1.4, True), ([1.4], None, True), ([0.4], None, False), (None, None, None)])
def test_what_runs_now_tells_whether_a_machine_is_busy(load, running, expected):
    environment = {"load_average": load, "threads_available": 2}
    assert report.is_busy(environment, lambda: running) is expected


def test_the_thread_that_asks_does_not_count_as_other_work(tmp_path):
    (tmp_path / "loadavg").write_text("5.10 4.02 3.00 3/412 8071\n")
    assert machine.others_running(tmp_path / "loadavg", times=2) == 2.0
    assert machine.others_running(tmp_path / "absent") is None


@pytest.mark.parametrize("operations, size, expected", [
    (160, 16, 1.0), (16, 16, 0.8), (16 << 10, 16 << 10, 0.8), (16 << 10, (16 << 10) + 1, 0.2),
    (1 << 30, 1 << 30, 0.04), (1 << 30, 1 << 28, 0.16)])
def test_the_roofline_is_that_of_the_smallest_level(monkeypatch, operations, size, expected):
    monkeypatch.setattr(peak, "cache_sizes", lambda: {"L1": 32 << 10, "L2": 1 << 20})
    limit = peak.limit(operations, size, 10e9, {"L1": 8e9, "L2": 2e9, "memory": 4e8})
    assert limit == pytest.approx(expected, rel=1e-3)
