"""The tracing layer: vectors of other widths, and what becomes of kernels and families in a module."""
import re

import numpy as np
import pytest
from guarded import Guarded
from layouts import LANES, VECTOR
from numba import njit
from tracing import caller, defined, lanes, same, text_of, traced, vectors

from npefficient.errors import ArgumentError
from npefficient.kernels.lanes import family, kernel
from npefficient.kernels.layout import FLOAT32, Layout

# --- vectors of other widths -----------------------------------------------------------------------------------------

FEWER = pytest.mark.parametrize("few", [n for n in (1, 2, 4, 8) if n <= LANES], ids="lanes_{}".format)


@FEWER
def test_load_and_store_of_fewer_lanes(few):
    """Only as many floats are read and written as there are lanes."""

    def move(t, x, out):
        value = t.load(x, few)
        assert value.lanes == few
        t.store(value, out)

    x, out = Guarded(np.arange(1, few + 1)), Guarded(np.zeros(few))
    traced(move)(x, out)
    assert lanes(out) == list(range(1, few + 1))


@FEWER
def test_splat_and_number_and_arithmetic_of_fewer_lanes(few):
    def compute(t, x, out):
        value = t.fma(t.splat(x, few), t.number(2.0, few), t.load(x, few))
        t.store(value + value * t.number(3.0, few), out)

    x, out = Guarded(np.arange(5, few + 5)), Guarded(np.zeros(few))
    traced(compute)(x, out)
    assert lanes(out) == [4.0 * (10 + i) for i in range(5, few + 5)]


@FEWER
def test_one_lane_in_every_lane(few):
    def compute(t, x, out):
        for lane in range(few):
            t.store(t.load(x, few).splat(lane), out + lane * few * t.layout.item)

    x, out = Guarded(np.arange(5, few + 5)), Guarded(np.zeros(few * few))
    traced(compute)(x, out)
    assert lanes(out) == [i for i in range(5, few + 5) for _ in range(few)]


@FEWER
def test_relu6_of_fewer_lanes(few):
    def compute(t, x, out):
        t.store(t.load(x, few).relu6(), out)

    x = np.resize(np.float32([np.nan, -1, 7, 2]), few)
    out = Guarded(np.zeros(few))
    traced(compute)(Guarded(x), out)
    out.check()
    assert out.array.tobytes() == np.resize(np.float32([np.nan, 0, 6, 2]), few).tobytes()


@FEWER
def test_widen(few):
    """The added lanes are zeros."""

    def compute(t, x, out):
        wide = t.load(x, few).widen(LANES)
        assert wide.lanes == LANES
        t.store(wide, out)

    x, out = Guarded(-np.arange(1, few + 1)), vectors(9)
    traced(compute)(x, out)
    assert lanes(out) == [[-i for i in range(1, few + 1)] + [0.0] * (LANES - few)]
    assert not np.signbit(out.array[0, few:]).any()


@FEWER
def test_kernel_of_fewer_lanes(few):
    """The kernel's width is the default of all its operations."""

    def compute(t, x, count, out):
        assert t.lanes == few
        t.store(t.load(x) + t.splat(x) + t.float(count) + t.number(0.5), out)

    x, out = Guarded(np.arange(1, few + 1)), Guarded(np.zeros(few))
    run = traced(compute, Layout(few, 16))
    run(x, 7, out)
    assert lanes(out) == [i + 1 + 7 + 0.5 for i in range(1, few + 1)]
    assert defined(run.compiled) == [f"compute_x{few}"]


def test_hidden_is_the_same_address_and_is_loaded_again():
    def once(t, x, out):
        t.store(t.load(x) + t.load(x), out)

    def twice(t, x, out):
        t.store(t.load(x) + t.load(x.hidden()), out)

    loads = []
    for function in (once, twice):
        run, out = traced(function), vectors(9)
        run(vectors(4), out)
        assert lanes(out) == same(8)
        loads.append(text_of(run.compiled).count(f"load <{LANES} x float>"))
    assert loads == [1, 2]


# --- kernel() --------------------------------------------------------------------------------------------------------


def repeat(t, out, *, TIMES):
    for i in range(TIMES):
        t.store(t.number(0.0), out + i * VECTOR)


def test_kernel_constants_unroll():
    twice, thrice = traced(repeat, TIMES=2), traced(repeat, TIMES=3)
    for run, times in ((twice, 2), (thrice, 3), (twice, 2)):
        out = vectors(7, 7, 7, 7)
        run(out)
        assert lanes(out) == same(*[0] * times, *[7] * (4 - times))


REPEAT_1, REPEAT_4 = kernel(repeat, FLOAT32, TIMES=1), kernel(repeat, FLOAT32, TIMES=4)


