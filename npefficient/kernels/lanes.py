"""A small tracing layer: a kernel is a Python function over vectors, and running it once emits its LLVM code.

A kernel takes a `Trace`, then addresses and counts. Its Python loops are unrolled by tracing; `Trace.loop` becomes a
loop in the machine code. So a tile of accumulators is a Python list, and the code reads like the formula:

    def scale(t, x, factor, out, vectors):              # out = x * factor, a vector at a time
        def step(i):
            at = i * t.layout.vector                    # bytes
            t.store(t.load(x + at) * t.splat(factor), out + at)
        t.loop(vectors, step)

    SCALE = kernel(scale, FLOAT32)                      # callable from Numba code: SCALE(x, factor, out, vectors)

Addresses are int64, in bytes. A vector has as many float32 values as the trace's layout has lanes (`layout.py`).
Activations are whole vectors, so no kernel handles a remainder of channels. A kernel checks nothing when it runs:
the plan guarantees that addresses are valid.
"""
import inspect
import itertools

from llvmlite import ir
from numba import config, njit
from numba.core import types
from numba.extending import intrinsic

from ..errors import ArgumentError
from .layout import Layout
from .trace import Int, Trace

_I64 = ir.IntType(64)
_made = []  # what emits each kernel that was made callable
_apart = False


def check_compiling() -> None:
    """Raise ArgumentError if Numba's settings forbid compiling: a kernel can't run as plain Python."""
    if config.DISABLE_JIT:
        raise ArgumentError("NUMBA_DISABLE_JIT is set: without compiling there is no engine; unset it, or make the "
                            "model in Python with backend='reference'")


def keep_apart() -> None:
    """From now on, what Numba compiles in this process only declares the kernels that it calls.

    They are compiled elsewhere (`module_of`), as Numba takes several times as long for them. To be called before any
    module that has routines is imported.
    """
    global _apart
    _apart = True


def writers(layout: Layout) -> list:
    """What emits each kernel that was made callable for a layout; its name is the kernel's."""
    return [write for write in _made if write.source[1] == layout]


def module_of(layout: Layout) -> ir.Module:
    """An LLVM module with all kernels that were made callable for a layout."""
    module = ir.Module("npefficient_kernels")
    for write in writers(layout):
        _once(module, write).linkage = "external"
    return module


def kernel(function, layout: Layout, **constants):
    """Make `function(trace, *int64 arguments, **constants)` callable from Numba code."""
    return _callable(_writer(function, layout, constants), _argument_names(function))


def family(function, layout: Layout, exists=None, **axes):
    """Make kernels that differ in their constants callable as one: a value for each axis, then the arguments.

    axes: the values of each constant, ascending in equal steps, such as KERNEL=(3, 5)
    exists: `exists(**constants)` tells whether a combination is compiled; the others must never be called

    Raises ArgumentError for values in unequal steps, of which compiled code would choose the wrong ones.
    """
    for name, values in axes.items():
        steps = {after - before for before, after in itertools.pairwise(values)}
        if len(steps) > 1 or min(steps, default=1) < 1:
            raise ArgumentError(f"{function.__name__}, {name}={tuple(values)}: the values of a constant must ascend in "
                                "equal steps; make a family for each part that does")
    combinations = [dict(zip(axes, values)) for values in itertools.product(*axes.values())]
    writers = [_writer(function, layout, constants) if exists is None or exists(**constants) else None
               for constants in combinations]

    def dispatch(module):
        compiled, builder = _begin(module, f"npefficient_{function.__name__}", len(axes) + _argument_count(function))
        chosen, arguments = compiled.args[: len(axes)], compiled.args[len(axes) :]
        nowhere = builder.append_basic_block("nowhere")
        cases = builder.switch(_place(builder, axes.values(), chosen), nowhere)
        builder.position_at_end(nowhere)
        builder.unreachable()
        for case, write in enumerate(writers):
            if write:
                block = builder.append_basic_block()
                cases.add_case(_I64(case), block)
                builder.position_at_end(block)
                builder.call(_once(module, write), arguments)
                builder.ret_void()
        return compiled

    dispatch.__name__ = f"npefficient_{function.__name__}"
    dispatch.source = function, layout, [write and write.source for write in writers]
    return _callable(dispatch, [*axes, *_argument_names(function)])


