"""The tracing layer: what a small kernel computes, against what its text says."""
import numpy as np
import pytest
from guarded import Guarded
from numba import njit

from npefficient.kernels.lanes import kernel
from npefficient.kernels.layout import LANES, VECTOR

COUNTS = pytest.mark.parametrize("count", [-1, 0, 1, 2, 7], ids=["negative", "zero", "one", "two", "many"])


def traced(function, **constants):
    """The kernel, callable from Python with guarded arrays and counts."""
    call, count = kernel(function, **constants), function.__code__.co_argcount - 1
    names = ", ".join(f"a{i}" for i in range(count))
    scope = {"call": call}
    exec(f"def run({names}):\n    call({names})", scope)  # Numba takes no *arguments for an intrinsic
    run = njit(scope["run"])
    return lambda *arguments: run(*(getattr(argument, "address", argument) for argument in arguments))


def vectors(*rows):
    """A guarded array of vectors, each a number in every lane."""
    return Guarded(np.repeat(np.float32(rows), LANES).reshape(-1, LANES))


def lanes(placed):
    placed.check()
    return placed.array.tolist()


def same(*numbers):
    return [[number] * LANES for number in numbers]


# --- the kernels under test ------------------------------------------------------------------------------------------


def fill(t, x, out, count):
    t.loop(count, lambda i: t.store(t.load(x), out + i * VECTOR))


def sums(t, x, out, count):
    """Carry an address and two vectors; leave both sums and the vector behind the last one read."""

    def step(i, address, total, before):
        value = t.load(address)
        return address + VECTOR, total + value, total

    address, total, before = t.loop(count, step, x, t.zero(), t.zero())
    t.store(total, out)
    t.store(before, out + VECTOR)
    t.store(t.load(address), out + 2 * VECTOR)


def swap(t, x, out, count):
    """Two carried values change places at each turn."""
    a, b = t.loop(count, lambda i, a, b: (b, a), t.load(x), t.load(x + VECTOR))
    t.store(a, out)
    t.store(b, out + VECTOR)


def triangle(t, x, out, count):
    """out = the number of (i, j) with j < i < count, and of (i, j, k) with k < j < i, in units of x."""
    one = t.load(x)

    def outer(i, pairs, triples):
        def middle(j, pairs, triples):
            (triples,) = t.loop(j, lambda k, triples: [triples + one], triples)
            return pairs + one, triples

        return t.loop(i, middle, pairs, triples)

    pairs, triples = t.loop(count, outer, t.zero(), t.zero())
    t.store(pairs, out)
    t.store(triples, out + VECTOR)


def indices(t, x, out, count):
    """Write vector i of x to place 2 i + 1 of out, with arithmetic on addresses of every kind."""

    def step(i):
        place = (i * 2 + 5 - 4) * VECTOR - i + i
        t.store(t.load(x + i * VECTOR), out + place)

    t.loop(count, step)


def choose(t, x, out, flag):
    """out = x + x where flag is 1, else x; the second vector is written where flag is 1 only."""

    def double(value):
        t.store(value, out + VECTOR)
        return [value + value]

    (value,) = t.when(flag, double, t.load(x))
    t.store(value, out)


def limit(t, x, bounds, out, count):
    low, high = t.splat(bounds), t.splat(bounds + 4)
    t.loop(count, lambda i: t.store(t.load(x + i * VECTOR).clamp(low, high), out + i * VECTOR))


def multiply_add(t, a, b, c, out):
    """Once with one rounding, once with two, once with the three from single floats."""
    t.store(t.fma(t.load(a), t.load(b), t.load(c)), out)
    t.store(t.load(a) * t.load(b) + t.load(c), out + VECTOR)
    t.store(t.fma(t.splat(a), t.splat(b), t.splat(c)), out + 2 * VECTOR)


def repeat(t, out, *, TIMES):
    for i in range(TIMES):
        t.store(t.zero(), out + i * VECTOR)


FILL, SUMS, SWAP, TRIANGLE, INDICES, CHOOSE, LIMIT, MULTIPLY_ADD = map(
    traced, (fill, sums, swap, triangle, indices, choose, limit, multiply_add))

# --- loops -----------------------------------------------------------------------------------------------------------


@COUNTS
def test_loop_turns(count):
    out = vectors(*[0] * 8)
    FILL(vectors(5), out, count)
    turns = max(count, 0)
    assert lanes(out) == same(*[5] * turns, *[0] * (8 - turns))


