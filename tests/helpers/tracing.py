"""Small kernels made callable from Python, and their machine code as text."""
import re

import numpy as np
from guarded import Guarded
from layouts import LANES
from numba import njit

from npefficient.kernels.lanes import kernel
from npefficient.kernels.layout import FLOAT32


def caller(call, count):
    """An intrinsic of `count` int64 as a function for Python, with guarded arrays and counts."""
    names = ", ".join(f"a{i}" for i in range(count))
    scope = {"call": call}
    exec(f"def run({names}):\n    call({names})", scope)  # Numba takes no *arguments for an intrinsic
    run = njit(scope["run"])

    def convert(*arguments):
        return run(*(getattr(argument, "address", argument) for argument in arguments))

    convert.compiled = run
    return convert


def traced(function, layout=FLOAT32, **constants):
    """The kernel, callable from Python."""
    return caller(kernel(function, layout, **constants), function.__code__.co_argcount - 1)


def text_of(run):
    """The machine code of a function that has been called, as LLVM's text."""
    (text,) = run.inspect_llvm().values()
    return text


def defined(run):
    """The names of the kernels in it."""
    return sorted(re.findall(r"define [^@]*@npefficient_(\w+)\(", text_of(run)))


def vectors(*rows):
    """A guarded array of vectors, each a number in every lane."""
    return Guarded(np.repeat(np.float32(rows), LANES).reshape(-1, LANES))


def lanes(placed):
    placed.check()
    return placed.array.tolist()


def same(*numbers):
    return [[number] * LANES for number in numbers]
