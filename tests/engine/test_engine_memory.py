"""The engine writes only into its own memory, reads only what it wrote, and touches nothing once a run is over."""
import gc
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from engines import assert_same_bits, engine, logits, memory_from, pixels, weights

import npefficient
from npefficient.engine.compiled import driver
from npefficient.engine.engine import PLANS_KEPT, Buffers, Engine, Run
from npefficient.engine.records import IDLE, JOB, YIELD
from npefficient.engine.workers import Job

PROGRAM = Path(__file__).parents[1] / "helpers" / "fenced_engine.py"
GUARD, SHAPES = 4096, [(1, 1, 1, 3), (2, 37, 51, 3), (1, 64, 64, 3), (5, 33, 20, 3), (1, 1, 90, 3)]


# --- guards ----------------------------------------------------------------------------------------------------------


class GuardedMemory:
    """Stands in for `aligned`: memory with guard bytes on both sides."""

    def __init__(self):
        self.made = []

    def __call__(self, size):
        block = np.full(size + 2 * GUARD + 64, 0xA5, np.uint8)
        start = -(block.ctypes.data + GUARD) % 64 + GUARD
        block[start : start + size] = 0
        self.made.append((block, start, size))
        return block[start : start + size]

    def check(self):
        for block, start, size in self.made:
            for where, guard in (("before", block[:start]), ("behind", block[start + size :])):
                changed = np.flatnonzero(guard != 0xA5)
                assert not len(changed), f"{len(changed)} bytes written {where} one of {size} bytes"


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_engine_writes_only_into_its_own_memory(threads):
    """Guards around arenas, counters, scratch memory, job records and packed weights stay as they are."""
    memory = GuardedMemory()
    with memory_from(memory) as pool:
        e = Engine(weights(), threads)
        packed = e.packed.buffer.copy()
        for shape in SHAPES:
            x = pixels(*shape)
            before = x.tobytes()
            assert_same_bits(e(x), engine("lite0", 1)(x))
            assert x.tobytes() == before
        assert len(pool._workers) <= threads - 1
    memory.check()
    sizes = [size for _, _, size in memory.made]
    for plan, _ in e._plans.values():
        assert plan.arena_size in sizes
    assert sizes.count(JOB.itemsize) >= 1 and packed.nbytes in sizes
    assert max(plan.scratch_size for plan, _ in e._plans.values()) in sizes
    np.testing.assert_array_equal(e.packed.buffer.view(np.int32), packed.view(np.int32))


@pytest.mark.parametrize("place, message", [(-1, "1 bytes written before one of 128 bytes"),
                                            (128, "1 bytes written behind one of 128 bytes")])
def test_guards_can_fail(place, message):
    memory = GuardedMemory()
    memory(128)
    block, start, _ = memory.made[0]
    block[start + place] = 0
    with pytest.raises(AssertionError, match=message):
        memory.check()


class PoisonedMemory:
    """Stands in for `aligned`: memory full of NaN, but for job records, in which two counters start at 0."""

    def __init__(self):
        self.made = []

    def __call__(self, size):
        memory = np.zeros(size + 64, np.uint8)
        memory = memory[-memory.ctypes.data % 64 :][:size]
        if size != JOB.itemsize:
            memory.view(np.float32)[:] = np.nan
            self.made.append(memory)
        return memory

    def poison(self, sizes):
        for memory in self.made:
            if len(memory) in sizes:
                memory.view(np.float32)[:] = np.nan


@pytest.mark.parametrize("variant", ["lite1", "lite2"])  # with and without half vectors
@pytest.mark.parametrize("threads", [1, 2])
def test_engine_reads_only_what_it_wrote(variant, threads):
    """Arenas, scratch memory and counters full of NaN, before the first run and the second: the same logits."""
    memory = PoisonedMemory()
    x = [pixels(*shape) for shape in SHAPES]
    expected = [engine(variant, 1)(one) for one in x]
    packed = engine(variant, 1).packed
    with memory_from(memory):
        e = Engine(weights(variant), threads)
        np.copyto(e.packed.buffer, packed.buffer)  # the alignment's gaps are not always written
        for _ in range(2):
            for one, wanted in zip(x, expected):
                assert_same_bits(e(one), wanted)
            for plan, _ in e._plans.values():
                memory.poison([plan.arena_size, plan.scratch_size])


@pytest.mark.parametrize("poisoned", ["weights", "input"])
def test_nan_reaches_the_logits(poisoned):
    """A NaN that is read does show: in one weight of the stem, in one pixel."""
    e, x = Engine(weights("lite0", 10), 1), pixels(1, 20, 20, 3)
    (e.packed.buffer if poisoned == "weights" else x.reshape(-1))[0] = np.nan
    assert np.isnan(e(x)).all()


# --- forbidden pages -------------------------------------------------------------------------------------------------