@COUNTS
def test_loop_carries_values(count):
    out, x = vectors(9, 9, 9), vectors(1, 2, 4, 8, 16, 32, 64, 128)
    SUMS(x, out, count)
    turns = max(count, 0)
    assert lanes(out) == same(2**turns - 1, 2 ** (turns - 1) - 1 if turns else 0, 2**turns)


@COUNTS
def test_loop_carries_all_values_at_once(count):
    out = vectors(0, 0)
    SWAP(vectors(1, 2), out, count)
    assert lanes(out) == (same(2, 1) if max(count, 0) % 2 else same(1, 2))


@COUNTS
def test_loop_nested(count):
    out, n = vectors(9, 9), max(count, 0)
    TRIANGLE(vectors(1), out, count)
    assert lanes(out) == same(n * (n - 1) // 2, n * (n - 1) * (n - 2) // 6)


@COUNTS
def test_loop_index_and_addresses(count):
    out, x = vectors(*[0] * 16), vectors(*range(1, 9))
    INDICES(x, out, count)
    expected = [0] * 16
    for i in range(count):
        expected[2 * i + 1] = i + 1
    assert lanes(out) == same(*expected)


@pytest.mark.parametrize("flag, expected", [(0, [3, 0]), (1, [6, 3])])
def test_when(flag, expected):
    out = vectors(0, 0)
    CHOOSE(vectors(3), out, flag)
    assert lanes(out) == same(*expected)


@pytest.mark.parametrize("body, wrong", [
    pytest.param(lambda i, a, b: [a], "shorter", id="too_few"),
    pytest.param(lambda i, a, b: [a, b, a], "longer", id="too_many"),
    pytest.param(lambda i, a, b: None, "shorter", id="none"),
])
def test_loop_body_must_return_what_it_carries(body, wrong):
    def forgetful(t, x, count):
        t.loop(count, body, t.load(x), t.load(x))

    with pytest.raises(Exception, match=f"zip.. argument 2 is {wrong}"):
        traced(forgetful)(vectors(1), 1)


# --- arithmetic ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("low, high", [(0, 6), (-np.inf, np.inf)], ids=["relu6", "linear"])
def test_clamp(low, high):
    x = np.float32([-np.inf, -7, -1e-45, -0.0, 0, 1e-45, 3.5, 6, np.nextafter(np.float32(6), np.float32(7)), 1e30, np.inf, np.nan])
    out = vectors(*[9] * len(x))
    LIMIT(vectors(*x), Guarded([low, high]), out, len(x))
    out.check()
    expected = np.clip(x, np.float32(low), np.float32(high))
    np.testing.assert_array_equal(out.array, np.repeat(expected, LANES).reshape(-1, LANES))


def test_fma_rounds_once():
    """(1 + 2**-12)**2 - (1 + 2**-11) is 2**-24, which the product alone can't hold."""
    a, c, out = np.float32(1 + 2**-12), np.float32(-1 - 2**-11), vectors(9, 9, 9)
    assert a * a + c == 0, "two roundings"
    MULTIPLY_ADD(vectors(a), vectors(a), vectors(c), out)
    assert lanes(out) == same(2**-24, 0, 2**-24)


def test_lanes_do_not_mix():
    a, b, c = (Guarded(np.arange(i, i + LANES)) for i in (1, 10, 100))
    out = vectors(9, 9, 9)
    MULTIPLY_ADD(a, b, c, out)
    expected = a.array * b.array + c.array
    assert lanes(out) == [expected.tolist(), expected.tolist(), [110] * LANES]


# --- kernel() --------------------------------------------------------------------------------------------------------


def test_kernel_constants_unroll():
    twice, thrice = traced(repeat, TIMES=2), traced(repeat, TIMES=3)
    for run, times in ((twice, 2), (thrice, 3), (twice, 2)):
        out = vectors(7, 7, 7, 7)
        run(out)
        assert lanes(out) == same(*[0] * times, *[7] * (4 - times))


REPEAT_1, REPEAT_4 = kernel(repeat, TIMES=1), kernel(repeat, TIMES=4)


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


def test_kernel_checks_the_number_of_arguments():
    @njit
    def run(address):
        REPEAT_1(address, address)

    with pytest.raises(Exception, match="too many positional arguments"):
        run(8)
