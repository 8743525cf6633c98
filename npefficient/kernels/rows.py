"""Rows of vectors that are only moved: zeros, and copies."""
from .lanes import kernel
from .layout import VECTOR


def zero_vectors(t, out, count):
    """out[i] = 0 for `count` vectors."""
    nothing = t.number(0.0)

    def step(i):
        t.store(nothing, out + i * VECTOR)

    t.loop(count, step)


def copy_vectors(t, x, out, count):
    """out[i] = x[i] for `count` vectors, the first one first; `out` may overlap `x` where it lies before it."""

    def step(i):
        t.store(t.load(x + i * VECTOR), out + i * VECTOR)

    t.loop(count, step)


ZERO, COPY = kernel(zero_vectors), kernel(copy_vectors)