def _place(builder, axes, chosen):
    """The index of a combination among all of them; the last axis varies fastest, as in `itertools.product`."""
    place = _I64(0)
    for values, value in zip(axes, chosen):
        first, step = values[0], values[1] - values[0] if len(values) > 1 else 1
        index = builder.udiv(builder.sub(value, _I64(first)), _I64(step))
        place = builder.add(builder.mul(place, _I64(len(values))), index)
    return place


def _writer(function, layout, constants):
    """A function that writes the kernel into an LLVM module; its name is the kernel's."""

    def write(module):
        compiled, builder = _begin(module, write.__name__, _argument_count(function))
        function(Trace(builder, layout), *(Int(builder, argument) for argument in compiled.args), **constants)
        builder.ret_void()
        return compiled

    write.source = function, layout, constants
    write.__name__ = "_".join(["npefficient", function.__name__, f"x{layout.lanes}", *map(str, constants.values())])
    return write


def _begin(module, name, count):
    compiled = ir.Function(module, ir.FunctionType(ir.VoidType(), [_I64] * count), name)
    compiled.linkage = "internal"
    compiled.attributes.add("noinline")
    return compiled, ir.IRBuilder(compiled.append_basic_block("entry"))


def _once(module, write):
    """The function that `write` emits into a module, emitted there once; its name must be unique."""
    found = module.globals.get(write.__name__)
    if found is None:
        found = write(module)
        found.source = write.source
    if found.source != write.source:
        raise ValueError(f"two kernels are called {write.__name__!r}: give one of the functions another name")
    return found


def _declared(module, write, count):
    """The kernel that `write` emits elsewhere, declared."""
    kind = ir.FunctionType(ir.VoidType(), [_I64] * count)
    return module.globals.get(write.__name__) or ir.Function(module, kind, write.__name__)


def _argument_count(function) -> int:
    return function.__code__.co_argcount - 1


def _argument_names(function) -> tuple:
    return function.__code__.co_varnames[1 : function.__code__.co_argcount]


def _callable(write, names):
    """A Numba intrinsic that takes one int64 for each of `names`, and calls the kernel that `write` emits."""
    check_compiling()
    _made.append(write)

    def generate(context, builder, signature, arguments):
        called = _declared(builder.module, write, len(names)) if _apart else _once(builder.module, write)
        builder.call(called, arguments)
        return context.get_dummy_value()

    def typed(*typing_context_and_arguments):
        return types.void(*[types.int64] * len(names)), generate

    # Numba looks up an intrinsic's arguments by name and does not accept *arguments: give it the kernel's signature.
    typed.__signature__ = inspect.Signature([inspect.Parameter(n, inspect.Parameter.POSITIONAL_ONLY)
                                             for n in ("typing_context", *names)])
    typed.__name__ = write.__name__
    return intrinsic(typed)


# Both decorate plain functions that are inlined into their callers and can't raise (a division by zero gives 0). So the
# driver needs nothing from Numba at run time, as `engine/machine_code.py` requires. A `routine` calls kernels or other
# routines; Numba inlines it before it compiles the caller, so kernels are compiled once and not again in each function
# on the way. `arithmetic` calls neither and is compiled on its own, which takes less time; LLVM inlines it. Where
# kernels are kept apart, there are none in a routine, and Python calls neither.
def arithmetic(function):
    return njit(nogil=True, error_model="numpy", forceinline=True, no_cpython_wrapper=_apart,
                no_cfunc_wrapper=_apart)(function)


def routine(function):
    return arithmetic(function) if _apart else njit(nogil=True, error_model="numpy", inline="always")(function)
