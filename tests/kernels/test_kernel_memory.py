"""What memory kernels access: arrays beside forbidden pages, vectors of every width, and guards that can fail."""
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import every_kernel
import kernel_calls
import numpy as np
import pytest
from guarded import GUARD, Guarded
from kernel_calls import (
    LANES,
    UNREADABLE,
    VECTOR,
    assert_bits,
    channels,
    is_poison,
    poisoned,
    unwritten,
)
from layouts import PROCESSORS

import npefficient

# calls; the more tiles, the more
AT_LEAST = {"copy": 3, "depthwise": 80, "pool": 3, "pointwise": 80, "stem": 35, "zero": 3}


def noise(*shape):
    return np.random.default_rng(list(shape)).uniform(-1, 1, shape).astype(np.float32)


def call_every_kernel(how, lanes=LANES):
    """Run the program in a new process, with vectors of `lanes` floats."""
    environment = {**os.environ, "PYTHONPATH": str(Path(npefficient.__file__).parent.parent)}
    if lanes != LANES:
        environment["NUMBA_CPU_NAME"], environment["NUMBA_CPU_FEATURES"] = PROCESSORS[lanes]
    return subprocess.run([sys.executable, every_kernel.__file__, how], capture_output=True, text=True, timeout=300,
                          env=environment)


def assert_sound(result, lanes, times):
    """The program succeeded, and called as many kernels as expected."""
    assert result.returncode == 0, f"ended with {result.returncode}: {result.stderr}"
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[0] for line in lines] == [str(lanes)] * times, result.stdout
    for _, *counts in lines:
        called = dict(zip(counts[::2], map(int, counts[1::2])))
        assert called.keys() == AT_LEAST.keys(), result.stdout
        assert all(called[name] >= least for name, least in AT_LEAST.items()), result.stdout


TIMES = 3 if every_kernel.FENCES else 1  # between guards, and beside forbidden pages on either side


def test_kernels_stay_inside_their_pages():
    assert_sound(call_every_kernel("sound"), LANES, TIMES)


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="vectors of other widths: needs x86")
@pytest.mark.parametrize("lanes", [n for n in (4, 8) if n <= LANES], ids="lanes_{}".format)
def test_kernels_with_other_vectors(lanes):
    """Tiles, panels and half vectors are others there; with 4 lanes there are no FMA instructions, but the same bits.

    All widths that this processor has; the widest may be what all other tests use.
    """
    assert_sound(call_every_kernel("sound", lanes), lanes, TIMES)


ENOUGH = "8 " + " ".join(f"{name} {least}" for name, least in AT_LEAST.items()) + "\n"


@pytest.mark.parametrize("code, printed, match", [
    pytest.param(1, ENOUGH, "ended with 1: what went wrong", id="ended_badly"),
    pytest.param(-signal.SIGSEGV, "", "ended with -11", id="crashed"),
    pytest.param(0, "", r"\[\] == \['8'\]", id="did_nothing"),
    pytest.param(0, 2 * ENOUGH, r"\['8', '8'\] == \['8'\]", id="too_often"),
    pytest.param(0, ENOUGH.replace("8 copy", "16 copy"), r"\['16'\] == \['8'\]", id="other_lanes"),
    pytest.param(0, ENOUGH.replace("stem 35 ", ""), "pointwise 80 zero 3", id="a_kernel_left_out"),
    pytest.param(0, ENOUGH.replace("stem 35", "stem 34"), "stem 34", id="too_few"),
])
def test_assert_sound_can_fail(code, printed, match):
    assert_sound(subprocess.CompletedProcess([], 0, ENOUGH, ""), 8, 1)
    with pytest.raises(AssertionError, match=match):
        assert_sound(subprocess.CompletedProcess([], code, printed, "what went wrong"), 8, 1)


@pytest.mark.skipif(not every_kernel.FENCES, reason="forbidden pages: needs Linux's mprotect")
@pytest.mark.parametrize("how", ["before", "behind"])
def test_forbidden_pages_can_fail(how):
    result = call_every_kernel(how)
    assert (result.returncode, result.stdout) == (-signal.SIGSEGV, "about to read too far\n")


def test_every_kernel_shows_wrong_bits(monkeypatch):
    right = np.zeros(3, np.float32)
    calls = [("pool", right, right), ("pool", right + 1, right)]
    monkeypatch.setattr(every_kernel, "every_kernel", lambda place: iter(calls))
    with pytest.raises(AssertionError, match="3 of 3 values have other bits"):
        every_kernel.call_all(Guarded)


