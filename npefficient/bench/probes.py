"""Kernels that only reach a limit of the processor: fused multiply-adds in registers, reads, and the clock.

    multiply_add    acc[c] = acc[c] * factor + summand, ROUNDS times per turn, for CHAINS accumulators that stay in
                    registers; 2 * lanes * CHAINS * ROUNDS FLOPs per turn
    dot_add         acc[c] += dot(acc[c], weight), likewise, on integers; 2 * lanes * group * CHAINS * ROUNDS operations
                    per turn
    read_sum        acc[v] += x[v], for STREAMS vectors per turn; 4 * lanes * STREAMS bytes per turn
    sums_in_flight  acc[c] = x * y + acc[c], ROUNDS times per turn, for SUMS accumulators; LOADS of the two factors, 0
                    to 2, are loaded for each, from the first-level cache; 2 * lanes * SUMS * ROUNDS FLOPs per turn
    float_chain     acc = acc + x, ROUNDS times per turn, each after the one before; lanes * ROUNDS FLOPs per turn
    add_chain       total += step, ADDITIONS times per turn, each after the one before

A fused multiply-add has a latency of about 4 cycles and a core starts 2 (ARM: up to 4) per cycle, so 8 (16) independent
chains reach the limit: 12 fill the 16 registers of SSE and AVX, 24 most of the 32 of AVX-512 and NEON. So they do with
dot products, whose latency is 4 to 6 cycles. There, the accumulators' bits are also the values that are multiplied:
LLVM would move a product that stays the same out of the loop.

An addition of two integer registers has a latency of one cycle on every x86-64 and ARM64 core that we know of, so a
chain of them counts cycles. The step is a register and no constant: Intel's cores add small constants while they rename
registers, several in a cycle.
"""
import functools

from numba import njit

from ..kernels.lanes import family, kernel
from ..kernels.layout import FLOAT32, Layout

ROUNDS, STREAMS, ADDITIONS = 8, 8, 64
IN_FLIGHT = (1, 2, 3, 4, 6, 8, 12)  # SUMS of `sums_in_flight`


def multiply_add(t, acc, factor, summand, turns, *, CHAINS):
    """acc: CHAINS vectors, read and written back; factor, summand: addresses of one float."""
    size = t.layout.vector
    a, b = t.splat(factor), t.splat(summand)

    def turn(i, *values):
        for _ in range(ROUNDS):
            values = [t.fma(value, a, b) for value in values]
        return values

    values = t.loop(turns, turn, *(t.load(acc + c * size) for c in range(CHAINS)))
    for c, value in enumerate(values):
        t.store(value, acc + c * size)


def dot_add(t, acc, weight, turns, *, CHAINS):
    """acc: CHAINS vectors of int32, read and written back; weight: the address of a vector of groups."""
    size, groups = t.layout.floats, t.integers(weight)

    def turn(i, *values):
        for _ in range(ROUNDS):
            values = [t.dot(value, groups, value) for value in values]
        return values

    values = t.loop(turns, turn, *(t.integers(acc + c * size) for c in range(CHAINS)))
    for c, value in enumerate(values):
        t.store(value, acc + c * size)


def read_sum(t, x, turns, acc):
    """x: turns * STREAMS vectors; acc: STREAMS vectors, added to."""
    size = t.layout.vector

    def turn(i, x, *values):
        return x + STREAMS * size, *(value + t.load(x + v * size) for v, value in enumerate(values))

    _, *values = t.loop(turns, turn, x, *(t.load(acc + v * size) for v in range(STREAMS)))
    for v, value in enumerate(values):
        t.store(value, acc + v * size)


def sums_in_flight(t, acc, x, turns, *, SUMS, LOADS):
    """acc: SUMS vectors, read and written back; x: SUMS * ROUNDS * 2 vectors."""
    size = t.layout.vector
    first, second = t.load(x), t.load(x + size)

    def turn(i, x, *values):
        for r in range(ROUNDS):
            at = [(r * SUMS + c) * 2 * size for c in range(SUMS)]
            values = [t.fma(t.load(x + at[c]) if LOADS else first, t.load(x + at[c] + size) if LOADS > 1 else second,
                            value) for c, value in enumerate(values)]
        return x.hidden(), *values  # else LLVM loads once, before the loop

    _, *values = t.loop(turns, turn, x, *(t.load(acc + c * size) for c in range(SUMS)))
    for c, value in enumerate(values):
        t.store(value, acc + c * size)


def float_chain(t, acc, x, turns):
    """acc, x: one vector each."""
    step = t.load(x)

    def turn(i, value):
        for _ in range(ROUNDS):
            value = value + step
        return (value,)

    value, = t.loop(turns, turn, t.load(acc))
    t.store(value, acc)


def add_chain(t, total, step, turns):
    """total: the address of an int64, written."""

    def turn(i, value):
        for _ in range(ADDITIONS):
            value = (value + step).hidden()  # else LLVM makes one multiplication of all additions
        return (value,)

    value, = t.loop(turns, turn, t.constant(0))
    t.store(value, total)


@functools.cache
def multiply_adder(layout: Layout, chains: int):
    """Compile `multiply_add` -> call(acc, factor, summand, turns)."""
    body = kernel(multiply_add, layout, CHAINS=chains)

    @njit(nogil=True)
    def call(acc, factor, summand, turns):
        body(acc, factor, summand, turns)

    return call


@functools.cache
def dot_adder(layout: Layout, chains: int):
    """Compile `dot_add` -> call(acc, weight, turns)."""
    body = kernel(dot_add, layout, CHAINS=chains)

    @njit(nogil=True)
    def call(acc, weight, turns):
        body(acc, weight, turns)

    return call


@functools.cache
def reader(lanes: int):
    """Compile `read_sum` -> call(x, turns, acc, repeats): the same x read `repeats` times."""
    body = kernel(read_sum, Layout(lanes, registers=STREAMS + 1))

    @njit(nogil=True)
    def call(x, turns, acc, repeats):
        for _ in range(repeats):
            body(x, turns, acc)

    return call


@functools.cache
def adder():
    """Compile `add_chain` -> call(total, step, turns)."""
    body = kernel(add_chain, FLOAT32)

    @njit(nogil=True)
    def call(total, step, turns):
        body(total, step, turns)

    return call


@functools.cache
def summer(layout: Layout):
    """Compile `sums_in_flight` -> call(sums, loads, acc, x, turns), for sums in IN_FLIGHT and 0 to 2 loads."""
    body = family(sums_in_flight, layout, lambda SUMS, LOADS: SUMS in IN_FLIGHT, SUMS=range(1, max(IN_FLIGHT) + 1),
                  LOADS=range(3))

    @njit(nogil=True)
    def call(sums, loads, acc, x, turns):
        body(sums, loads, acc, x, turns)

    return call


@functools.cache
def float_adder(layout: Layout):
    """Compile `float_chain` -> call(acc, x, turns)."""
    body = kernel(float_chain, layout)

    @njit(nogil=True)
    def call(acc, x, turns):
        body(acc, x, turns)

    return call
