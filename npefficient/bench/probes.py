"""Kernels that only reach a limit of the processor: fused multiply-adds in registers, and reads.

    multiply_add    acc[c] = acc[c] * factor + summand, ROUNDS times per turn, for CHAINS accumulators that stay in
                    registers; 2 * lanes * CHAINS * ROUNDS FLOPs per turn
    read_sum        acc[v] += x[v], for STREAMS vectors per turn; 4 * lanes * STREAMS bytes per turn

A fused multiply-add has a latency of about 4 cycles and a core starts 2 (ARM: up to 4) per cycle, so 8 (16) independent
chains reach the limit: 12 fill the 16 registers of SSE and AVX, 24 most of the 32 of AVX-512 and NEON.
"""
import functools

from numba import njit

from ..kernels.lanes import kernel
from ..kernels.layout import Layout

ROUNDS, STREAMS = 8, 8


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


def read_sum(t, x, turns, acc):
    """x: turns * STREAMS vectors; acc: STREAMS vectors, added to."""
    size = t.layout.vector

    def turn(i, x, *values):
        return x + STREAMS * size, *(value + t.load(x + v * size) for v, value in enumerate(values))

    _, *values = t.loop(turns, turn, x, *(t.load(acc + v * size) for v in range(STREAMS)))
    for v, value in enumerate(values):
        t.store(value, acc + v * size)


@functools.cache
def multiply_adder(lanes: int, chains: int):
    """Compile `multiply_add` -> call(acc, factor, summand, turns)."""
    body = kernel(multiply_add, Layout(lanes, registers=chains + 2), CHAINS=chains)

    @njit(nogil=True)
    def call(acc, factor, summand, turns):
        body(acc, factor, summand, turns)

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
