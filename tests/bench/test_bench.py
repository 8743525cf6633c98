"""The benchmarks: that they refuse wrong results, and that what they count and print is right; never how fast."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_clock import Clock
from json_tables import tables

from npefficient.bench import machine, measure, process, report, subject, verify
from npefficient.errors import ArgumentError, NpefficientError


def test_measure_counts_what_the_clock_says():
    clock, durations, calls = Clock(), [9.0, 1.0, 2.0, 3.0, 4.0, 5.0], []

    def call():
        clock.now += durations[min(len(calls), 5)]
        calls.append(clock.now)

    timing = measure.measure(call, 15.0, clock)  # one call warms up: 9 is more than a quarter of 15
    assert timing == measure.Timing(5, 1.0, 3.0, pytest.approx(4.6), pytest.approx(4.96))


def test_measure_makes_some_runs_of_a_slow_call():
    clock = Clock()

    def call():
        clock.now += 1000

    assert measure.measure(call, 1.0, clock).runs == measure.FEWEST


def test_measure_leaves_out_the_warm_up():
    clock, calls = Clock(), []

    def call():
        clock.now += 50.0 if len(calls) < 1 else 0.5
        calls.append(1)

    assert measure.measure(call, 4.0, clock).p99 == 0.5


@pytest.mark.parametrize("each", [1e-7, 1e-3, 5.0])
def test_repeats_fill_the_time(each):
    clock, first = Clock(), []

    def call(repeats):
        clock.now += each * repeats + (0.0 if first else 60.0)  # the first call compiles
        first.append(1)

    repeats = measure.repeats_for(call, 2e-3, clock)
    assert repeats == max(1, round(2e-3 / each))


def test_an_interruption_does_not_change_the_repeats():
    clock, calls = Clock(), []

    def call(repeats):
        calls.append(repeats)
        clock.now += 1e-7 * repeats + (5e-3 if len(calls) % 3 == 1 else 0.0)

    assert measure.repeats_for(call, 2e-3, clock) == 20000


# --- verifying -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [1e-3, np.nan, np.inf], ids=str)
def test_verify_refuses(wrong):
    expected = np.linspace(-1, 1, 9, dtype=np.float32)
    assert verify.verify("it", expected, expected, 9) == 0
    with pytest.raises(NpefficientError, match=r"it: WRONG RESULT, it differs by"):
        verify.verify("it", expected + np.float32([wrong] + [0] * 8), expected, 9)
    with pytest.raises(NpefficientError, match=r"shape \(9, 1\) instead of \(9,\)"):
        verify.verify("it", expected[:, None], expected, 9)


def test_verify_has_the_tests_tolerance():
    import tolerance

    assert verify.LOGITS == tolerance.LOGITS
    for length, largest in ((1, 0.1), (1758, 3.0)):
        assert verify.tolerance(length, largest) == tolerance.tolerance(np.float32, length, largest)


# --- the machine -----------------------------------------------------------------------------------------------------


def test_environment_is_json_and_knows_the_versions():
    found = json.loads(json.dumps(machine.environment()))
    assert found["versions"]["numpy"] == np.__version__ and found["cpu"] and found["caches"]["L1"] > 1024


def test_cache_sizes_are_read_and_assumed(tmp_path):
    for i, (level, kind, size) in enumerate([("3", "Unified", "32M"), ("1", "Data", "48K"), ("1", "Instruction", "7K"),
                                             ("2", "Unified", "2048K")]):
        (tmp_path / "cache" / f"index{i}").mkdir(parents=True)
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (tmp_path / "cache" / f"index{i}" / name).write_text(text + "\n")
    assert machine.cache_sizes(tmp_path) == {"L1": 48 << 10, "L2": 2 << 20, "L3": 32 << 20}
    assert machine.cache_sizes(tmp_path / "none") == machine.ASSUMED


def test_frequencies_where_readable(tmp_path):
    (tmp_path / "cpufreq").mkdir()
    (tmp_path / "cpufreq" / "scaling_cur_freq").write_text("3400000\n")
    (tmp_path / "cpuinfo").write_text("model name\t: Some CPU @ 3\ncpu MHz\t\t: 2596.140\n")
    assert machine.frequencies(tmp_path, tmp_path / "cpuinfo") == {"now": 3400.0, "cpuinfo": 2596.14}
    assert machine.frequencies(tmp_path / "none", tmp_path / "none") == {}
    assert machine.cpu_name(tmp_path / "cpuinfo") == "Some CPU @ 3"


def test_features_follow_numbas_setting(monkeypatch):
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "+avx2,+fma,-avx512f")
    assert machine.features() == ["avx2", "fma"]


def test_resident_peak_grows_with_what_is_touched():
    """In a new process, since an earlier test may have used more memory than this one."""
    script = """
