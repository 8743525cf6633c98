"""Atomic operations on int64 words in memory, for Numba code; addresses in bytes, aligned to 8.

Several threads walk one table of steps. `claim` gives each chunk of a step to one of them, and the step's second
counter counts the chunks done. Both counters (`records.py`) carry the run's number ("epoch"): a thread that arrives
late, from a run that is over, finds a different epoch and leaves without touching anything.

What a thread writes for a chunk must be visible to the threads that read it in the next step. So it counts the chunk
done only after its writes, with release order, and the others see the full count, with acquire order, before they go
on.
"""
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ..kernels.lanes import arithmetic
from .records import EPOCH_BITS, STALE

_I64 = ir.IntType(64)
_WORD = 8  # bytes
# LLVM's triple, the intrinsic, its arguments. ARM64 has YIELD for this, but most of its processors execute it as a NOP;
# ISB takes some cycles, and Rust's spin_loop uses it too. Its 15 is SY, the only barrier option that it has.
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
    """Tell the processor that this thread is spinning, if it has an instruction for that.

    x86's PAUSE yields the core to its other hyperthread for a moment, and avoids the pipeline flush that speculative
    loads cause at the end of a spin loop. ARM's `yield` does nothing on cores without hyperthreads, which most are.
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
    """Take the next chunk: returns its number, `chunks` if none is left, STALE if the run is over.

    Not with `atomic_add`: a late thread would increment a counter of the next run before it checks the epoch.
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
    """True if all chunks are done, or the run is over."""
    word = atomic_load(counter)
    return word >> EPOCH_BITS != epoch or word & ((1 << EPOCH_BITS) - 1) >= chunks