def test_kernel_twice_in_one_function():
    """Two kernels from one text, one of them called twice, in the same machine code."""

    @njit
    def run(first, second, third):
        REPEAT_1(first)
        REPEAT_4(second)
        REPEAT_1(third)

    buffers = [vectors(7, 7, 7, 7) for _ in range(3)]
    run(*(placed.address for placed in buffers))
    assert [lanes(placed) for placed in buffers] == [same(0, 7, 7, 7), same(0, 0, 0, 0), same(0, 7, 7, 7)]
    assert defined(run) == [f"repeat_x{LANES}_1", f"repeat_x{LANES}_4"]


def test_kernel_checks_the_number_of_arguments():
    @njit
    def run(address):
        REPEAT_1(address, address)

    with pytest.raises(Exception, match="too many positional arguments"):
        run(8)


# --- family() --------------------------------------------------------------------------------------------------------


def scaled(t, x, out, *, FACTOR, TIMES):
    """out = x * FACTOR, in TIMES places."""
    for i in range(TIMES):
        t.store(t.load(x) * t.number(float(FACTOR)), out + i * VECTOR)


SOME = [(2, 1), (5, 2), (8, 3)]  # of the combinations of FACTOR and TIMES
SCALED = family(scaled, FLOAT32, lambda FACTOR, TIMES: (FACTOR, TIMES) in SOME, FACTOR=(2, 5, 8), TIMES=range(1, 4))


def test_family_calls_the_kernel_of_the_constants():
    """Combinations that do not exist leave no code."""
    run = caller(SCALED, 4)
    for factor, times in (*SOME, SOME[0]):
        out = vectors(7, 7, 7, 7)
        run(factor, times, vectors(4), out)
        assert lanes(out) == same(*[4 * factor] * times, *[7] * (4 - times))
    assert defined(run.compiled) == ["scaled", *(f"scaled_x{LANES}_{f}_{n}" for f, n in SOME)]


def test_family_of_all_combinations():
    run = caller(family(scaled, FLOAT32, FACTOR=(3,), TIMES=(1, 3)), 4)
    for times in (1, 3):
        out = vectors(7, 7, 7, 7)
        run(3, times, vectors(4), out)
        assert lanes(out) == same(*[12] * times, *[7] * (4 - times))
    assert defined(run.compiled) == ["scaled", f"scaled_x{LANES}_3_1", f"scaled_x{LANES}_3_3"]


@pytest.mark.parametrize("factors", [(2, 5, 9), (1, 1), (5, 3), (3, 5, 4)])
def test_familys_constants_ascend_in_equal_steps(factors):
    with pytest.raises(ArgumentError, match=re.escape(f"scaled, FACTOR={factors}: the values of a constant must")):
        family(scaled, FLOAT32, FACTOR=factors, TIMES=(1, 3))


def test_familys_constants_may_be_computed():
    @njit
    def run(x, out):
        for i in range(2):
            SCALED(8 - 3 * i, 3 - i, x, out + 4 * i * VECTOR)

    x, out = vectors(1), vectors(*[7] * 8)
    run(x.address, out.address)
    assert lanes(out) == same(8, 8, 8, 7, 5, 5, 7, 7)


def test_family_and_kernel_and_another_call_share_their_code():
    """Each name in a module has one piece of machine code, however and however often it is called."""
    same_constants = kernel(scaled, FLOAT32, FACTOR=5, TIMES=2)

    @njit
    def run(factor, times, x, out):
        SCALED(factor, times, x, out)
        same_constants(x, out + VECTOR)
        SCALED(factor, times, x, out + 3 * VECTOR)

    x, out = vectors(1), vectors(*[7] * 5)
    run(2, 1, x.address, out.address)
    assert lanes(out) == same(2, 5, 5, 2, 7)
    assert defined(run) == ["scaled", *(f"scaled_x{LANES}_{f}_{n}" for f, n in SOME)]


def test_family_of_fewer_lanes():
    few = LANES // 2

    def fill_one(t, out, *, VALUE):
        t.store(t.number(float(VALUE)), out)

    run = caller(family(fill_one, Layout(LANES // 2, 16), VALUE=(1, 2)), 2)
    out = vectors(7)
    run(2, out)
    assert lanes(out) == [[2.0] * few + [7.0] * (LANES - few)]


def test_family_checks_the_number_of_arguments():
    @njit
    def run(address):
        SCALED(2, 1, address)

    with pytest.raises(Exception, match="missing a required argument: 'out'"):
        run(8)


def test_two_kernels_of_one_name_are_refused():
    """Otherwise a call of one might run the other."""

    def named_put(value):
        def put(t, out):
            t.store(t.number(value), out)

        return kernel(put, FLOAT32)

    one, two = named_put(1.0), named_put(2.0)

    @njit
    def both(out):
        one(out)
        two(out)

    with pytest.raises(Exception, match=f"two kernels are called 'npefficient_put_x{LANES}'"):
        both(vectors(9).address)