def test_every_kernel_shows_a_tile_that_was_not_called(monkeypatch):
    monkeypatch.setattr(every_kernel, "every_kernel", lambda place: iter([]))
    monkeypatch.setattr(every_kernel, "compiled_tiles", lambda routine: [(1, 0, 1)])
    with pytest.raises(AssertionError, match="not every tile was called"):
        every_kernel.call_all(Guarded)


# --- the guards can fail ---------------------------------------------------------------------------------------------


def test_assert_bits_can_fail():
    ones = np.ones((2, 3), np.float32)
    assert_bits(ones, ones.copy())
    with pytest.raises(AssertionError, match=r"1 of 6 values have other bits, the first at \[1 2\]"):
        assert_bits(np.where([[1, 1, 1], [1, 1, 0]], ones, np.nextafter(ones, 2 * ones)), ones)
    with pytest.raises(AssertionError, match="6 of 6 values have other bits"):
        assert_bits(-0.0 * ones, 0.0 * ones)
    with pytest.raises(AssertionError, match="float64"):
        assert_bits(np.ones((2, 3)), ones)
    with pytest.raises(AssertionError, match=r"\(1, 3\)"):
        assert_bits(ones[:1], ones)


def test_channels_shows_what_was_written_between_planes_and_lanes():
    """Poison moved from elsewhere counts as written, and so does a negative zero."""
    c = 2 * LANES - 1
    sound = unwritten(3, c, 2)
    assert is_poison(channels(sound, 3, c, 2)) and not is_poison(poisoned(3, number=1))
    for changed, value, match in [
        (3 * LANES, 0.0, "between two planes"), (5 * LANES - 1, poisoned(1, number=1)[0], "between two planes"),
        (5 * LANES, 0.0, "behind the last channel are not zero"),
        (8 * LANES - 1, -0.0, "behind the last channel are not zero"),
    ]:
        wrong = sound.copy()
        wrong[changed] = value
        with pytest.raises(AssertionError, match=match):
            channels(wrong, 3, c, 2)


@pytest.mark.parametrize("where, shift, first", [("before", -2, GUARD - 2), ("behind", 2, 0)])
def test_guard_shows_a_write_outside(where, shift, first):
    x, out = Guarded(noise(5, 2 * LANES)), Guarded(poisoned(2, LANES))
    kernel_calls.pool(0, x.address, 5 * VECTOR, 5, out.address + shift * 4, VECTOR, 2)
    with pytest.raises(AssertionError, match=f"2 floats written {where} the array, the first at {first} of {GUARD}"):
        out.check()


def test_guard_shows_a_write_of_zero():
    placed = Guarded(np.ones(3))
    placed.check()
    placed._block[-1] = 0.0
    with pytest.raises(AssertionError, match="1 floats written behind"):
        placed.check()


def test_guard_shows_a_write_of_poison():
    """One pixel too many is read from one guard and written to another: one NaN over another."""
    x, weight, bias, out = map(Guarded, (noise(5, LANES), noise(LANES, LANES), noise(LANES), poisoned(5, LANES)))
    kernel_calls.pointwise(x.address, 5 * VECTOR, weight.address, UNREADABLE, bias.address, 1, 0, UNREADABLE,
                           out.address, 5 * VECTOR, LANES // kernel_calls.UNROLL, 6, 1, 0, 0)
    with pytest.raises(AssertionError, match=f"{LANES} floats written behind the array, the first at 0 of {GUARD}"):
        out.check()


@pytest.mark.parametrize("rows, columns", [(2, 3), (1, 4)], ids=["a_row_too_many", "a_column_too_many"])
def test_guard_shows_a_read_outside(rows, columns):
    """A kernel's ReLU6 passes NaN on, so that poison shows."""
    x, weight, bias = (Guarded(a) for a in (noise(3, 5, LANES), np.ones((3, 3, LANES)), np.zeros(LANES)))
    out = Guarded(poisoned(rows, columns, LANES))
    kernel_calls.depthwise(x.address, 5 * VECTOR, weight.address, bias.address, out.address, rows, columns, 3, 1)
    assert np.isnan(out.array).any() and not np.isnan(out.array[0, 0]).any()


def test_guard_shows_an_input_that_was_changed():
    x = noise(1, LANES)
    placed = Guarded(x)
    kernel_calls.pool(0, placed.address, VECTOR, 1, placed.address, VECTOR, 1)  # onto itself: the same values
    assert_bits(kernel_calls.checked(Guarded(x), (placed, x)), x)
    placed.array[0, 0] = 7
    with pytest.raises(AssertionError, match="a kernel changed its input"):
        kernel_calls.checked(Guarded(x), (placed, x))