import numpy as np
from npefficient.bench import machine
before = machine.resident_peak()
block = np.ones(64 << 20, np.uint8)
print(machine.resident_peak() - before)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(machine.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert 60 << 20 < int(done.stdout) < 80 << 20


def test_resident_peak_where_the_system_does_not_tell(monkeypatch):
    """Windows has neither /proc nor `resource`."""
    monkeypatch.setattr(machine, "read", lambda path: "")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert machine.resident_peak() is None


# --- processes, subjects and reports ---------------------------------------------------------------------------------


def test_isolated_hands_back_results_verdicts_and_failures(monkeypatch):
    assert process.isolated("json", "dumps", obj=[1, 2], environment={"A": "b"}) == "[1, 2]"
    with pytest.raises(process.ProcessFailed, match="AttributeError.*'nothing'"):
        process.isolated("json", "nothing")
    with pytest.raises(NpefficientError, match="unknown model 'x'"):
        process.isolated("npefficient.network.variants", "canonical_name", name="x")
    with monkeypatch.context() as patched, pytest.raises(process.ProcessFailed, match="no result within 1 s"):
        patched.setattr(process, "TIMEOUT", 1)
        process.isolated("signal", "pause")
    with pytest.raises(process.ProcessFailed, match="exit code 3"):
        process.isolated("os", "_exit", status=3)


def test_subject_repeats_what_the_plain_network_computed(tmp_path):
    made = subject.make_subject("lite0", tmp_path, (33, 20))
    x, logits = made.input(5), made.logits(5)
    assert x.shape == (5, 33, 20, 3) and logits.shape == (5, 1000) and made.title == "lite0 33x20"
    assert np.array_equal(x[4], x[0]) and not np.array_equal(x[1], x[0])
    assert np.array_equal(logits[4], logits[2]) and not np.array_equal(logits[1], logits[0])


def test_report_formats_and_keeps(capsys, tmp_path):
    kept = report.Report(tmp_path / "r.json")
    first = capsys.readouterr().out
    assert re.match(r".*, (1 processor|[\d,]+ processors), .*; load (\d+\.\d\d|unknown)\n", first)
    table = kept.table("title", {"name": "<6", "big": ">12,.1f", "share": ">8.1%"}, "short")
    table.add(name="x", big=1234567.25, share=0.5, hidden=3)
    table.add(name="y", big=None, share=0.25)
    kept.write()
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("title")
    expected = [("name", "big", "share"), ("x", "1,234,567.2", "50.0%"), ("y", "", "25.0%")]
    assert lines[at + 1:at + 4] == [f"{a:6} {b:>12} {c:>8}" for a, b, c in expected]
    table.add(name="longer than that", big=1e12, share=1)
    assert capsys.readouterr().out == "longer than that 1,000,000,000,000.0   100.0%\n"  # never run together
    rows = tables(tmp_path / "r.json")["short"]
    assert rows[0] == {"name": "x", "big": 1234567.25, "share": 0.5, "hidden": 3}
    with pytest.raises(ArgumentError, match="none.*its directory does not exist"):
        report.Report(tmp_path / "none" / "r.json")


def test_a_busy_machine_is_said_to_make_times_long_and_speeds_low(capsys, monkeypatch):
    """Above tables of milliseconds and of images a second alike."""
    for busy in (False, True):
        monkeypatch.setattr(report, "is_busy", lambda environment, busy=busy: busy)
        report.Report()
        warning = "WARNING: the machine is busy with other work: times will be too long, and speeds too low\n"
        assert (warning in capsys.readouterr().out) is busy


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, message", [
    (("kernels", "--model", "lite1", "--layer", "stem", "--size", "8"),
     "no layer matches --layer 'stem': 'npefficient info lite1 --layers'"),
    (("peak", "--json", "/nowhere/at/all.json"), "'/nowhere/at/all.json': its directory does not exist"),
])
def test_bench_says_what_is_wrong(bench, arguments, message):
    code, _, err = bench(*arguments)
    assert code == 1 and err.startswith("npefficient: error: ") and message in err
