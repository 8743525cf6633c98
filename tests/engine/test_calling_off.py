"""A run and its helpers: they do their part, and a caller does without those that don't get on."""
import ctypes
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from engines import logits
from fake_clock import Clock
from fake_work import WAIT, FakeWork, Watched, all_done, fake_run, make, record_at, until  # noqa: F401

from npefficient.network import architecture
from npefficient.engine import engine as engine_module, workers
from npefficient.engine.compiled import driver
from npefficient.engine.counters import COUNTERS_SIZE, DONE, EPOCH_BITS
from npefficient.engine.engine import Buffers, Engine, Run
from npefficient.engine.job import GIVE_WAY, IDLE
from npefficient.engine.plan import STEP
from npefficient.engine.workers import LONGEST, PAUSE, STUCK
from npefficient.kernels.memory import aligned
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
    """The helpers of all engines during the test; they don't count as stuck, however busy the machine is."""
    monkeypatch.setattr(workers, "STUCK", np.inf)
    monkeypatch.setattr(workers, "workers", make())
    return workers.workers


@pytest.fixture
def clock(monkeypatch):
    """The clock that decides whether a helper is stuck, and for how long there is no help."""
    def tick():
        clock.now += 1e-9  # a helper measures itself on it
        return clock.now

    clock = Clock()
    for module in (workers, engine_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=tick, sleep=time.sleep))
    return clock


def pixels(seed):
    return np.random.default_rng(seed).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)


def chunks_of(counter):
    """How many chunks a counter at an address has counted."""
    return ctypes.c_int64.from_address(counter).value & ((1 << EPOCH_BITS) - 1)


# --- a part in a run -------------------------------------------------------------------------------------------------


def test_helper_alone_computes_a_whole_run(engine, alone, pool):
    """A caller that comes late finds everything done."""
    x = pixels(1)
    run = Run(Buffers(engine.plan(64, 64)), engine.packed, x[0])
    until(all_done(pool.ask([run])))
    np.testing.assert_array_equal(logits(run), alone(x)[0])


def test_helper_takes_part_in_a_call(engine, alone, pool, monkeypatch):
    """The caller does not begin before a helper has claimed chunks of the run."""
    x, claimed = pixels(2), []
    expected = alone(x)

    def late(address, looks):
        until(lambda: chunks_of(int(record_at(address)["counters"])))
        claimed.append(1)
        return driver()(address, looks)

    monkeypatch.setattr(engine_module, "driver", lambda: late)
    for _ in range(5):
        until(all_done(pool._helpers))
        np.testing.assert_array_equal(engine(x), expected)
    assert len(claimed) >= 5


def test_pictures_of_a_batch_go_to_one_thread_each(engine, alone, pool, monkeypatch):
    """Each helper has its own picture first; the caller goes through all, and waits here until that one is done."""
    x, seen = np.concatenate([pixels(3), pixels(4)]), []
    expected = alone(x)
    ask = workers.ask

    def ask_and_wait(runs):
        helpers = ask(runs)
        until(all_done(helpers))
        seen.append([logits(run) for run in runs])
        return helpers

    monkeypatch.setattr(workers, "ask", ask_and_wait)
    np.testing.assert_array_equal(engine(x), expected)
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], expected[1:])


def test_job_that_is_handed_over_keeps_its_run_while_another_caller_leaves(engine, make, monkeypatch):
    """One caller lets go of what its helper had, just when a second one has filled in the next job and not posted it.
    """
    handing, left, leave, fill = threading.Event(), threading.Event(), threading.Event(), workers.Job.fill

    def watched_fill(job, run):
        fill(job, run)
        if run is second:
            handing.set()

    def do(record):
        assert record["weights"] == 1 or leave.wait(WAIT)

    def work(address, looks):  # the first caller's: it comes back when the helper is free and has been chosen again
        record_at(address)["done"] += 1
        assert handing.wait(WAIT)
        return IDLE

    def first():
        engine.share([fake_run(1)], 2)
        left.set()

    pool, second = make(FakeWork(do)), fake_run(2)
    monkeypatch.setattr(workers, "workers", pool)
    monkeypatch.setattr(engine_module, "driver", lambda: work)
    monkeypatch.setattr(workers.Job, "fill", watched_fill)
    caller = threading.Thread(target=first, daemon=True)
    caller.start()
    until(lambda: pool._helpers and pool._helpers[0].job.record["done"][0] == 1)
    helper = pool._helpers[0]
    helper._lock = Watched(helper._lock, threading.current_thread(),
                           after=lambda: handing.is_set() and left.wait(WAIT))
    assert pool.ask([second]) == [helper]
    caller.join(WAIT)
    assert left.is_set() and helper.job.holds is second
    leave.set()
    until(helper.job.is_free)
    until(lambda: helper.job.holds is None)  # it lets go itself


