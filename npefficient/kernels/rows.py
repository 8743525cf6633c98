"""Kernels that zero and copy rows of vectors."""
from .lanes import kernel


def zero_vectors(t, out, count):
    """out[i] = 0 for `count` vectors."""
    def step(i):
        t.clear(out + i * t.layout.vector)

    t.loop(count, step)


def zero_columns(t, out, row, rows, count):
    """Zero the first `count` vectors of each of `rows` rows, which are `row` bytes apart."""

    def step(q, out):
        zero_vectors(t, out, count)
        return [out + row]

    t.loop(rows, step, out)


def copy_vectors(t, x, out, count):
    """out[i] = x[i] for `count` vectors, in ascending order; `out` may overlap `x` if it starts before it."""

    def step(i):
        t.copy(x + i * t.layout.vector, out + i * t.layout.vector)

    t.loop(count, step)


def zero_kernel(layout):
    """ZERO(out, count), for compiled code."""
    return kernel(zero_vectors, layout)


def zero_columns_kernel(layout):
    """ZERO_COLUMNS(out, row, rows, count), for compiled code."""
    return kernel(zero_columns, layout)


def copy_kernel(layout):
    """COPY(x, out, count), for compiled code."""
    return kernel(copy_vectors, layout)
