"""Atomic operations on int64 words in memory, for Numba code; addresses in bytes, aligned to 8.

Several threads walk one table of steps. `claim` hands each chunk of a step to one of them, and the second counter of
the step counts the chunks done. Both (`records.py`) carry the run's number ("epoch"): a thread that comes late, from a
run that is over, finds a different epoch and leaves without touching anything.

What a thread has written of a chunk must be seen by those that read it in the next step. It adds to the count of chunks
done after that, with release order, and they see the count full, with acquire order, before they go on.
"""
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ..kernels.lanes import arithmetic
from .records import EPOCH_BITS, STALE

_I64 = ir.IntType(64)
_WORD = 8  # bytes
# ISB on ARM64: YIELD, which is meant for this, takes no time at all on most of its processors (Rust's spin_loop).
PAUSES = ((("x86", "i686"), "llvm.x86.sse2.pause", []),
          (("aarch64", "arm64"), "llvm.aarch64.isb", [ir.IntType(32)(15)]))


@intrinsic
def atomic_load(typing_context, address):
    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], _I64.as_pointer())
        return builder.load_atomic(pointer, "acquire", _WORD)

    return types.int64(types.int64), generate


@intrinsic
def atomic_add(typing_context, address, amount):
    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], _I64.as_pointer())
        return builder.atomic_rmw("add", pointer, arguments[1], "acq_rel")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def compare_and_swap(typing_context, address, expected, new):
    """Store `new` if the word holds `expected`; returns whether it did."""

    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], _I64.as_pointer())
        outcome = builder.cmpxchg(pointer, arguments[1], arguments[2], "acq_rel", "acquire")
        return builder.extract_value(outcome, 1)

    return types.boolean(types.int64, types.int64, types.int64), generate


@intrinsic
def relax(typing_context):
    """Tell the processor that this thread only spins, where there is an instruction for it.

    x86's PAUSE leaves the core to its other hyperthread for a moment, and spares the end of the loop a pipeline full of
    loads to be undone. ARM's `yield` does nothing on cores without hyperthreads, which are almost all.
    """

    def generate(context, builder, signature, arguments):
        for architectures, name, constants in PAUSES:
            if builder.module.triple.startswith(architectures):
                pause = ir.FunctionType(ir.VoidType(), [constant.type for constant in constants])
                builder.call(cgutils.get_or_insert_function(builder.module, pause, name), constants)
        return context.get_dummy_value()

    return types.void(), generate


@arithmetic
def claim(counter, epoch, chunks):
    """Take the next chunk: its number, `chunks` when none is left, STALE when the run is over.

    Not by `atomic_add`: that would count a counter of the next run up before its epoch has been looked at.
    """
    while True:
        word = atomic_load(counter)
        if word >> EPOCH_BITS != epoch:
            return STALE
        chunk = word & ((1 << EPOCH_BITS) - 1)
        if chunk >= chunks:
            return chunks
        if compare_and_swap(counter, word, word + 1):
            return chunk


@arithmetic
def finished(counter, epoch, chunks):
    """True when all chunks are done, or the run is over."""
    word = atomic_load(counter)
    return word >> EPOCH_BITS != epoch or word & ((1 << EPOCH_BITS) - 1) >= chunks
