"""A run and its workers: they take part, and a caller goes on without those that are stuck."""
import ctypes
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from engines import logits
from fake_clock import Clock
from fake_work import WAIT, FakeWork, Watched, all_done, fake_run, record_at, until

from npefficient.bench import steps as steps_module
from npefficient.engine import engine as engine_module
from npefficient.engine import workers
from npefficient.engine.compiled import driver
from npefficient.engine.engine import Buffers, Engine, Run
from npefficient.engine.plan import STEP
from npefficient.engine.records import COUNTERS_SIZE, DONE, EPOCH_BITS, IDLE, YIELD
from npefficient.engine.workers import BACKOFF, MAX_BACKOFF, STUCK
from npefficient.kernels.memory import aligned
from npefficient.network import architecture
from npefficient.network.parameters import random_weights


@pytest.fixture(scope="module")
def engine():
    """A network for two threads."""
    return Engine(random_weights(architecture.build("lite0", 10)), 2)


@pytest.fixture(scope="module")
def alone():
    """The same network for one thread."""
    return Engine(random_weights(architecture.build("lite0", 10)), 1)


@pytest.fixture
def pool(make, monkeypatch):
    """The workers of all engines during the test; they don't count as stuck, however busy the machine is."""
    monkeypatch.setattr(workers, "STUCK", np.inf)
    monkeypatch.setattr(workers, "pool", make())
    return workers.pool


@pytest.fixture
def clock(monkeypatch):
    """The clock that decides whether a worker is stuck, and for how long there is no help."""
    def tick():
        clock.now += 1e-9  # a worker measures itself on it
        return clock.now

    clock = Clock()
    monkeypatch.setattr(workers, "time", SimpleNamespace(perf_counter=tick, sleep=time.sleep))
    return clock


def pixels(seed):
    return np.random.default_rng(seed).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)


def chunks_of(counter):
    """How many chunks a counter at an address has counted."""
    return ctypes.c_int64.from_address(counter).value & ((1 << EPOCH_BITS) - 1)


# --- a part in a run -------------------------------------------------------------------------------------------------


def test_worker_alone_computes_a_whole_run(engine, alone, pool):
    """A caller that starts late finds everything done."""
    x = pixels(1)
    run = Run(Buffers(engine.plan(64, 64)), engine.packed, x[0])
    until(all_done(pool.ask([run])))
    np.testing.assert_array_equal(logits(run), alone(x)[0])


def test_worker_takes_part_in_a_call(engine, alone, pool, monkeypatch):
    """The caller waits until a worker has claimed chunks of the run."""
    x, claimed = pixels(2), []
    expected = alone(x)

    def late(address, spins):
        until(lambda: chunks_of(int(record_at(address)["counters"])))
        claimed.append(1)
        return driver()(address, spins)

    monkeypatch.setattr(engine_module, "driver", lambda layout: late)
    for _ in range(5):
        until(all_done(pool._workers))
        np.testing.assert_array_equal(engine(x), expected)
    assert len(claimed) >= 5


def test_pictures_of_a_batch_go_to_one_thread_each(engine, alone, pool, monkeypatch):
    """Each worker computes a picture of its own; the caller, which computes the rest, waits for them in this test."""
    x, seen = np.concatenate([pixels(3), pixels(4)]), []
    expected = alone.outputs(x, ["global_pool"])["global_pool"]
    ask = workers.ask

    def ask_and_wait(runs):
        asked = ask(runs)
        until(all_done(asked))
        seen.append([run.plan.outputs["global_pool"].shape for run in runs])
        for run in runs:
            pooled = np.empty((1, 1, expected.shape[1]), np.float32)
            run.read("global_pool", pooled)
            np.testing.assert_array_equal(pooled[0], expected[1:])
        return asked

    monkeypatch.setattr(workers, "ask", ask_and_wait)
    np.testing.assert_array_equal(engine.outputs(x, ["global_pool"])["global_pool"], expected)
    assert seen == [[(1, 1, expected.shape[1])]]