def fenced(how):
    root = Path(npefficient.__file__).parent.parent
    return subprocess.run([sys.executable, PROGRAM, how], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": str(root)})


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="forbidden pages: needs Linux's mprotect")


@needs_linux
def test_no_kernel_reads_past_the_end_of_a_page():
    """Arena, weights, scratch memory and picture between forbidden pages: whole plans run, on 1 and 2 threads."""
    done = fenced("sound")
    assert (done.returncode, done.stdout) == (0, "48 runs between fences\n"), done.stderr[-2000:]


@needs_linux
@pytest.mark.parametrize("what", ["arena", "scratch", "weights", "picture"])
def test_fences_can_fail(what):
    """With a little less memory than the plan asks for, the run ends the process."""
    done = fenced(what)
    assert done.stdout == "about to run\n", done.stderr[-2000:]
    assert done.returncode in (-signal.SIGSEGV, -signal.SIGBUS), done.stderr[-2000:]


# --- late workers ----------------------------------------------------------------------------------------------------


def late(change):
    """Everything that a run could touch, before and after a worker meets a job that `change` has ended."""
    e, x = engine("lite0", 1), pixels(40, 40, 3)
    buffers, job = Buffers(e.plan(40, 40)), Job()
    first = Run(buffers, e.packed, x)
    e.share([first], 1)
    job.fill(first)
    second = Run(buffers, e.packed, -x)  # the next run on the same buffers
    change(e, job, second)
    job.scratch[:], buffers.arena[:] = 0x5A, 0x5A
    before = buffers.arena.tobytes(), buffers.counters.tobytes(), job.scratch.tobytes()
    job.post(first)
    assert driver()(job.address, 0) == IDLE
    assert job.is_free()
    job.release()
    assert job.holds is None
    return before, (buffers.arena.tobytes(), buffers.counters.tobytes(), job.scratch.tobytes())


def cancel(e, job, run):
    job.fill(run)
    job.cancel()


def finish(e, job, run):
    e.share([run], 1)
    job.fill(run)


@pytest.mark.parametrize("change", [
    pytest.param(lambda e, job, run: None, id="an_old_run"),
    pytest.param(lambda e, job, run: e.share([run], 1), id="two_runs_late"),
    pytest.param(cancel, id="cancelled"),
    pytest.param(finish, id="nothing_left"),
])
def test_late_worker_touches_nothing(change):
    """A worker that comes when its run is over leaves without a write, even while the next run is under way."""
    before, after = late(change)
    assert after == before


def test_late_worker_would_be_seen():
    """If the run is still under way, the worker does compute."""
    before, after = late(lambda e, job, run: job.fill(run))
    assert all(one != other for one, other in zip(before, after))


def test_a_run_goes_on_without_a_worker_that_is_cancelled():
    """A worker that has claimed nothing yet is cancelled; the caller computes everything itself."""
    e, x = engine("lite0", 2), pixels(40, 40, 3)
    plan = e.plan(40, 40)
    run, job = Run(Buffers(plan), e.packed, x), Job()
    job.fill(run)
    job.post(run)
    job.cancel()
    e.share([run], 1)
    assert_same_bits(logits(run), engine("lite0", 1)(x[None])[0])
    assert driver()(job.address, 0) == IDLE != YIELD


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_engine_runs_on_the_buffers_of_the_first_call():
    e, x = Engine(weights(), 2), pixels(1, 48, 48, 3)
    first = e(x)
    (_, pool), = e._plans.values()
    kept, job = list(pool.free), list(e._jobs.free)
    second = e(x)
    assert len(kept) == len(job) == 1 and (pool.free, e._jobs.free) == (kept, job)
    assert not np.shares_memory(first, second) and not np.shares_memory(second, kept[0].arena)


def test_batches_run_on_as_many_buffers_as_threads():
    e = Engine(weights(), 3)
    for _ in range(3):
        e(pixels(8, 20, 20, 3))
    assert {key[1:4]: len(pool.free) for key, (_, pool) in e._plans.items()} == {
        (20, 20, 1): 3, (20, 20, 3): 1, (8, 1, 3): 1}  # pictures one on each thread, the remainder, the classifier


def test_engine_forgets_old_sizes():
    e = Engine(weights("lite0", 10), 1)
    for size in range(1, PLANS_KEPT + 4):
        e(pixels(1, size, 1, 3))
    assert [key[1:4] for key in e._plans] == [(size, 1, 1) for size in range(4, PLANS_KEPT + 4)]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_engine_lets_go_of_the_picture(threads, batch):
    """A call leaves nothing behind that keeps the input alive; workers may need a moment to leave."""
    e = engine("lite0", threads)
    for _ in range(5):
        x = pixels(batch, 64, 64, 3)
        gone = weakref.ref(x)
        e(x)
        del x
        deadline = time.monotonic() + 30
        while gone() is not None and time.monotonic() < deadline:
            time.sleep(0.001)
        assert gone() is None, f"kept by {gc.get_referrers(gone())}"
