"""The driver: the one compiled function that walks a plan's steps, in as many threads as call it.

    work            does the jobs that are posted to its thread, and returns when there are no more
      walk          walks the steps of one picture, and claims chunks of each until none is left
        run_chunk   one chunk (`chunks.py`)

Numba compiles all of this into one function: routines are inlined into their callers, so that each kernel is compiled
once.
"""
import functools

from numba import from_dtype
from numba.core import types
from numba.extending import intrinsic

from ..kernels.lanes import routine
from ..kernels.layout import Layout
from . import plan, training_steps
from .atomics import atomic_add, atomic_load, claim, finished, relax
from .chunks import make_run_chunk
from .records import COUNTERS_SIZE, DONE, DONE_JOBS, FOREIGN, IDLE, JOB, POSTED, STALE, YIELD
from .training_chunks import make_training_chunk

START = JOB.fields["start"][1]
SPINS = 1 << 14  # until a thread yields: 0.2 to 0.8 ms with 40 to 140 cycles per spin (x86's PAUSE) at 3 GHz


def record_at(dtype):
    """A function from an address to the record there, with its fields; an array would be reference-counted."""
    kind = from_dtype(dtype)

    @intrinsic
    def at(typing_context, address):
        def generate(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return kind(types.int64), generate

    return at


job_at = record_at(JOB)


@intrinsic
def set_start(typing_context, address, step):
    """Store the step to continue from in the job at an address."""

    def generate(context, builder, signature, arguments):
        field = builder.add(arguments[0], arguments[0].type(START))
        builder.store(arguments[1], builder.inttoptr(field, arguments[1].type.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@functools.cache
def make_work(layout: Layout):
    """The driver for one layout, a function for Numba to compile."""
    run_chunk = make_training_chunk(layout) if layout.training else make_run_chunk(layout)
    record = training_steps.STEP if layout.training else plan.STEP
    step_at, step_size, layout_number = record_at(record), record.itemsize, layout.number

    @routine
    def walk(job, weights, arena, picture, scratch):
        """Walk the steps from `start` on, claiming chunks, until all are done or the run is over (or cancelled for this
        job: its `epoch` is read again each time).

        Returns `count` if all steps are done, STALE if the run is over, or the step that other threads have not
        finished after SPINS spins.
        """
        for i in range(job.start, job.count):
            step = step_at(job.steps + i * step_size)
            claimed = job.counters + i * COUNTERS_SIZE
            while True:
                chunk = claim(claimed, job.epoch, step.chunks)
                if chunk == STALE:
                    return STALE
                if chunk == step.chunks:
                    break
                run_chunk(step, chunk, weights, arena, picture, scratch)
                atomic_add(claimed + DONE, 1)
            spins = SPINS
            while not finished(claimed + DONE, job.epoch, step.chunks):
                relax()
                spins -= 1
                if spins == 0:
                    return i
        return job.count

    def work(address, spins):
        """Do the job at an address, and those posted after it; returns IDLE if none was posted for `spins` spins.

        Returns FOREIGN if the next job is for the driver of a different layout.
        Returns YIELD if it waits for a thread that does not seem to be running: yield the processor and call again.
        """
        job = job_at(address)
        while True:
            left = spins
            while atomic_load(address + POSTED) == atomic_load(address + DONE_JOBS):
                if left == 0:
                    return IDLE
                relax()
                left -= 1
            if job.layout != layout_number:
                return FOREIGN
            at = walk(job, job.weights, job.arena, job.picture, job.scratch)
            if 0 <= at < job.count:
                set_start(address, at)
                return YIELD
            atomic_add(address + DONE_JOBS, 1)

    return work