# --- called off ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True], ids=["still_stuck", "gets_on"])
def test_helper_leaves_when_its_job_is_called_off(pool, late):
    """The compiled driver waits for a chunk of step 0 that never gets done; it claims nothing afterwards."""
    steps, counters = aligned(2 * STEP.itemsize).view(STEP), aligned(2 * COUNTERS_SIZE).view(np.int64)
    steps["chunks"], epoch = 1, 7
    counters[:: DONE // 8] = epoch << EPOCH_BITS
    counters[0] += 1
    before = counters.copy()
    run = fake_run(steps=steps.ctypes.data, count=2, counters=counters.ctypes.data, epoch=epoch)
    helpers = pool.ask([run])
    until(lambda: helpers[0].job.record["posted"][0] == 1)
    time.sleep(0.02)
    assert not helpers[0].job.is_free()
    pool.call_off(helpers)
    if late:
        counters[DONE // 8] += 1
        before[DONE // 8] += 1
    until(all_done(helpers))
    np.testing.assert_array_equal(counters, before)


def test_no_help_for_a_while_after_a_call_off(make, clock):
    """The pause doubles where it was too short, up to a limit, and starts anew after a quiet time."""
    def pause():
        """Call off, and measure for how long there is no help."""
        pool.call_off([])
        begin = clock.now
        while not pool.ask([fake_run()]):
            clock.now += PAUSE / 8
        until(all_done(pool._helpers))
        return clock.now - begin

    pool = make(FakeWork())
    assert len(pool.ask([fake_run()])) == 1
    until(all_done(pool._helpers))
    expected = [PAUSE, 2 * PAUSE, 4 * PAUSE, 8 * PAUSE, 16 * PAUSE, LONGEST, LONGEST]
    assert [pause() for _ in expected] == pytest.approx(expected, abs=PAUSE / 4)
    clock.now += 9 * LONGEST
    assert pause() == pytest.approx(LONGEST, abs=PAUSE / 4), "not quiet for long enough"
    clock.now += 11 * LONGEST
    assert pause() == pytest.approx(PAUSE, abs=PAUSE / 4)


def test_stuck_helper_is_called_off_once(engine, alone, make, monkeypatch):
    """It claims a chunk of the first step and stays in it, until its job is called off; the caller, in the compiled
    driver, does all the rest. Another call has no help then."""
    stuck, released = threading.Event(), []

    def do(record):
        """Claim a chunk, as the caller does not begin before."""
        counter = int(record["counters"])
        ctypes.c_int64.from_address(counter).value += 1
        stuck.set()
        until(lambda: record["epoch"] == -1)
        time.sleep(30 * STUCK)
        released.append(chunks_of(counter + COUNTERS_SIZE))
        ctypes.c_int64.from_address(counter + DONE).value += 1

    def late(address, looks):
        assert stuck.wait(WAIT)
        return driver()(address, looks)

    pool = make(FakeWork(do))
    monkeypatch.setattr(workers, "workers", pool)
    monkeypatch.setattr(engine_module, "driver", lambda: late)
    engine(pixels(5))
    until(all_done(pool._helpers))
    assert released == [0], "the step after the stuck one had not begun"
    assert pool._pause == PAUSE, "called off once, however long it took"
    pool._resume += 1000
    x = pixels(6)
    np.testing.assert_array_equal(engine(x), alone(x))
    assert released == [0] and len(pool._helpers) == 1


@pytest.mark.parametrize("waits, expected", [
    pytest.param([(1, 0.4)] * 2, 0, id="short"),
    pytest.param([(1, 0.4), (2, 0.4)] * 5, 0, id="from_step_to_step"),
    pytest.param([(1, 0.4)] * 4, 1, id="long"),
    pytest.param([(1, 0.4)] * 40, 1, id="very_long"),
    pytest.param([(1, 0.4)] * 2 + [(2, 0.4)] * 4, 1, id="long_at_another_step"),
])
def test_helper_counts_as_stuck_after_a_while_at_one_step(engine, make, clock, monkeypatch, waits, expected):
    """`waits`: at which step the caller waits for its helper, time after time, and for how many times STUCK."""
    left, calls = iter(waits), []

    def work(address, looks):
        record, wait = record_at(address), next(left, None)
        if wait is None:
            record["done"] += 1
            return IDLE
        record["start"] = wait[0]
        clock.now += wait[1] * STUCK
        return GIVE_WAY

    pool = make(FakeWork())
    monkeypatch.setattr(workers, "workers", pool)
    monkeypatch.setattr(pool, "call_off", calls.append)
    monkeypatch.setattr(engine_module, "driver", lambda: work)
    engine.share([fake_run()], 2)
    assert calls == [pool._helpers] * expected