def test_threads_share_the_classifier_of_a_batch(engine, alone, pool, monkeypatch):
    """After the pictures, one on each thread, there is one run for all of them."""
    x, asked = np.concatenate([pixels(3), pixels(4), pixels(5)]), []
    ask = workers.ask

    def noted(runs):
        asked.append([list(run.plan.outputs) for run in runs])
        return ask(runs)

    monkeypatch.setattr(workers, "ask", noted)
    np.testing.assert_array_equal(engine(x), alone(x))
    assert asked == [[["global_pool"]], [["global_pool"]], [["classifier"]]]


def test_job_that_is_handed_over_keeps_its_run_while_another_caller_leaves(engine, make, monkeypatch):
    """One caller releases its worker's run just when another one has filled in the next job but not yet posted it."""
    handing, left, leave, fill = threading.Event(), threading.Event(), threading.Event(), workers.Job.fill

    def watched_fill(job, run):
        fill(job, run)
        if run is second:
            handing.set()

    def do(record):
        assert record["weights"] == 1 or leave.wait(WAIT)

    def work(address, spins):  # the first caller's; it returns once the worker is free and has been chosen again
        record_at(address)["done"] += 1
        assert handing.wait(WAIT)
        return IDLE

    def first():
        engine.share([fake_run(1)], 2)
        left.set()

    pool, second = make(FakeWork(do)), fake_run(2)
    monkeypatch.setattr(workers, "pool", pool)
    monkeypatch.setattr(engine_module, "driver", lambda layout: work)
    monkeypatch.setattr(workers.Job, "fill", watched_fill)
    caller = threading.Thread(target=first, daemon=True)
    caller.start()
    until(lambda: pool._workers and pool._workers[0].job.record["done"][0] == 1)
    worker = pool._workers[0]
    worker._lock = Watched(worker._lock, threading.current_thread(),
                           after=lambda: handing.is_set() and left.wait(WAIT))
    assert pool.ask([second]) == [worker]
    caller.join(WAIT)
    assert left.is_set() and worker.job.holds is second
    leave.set()
    until(worker.job.is_free)
    until(lambda: worker.job.holds is None)  # the worker releases it


