"""A worker is woken on another processor than the caller's, and then runs wherever it could before."""
import os
import threading
from types import SimpleNamespace

import pytest
from fake_work import FakeWork, Watched, fake_run, until

from npefficient.engine import cpus
from npefficient.engine.records import IDLE

linux = pytest.mark.skipif(not cpus.sched_getcpu, reason="needs Linux")
FAKE_WORK = FakeWork()  # it keeps nothing from one job to the next


@pytest.fixture
def system(monkeypatch):
    """A system of four processors, where this thread runs on processor 2: `allowed` of each thread, and `calls`."""
    allowed, calls = {}, []

    def get(thread):
        return set(allowed.get(thread or threading.get_native_id(), range(4)))

    def put(thread, processors):
        calls.append(set(processors))
        allowed[thread or threading.get_native_id()] = set(processors)

    monkeypatch.setattr(cpus, "os", SimpleNamespace(sched_getaffinity=get, sched_setaffinity=put))
    monkeypatch.setattr(cpus, "sched_getcpu", lambda: 2)
    return SimpleNamespace(allowed=allowed, calls=calls)


def sleeping(make, work=FAKE_WORK):
    """A pool, and its worker, asleep."""
    pool = make(work)
    worker, = pool.ask([fake_run()])
    until(lambda: worker._asleep)
    return pool, worker


def again(pool, worker):
    """Hand the worker another job, and wait until it sleeps again."""
    done = worker.job.record["done"][0]
    assert pool.ask([fake_run()]) == [worker]
    until(lambda: worker.job.record["done"][0] == done + 1 and worker._asleep)


def test_woken_worker_is_kept_off_the_callers_processor(make, system):
    pool, worker = sleeping(make)
    again(pool, worker)
    assert system.calls == [{0, 1, 3}, {0, 1, 2, 3}]


def test_worker_that_may_run_nowhere_else_is_left_alone(make, system):
    pool, worker = sleeping(make)
    system.allowed[worker.thread.native_id] = {2}
    again(pool, worker)
    assert set() not in system.calls


def test_worker_that_is_awake_is_left_alone(make, system):
    """It stays awake from its first job to the end of the test, however long this thread is kept from running."""
    awake = threading.Event()
    serve = FakeWork(do=lambda record: awake.set())

    def work(address, spins):
        while (why := serve(address, spins)) == IDLE and awake.is_set():
            pass
        return why

    pool = make(work)
    try:
        worker, = pool.ask([fake_run()])
        until(worker.job.is_free)
        system.calls.clear()  # it may have slept before its first job
        for _ in range(3):
            assert pool.ask([fake_run()]) == [worker] and not worker._asleep
            until(worker.job.is_free)
        assert system.calls == []
    finally:
        awake.clear()  # else the pool could not end it


def test_worker_woken_just_after_it_lay_down_runs_where_it_could_before(make, system):
    """The worker looks up its processors before a caller can take one away."""
    pool, worker = sleeping(make)

    def post():
        if not posted:
            posted.extend(pool.ask([fake_run()]))

    posted = []
    worker._lock = Watched(worker._lock, worker.thread, after=post)
    done = worker.job.record["done"][0]
    assert pool.ask([fake_run()]) == [worker]
    until(lambda: worker.job.record["done"][0] == done + 2 and worker._asleep)
    assert posted == [worker] and system.allowed[worker.thread.native_id] == {0, 1, 2, 3}


@linux
def test_affinity_after_waking_is_what_it_was_before(make):
    """On the real system, for a worker that runs the compiled driver."""
    pool, worker = sleeping(make, None)
    before = os.sched_getaffinity(worker.thread.native_id)
    for _ in range(20):
        again(pool, worker)
        assert os.sched_getaffinity(worker.thread.native_id) == before
    assert os.sched_getaffinity(0) == before


@linux
def test_sleeping_thread_is_kept_off_this_processor(monkeypatch, make):
    pool, worker = sleeping(make)
    before = os.sched_getaffinity(worker.thread.native_id)
    monkeypatch.setattr(cpus, "sched_getcpu", lambda: min(before))
    cpus.avoid_current(worker.thread.native_id)
    got = os.sched_getaffinity(worker.thread.native_id)
    assert got == (before - {min(before)} or before)


@linux
def test_thread_that_has_ended_is_no_error():
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    until(lambda: cpus.affinity(thread.native_id) == set())
    cpus.avoid_current(thread.native_id)
    cpus.set_affinity(thread.native_id, {0})


@linux
def test_processors_that_the_process_may_not_use_are_no_error():
    """A container's set may have shrunk while the worker slept."""
    before = os.sched_getaffinity(0)
    cpus.set_affinity(0, {1000})
    assert os.sched_getaffinity(0) == before


def test_another_system_knows_no_affinity(make, monkeypatch):
    """macOS and Windows lack the calls: workers may wake anywhere."""
    monkeypatch.setattr(cpus, "sched_getcpu", None)
    monkeypatch.setattr(cpus, "os", SimpleNamespace())
    pool, worker = sleeping(make)
    again(pool, worker)
    assert cpus.affinity() == set()
