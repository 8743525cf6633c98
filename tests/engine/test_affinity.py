"""A helper may wake on any processor but the caller's, and then run wherever it could before."""
import os
import threading
from types import SimpleNamespace

import pytest
from fake_work import FakeWork, Watched, fake_run, make, until  # noqa: F401

from npefficient.engine import workers

linux = pytest.mark.skipif(not workers.sched_getcpu, reason="needs Linux")


@pytest.fixture
def system(monkeypatch):
    """A system of four processors, where this thread runs on processor 2: `allowed` of each thread, and `calls`."""
    allowed, calls = {}, []

    def get(thread):
        return set(allowed.get(thread or threading.get_native_id(), range(4)))

    def put(thread, processors):
        calls.append(set(processors))
        allowed[thread or threading.get_native_id()] = set(processors)

    monkeypatch.setattr(workers, "os", SimpleNamespace(sched_getaffinity=get, sched_setaffinity=put))
    monkeypatch.setattr(workers, "sched_getcpu", lambda: 2)
    return SimpleNamespace(allowed=allowed, calls=calls)


def sleeping(make, work=FakeWork()):
    """Workers, and their helper, asleep."""
    pool = make(work)
    helper, = pool.ask([fake_run()])
    until(lambda: helper._asleep)
    return pool, helper


def again(pool, helper):
    """Hand the helper another job, and wait until it sleeps again."""
    done = helper.job.record["done"][0]
    assert pool.ask([fake_run()]) == [helper]
    until(lambda: helper.job.record["done"][0] == done + 1 and helper._asleep)


def test_woken_helper_is_kept_off_the_callers_processor(make, system):
    pool, helper = sleeping(make)
    again(pool, helper)
    assert system.calls == [{0, 1, 3}, {0, 1, 2, 3}]


def test_helper_that_may_run_nowhere_else_is_left_alone(make, system):
    pool, helper = sleeping(make)
    system.allowed[helper.thread.native_id] = {2}
    again(pool, helper)
    assert set() not in system.calls


def test_helper_that_is_awake_is_left_alone(make, system):
    pool = make(FakeWork(idle=10**6))
    helper, = pool.ask([fake_run()])
    for _ in range(3):
        until(helper.job.is_free)
        assert pool.ask([fake_run()]) == [helper] and not helper._asleep
    until(helper.job.is_free)
    assert system.calls == []


def test_helper_woken_just_after_it_lay_down_runs_where_it_could_before(make, system):
    """Its processors are looked up before anyone can take one away."""
    pool, helper = sleeping(make)

    def post():
        if not posted:
            posted.extend(pool.ask([fake_run()]))

    posted = []
    helper._lock = Watched(helper._lock, helper.thread, after=post)
    done = helper.job.record["done"][0]
    assert pool.ask([fake_run()]) == [helper]
    until(lambda: helper.job.record["done"][0] == done + 2 and helper._asleep)
    assert posted == [helper] and system.allowed[helper.thread.native_id] == {0, 1, 2, 3}


@linux
def test_affinity_after_waking_is_what_it_was_before(make):
    """On the real system, for a helper that runs the compiled driver."""
    pool, helper = sleeping(make, None)
    before = os.sched_getaffinity(helper.thread.native_id)
    for _ in range(20):
        again(pool, helper)
        assert os.sched_getaffinity(helper.thread.native_id) == before
    assert os.sched_getaffinity(0) == before


@linux
def test_sleeping_thread_is_kept_off_this_processor(monkeypatch, make):
    pool, helper = sleeping(make)
    before = os.sched_getaffinity(helper.thread.native_id)
    monkeypatch.setattr(workers, "sched_getcpu", lambda: min(before))
    workers._keep_off(helper.thread.native_id)
    got = os.sched_getaffinity(helper.thread.native_id)
    assert got == (before - {min(before)} or before)


@linux
def test_thread_that_has_ended_is_no_error():
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    until(lambda: workers._affinity(thread.native_id) == set())
    workers._keep_off(thread.native_id)
    workers._set_affinity(thread.native_id, {0})


@linux
def test_processors_that_the_process_may_not_use_are_no_error():
    """A container's set may have shrunk while the helper slept."""
    before = os.sched_getaffinity(0)
    workers._set_affinity(0, {1000})
    assert os.sched_getaffinity(0) == before


def test_another_system_knows_no_affinity(make, monkeypatch):
    """Neither macOS nor Windows has the calls: helpers wake as they like."""
    monkeypatch.setattr(workers, "sched_getcpu", None)
    monkeypatch.setattr(workers, "os", SimpleNamespace())
    pool, helper = sleeping(make)
    again(pool, helper)
    assert workers._affinity() == set()