# --- cancelled -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True], ids=["still_stuck", "gets_on"])
def test_worker_leaves_when_its_job_is_cancelled(pool, late):
    """The compiled driver waits for a chunk of step 0 that is never done; once cancelled, it claims nothing more."""
    steps, counters = aligned(2 * STEP.itemsize).view(STEP), aligned(2 * COUNTERS_SIZE).view(np.int64)
    steps["chunks"], epoch = 1, 7
    counters[:: DONE // 8] = epoch << EPOCH_BITS
    counters[0] += 1
    before = counters.copy()
    run = fake_run(steps=steps.ctypes.data, count=2, counters=counters.ctypes.data, epoch=epoch)
    asked = pool.ask([run])
    until(lambda: asked[0].job.record["posted"][0] == 1)
    time.sleep(0.02)
    assert not asked[0].job.is_free()
    pool.cancel(asked)
    if late:
        counters[DONE // 8] += 1
        before[DONE // 8] += 1
    until(all_done(asked))
    np.testing.assert_array_equal(counters, before)


def test_no_help_for_a_while_after_a_cancel(make, clock):
    """The backoff doubles each time up to a limit, and starts again after a time without a cancel."""
    def backoff():
        """Cancel, and measure for how long there is no help."""
        pool.cancel([])
        begin = clock.now
        while not pool.ask([fake_run()]):
            clock.now += BACKOFF / 8
        until(all_done(pool._workers))
        return clock.now - begin

    pool = make(FakeWork())
    assert len(pool.ask([fake_run()])) == 1
    until(all_done(pool._workers))
    expected = [BACKOFF, 2 * BACKOFF, 4 * BACKOFF, 8 * BACKOFF, 16 * BACKOFF, MAX_BACKOFF, MAX_BACKOFF]
    assert [backoff() for _ in expected] == pytest.approx(expected, abs=BACKOFF / 4)
    clock.now += 9 * MAX_BACKOFF
    assert backoff() == pytest.approx(MAX_BACKOFF, abs=BACKOFF / 4), "not quiet for long enough"
    clock.now += 11 * MAX_BACKOFF
    assert backoff() == pytest.approx(BACKOFF, abs=BACKOFF / 4)


def test_stuck_worker_is_cancelled_once(engine, alone, make, monkeypatch):
    """It claims a chunk of the first step and stays in it, until its job is cancelled; the caller, in the compiled
    driver, does all the rest. Another call has no help then."""
    stuck, released = threading.Event(), []

    def do(record):
        """Claim a chunk, for which the caller waits."""
        counter = int(record["counters"])
        ctypes.c_int64.from_address(counter).value += 1
        stuck.set()
        until(lambda: record["epoch"] == -1)
        time.sleep(30 * STUCK)
        released.append(chunks_of(counter + COUNTERS_SIZE))
        ctypes.c_int64.from_address(counter + DONE).value += 1

    def late(address, spins):
        assert stuck.wait(WAIT)
        return driver()(address, spins)

    pool = make(FakeWork(do))
    monkeypatch.setattr(workers, "pool", pool)
    monkeypatch.setattr(engine_module, "driver", lambda layout: late)
    engine(pixels(5))
    until(all_done(pool._workers))
    assert released == [0], "the step after the stuck one had not begun"
    assert pool._backoff == BACKOFF, "cancelled once, however long it took"
    pool._resume += 1000
    x = pixels(6)
    np.testing.assert_array_equal(engine(x), alone(x))
    assert released == [0] and len(pool._workers) == 1


@pytest.mark.parametrize("waits, expected", [
    pytest.param([(1, 0.4)] * 2, 0, id="short"),
    pytest.param([(1, 0.4), (2, 0.4)] * 5, 0, id="from_step_to_step"),
    pytest.param([(1, 0.4)] * 4, 1, id="long"),
    pytest.param([(1, 0.4)] * 40, 1, id="very_long"),
    pytest.param([(1, 0.4)] * 2 + [(2, 0.4)] * 4, 1, id="long_at_another_step"),
])
def test_worker_counts_as_stuck_after_a_while_at_one_step(engine, make, clock, monkeypatch, waits, expected):
    """`waits`: (step at which the caller waits for its worker, how long in units of STUCK), one after another."""
    left, calls = iter(waits), []

    def work(address, spins):
        record, wait = record_at(address), next(left, None)
        if wait is None:
            record["done"] += 1
            return IDLE
        record["start"] = wait[0]
        clock.now += wait[1] * STUCK
        return YIELD

    pool = make(FakeWork())
    monkeypatch.setattr(workers, "pool", pool)
    monkeypatch.setattr(pool, "cancel", calls.append)
    monkeypatch.setattr(engine_module, "driver", lambda layout: work)
    engine.share([fake_run()], 2)
    assert calls == [pool._workers] * expected


def test_benchmark_of_the_steps_cancels_a_stuck_worker_once(make, clock, monkeypatch):
    """It waits at each step as a call does; the second long wait is for a worker that is cancelled already."""
    calls, waits = [], {3: 4, 5: 4}  # at which step, and how often

    def work(address, spins):
        record = record_at(address)
        step = int(record["start"])
        if not waits.get(step):
            record["done"] += 1
            return IDLE
        waits[step] -= 1
        clock.now += 0.4 * STUCK
        return YIELD

    pool = make(FakeWork())
    monkeypatch.setattr(workers, "pool", pool)
    monkeypatch.setattr(pool, "cancel", calls.append)
    monkeypatch.setattr(steps_module, "driver", lambda layout: work)
    steps_module.Steps(random_weights(architecture.build("lite0", 10)), pixels(7), 2).in_place()
    assert calls == [pool._workers] and waits == {3: 0, 5: 0}
