"""The tracing layer: a compiled kernel computes what its Python text says."""
import numpy as np
import pytest
from guarded import Guarded
from layouts import LANES, VECTOR
from tracing import lanes, same, traced, vectors

COUNTS = pytest.mark.parametrize("count", [-1, 0, 1, 2, 7], ids=["negative", "zero", "one", "two", "many"])

# --- the kernels under test ------------------------------------------------------------------------------------------


def fill(t, x, out, count):
    t.loop(count, lambda i: t.store(t.load(x), out + i * VECTOR))


def sums(t, x, out, count):
    """Carry an address and two vectors; leave both sums and the vector behind the last one read."""

    def step(i, address, total, before):
        value = t.load(address)
        return address + VECTOR, total + value, total

    address, total, before = t.loop(count, step, x, t.number(0.0), t.number(0.0))
    t.store(total, out)
    t.store(before, out + VECTOR)
    t.store(t.load(address), out + 2 * VECTOR)


def swap(t, x, out, count):
    """Two carried values swap places in each iteration."""
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

    pairs, triples = t.loop(count, outer, t.number(0.0), t.number(0.0))
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


def limit(t, x, out, count):
    t.loop(count, lambda i: t.store(t.load(x + i * VECTOR).relu6(), out + i * VECTOR))


def multiply_add(t, a, b, c, out):
    """Once with one rounding, once with two, once with the three from single floats."""
    t.store(t.fma(t.load(a), t.load(b), t.load(c)), out)
    t.store(t.load(a) * t.load(b) + t.load(c), out + VECTOR)
    t.store(t.fma(t.splat(a), t.splat(b), t.splat(c)), out + 2 * VECTOR)


def divide(t, a, b, count, out):
    """a / b, then `count` as a float, then 1 / 3."""
    t.store(t.load(a) / t.load(b), out)
    t.store(t.float(count), out + VECTOR)
    t.store(t.number(1.0) / t.number(3.0), out + 2 * VECTOR)


FILL, SUMS, SWAP, TRIANGLE, INDICES, CHOOSE, LIMIT, MULTIPLY_ADD, DIVIDE = map(
    traced, (fill, sums, swap, triangle, indices, choose, limit, multiply_add, divide))

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


def test_relu6():
    """NaN stays NaN, and a negative zero, which is not less than 0, stays as it is."""
    x = np.float32([-np.inf, -7, -1e-45, -0.0, 0, 1e-45, 3.5, 6, 6.0000005, 1e30, np.inf, np.nan])
    assert x[8] == np.nextafter(np.float32(6), np.float32(7))
    expected = np.float32([0, 0, 0, -0.0, 0, 1e-45, 3.5, 6, 6, 6, 6, np.nan])
    out = vectors(*[9] * len(x))
    LIMIT(vectors(*x), out, len(x))
    out.check()
    assert out.array.tobytes() == np.repeat(expected, LANES).tobytes()


def test_relu6_lane_by_lane():
    """Each lane by itself is NaN, too small, too large, or in range."""
    x = np.resize(np.float32([np.nan, -1, 7, 2]), LANES)
    out = vectors(9)
    LIMIT(Guarded(x), out, 1)
    assert out.array.tobytes() == np.resize(np.float32([np.nan, 0, 6, 2]), LANES).tobytes()


@pytest.mark.parametrize("count", [1, 3, 49, 2**24 + 1, 2**40, -5])
def test_numbers(count):
    """Constants, counts as the nearest float, and quotients that are rounded once."""
    a, b = np.float32(np.arange(LANES) - 2.5), np.float32(np.arange(LANES) + 3)
    out = vectors(9, 9, 9)
    DIVIDE(Guarded(a), Guarded(b), count, out)
    third = np.float32(1) / np.float32(3)
    assert lanes(out) == [(a / b).tolist(), [float(np.float32(count))] * LANES, [float(third)] * LANES]


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
