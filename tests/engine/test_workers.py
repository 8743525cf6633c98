"""Workers take part beside the caller, one job at a time; they sleep, wake and end."""
import contextlib
import random
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from fake_clock import Clock
from fake_work import WAIT, FakeWork, Jobs, Watched, all_done, bounded, fake_run, until

from npefficient.engine import cpus, workers
from npefficient.engine.records import IDLE, YIELD
from npefficient.engine.workers import Job
from npefficient.kernels.layout import FLOAT32


def all_asleep(asked):
    return lambda: all(worker._asleep for worker in asked)


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_workers_are_at_work_beside_the_caller(make):
    """The barrier opens only when three workers and this thread are there at once."""
    barrier, names = threading.Barrier(4, timeout=WAIT), []

    def do(record):
        names.append(threading.current_thread().name)
        barrier.wait()

    asked = make(FakeWork(do)).ask([fake_run()] * 3)
    barrier.wait()
    until(all_done(asked))
    assert names == ["npefficient"] * 3 and len({worker.thread for worker in asked}) == 3


def test_job_is_what_the_run_says(make):
    """All fields of the run, its first step, and scratch memory of the worker's own, as large as the plan wants."""
    seen = []
    pool = make(FakeWork(lambda record: seen.append({name: int(record[name]) for name in record.dtype.names})))
    fields = {"layout": FLOAT32.number, "steps": 11, "count": 12, "counters": 13, "epoch": 14, "weights": 15,
              "arena": 16, "picture": 17}
    asked = pool.ask([fake_run(15, scratch_size=1000, **fields)])
    until(all_done(asked))
    scratch = asked[0].job.scratch
    assert len(scratch) == 1000 and scratch.ctypes.data % 64 == 0
    asked[0].job.record["start"] = 5  # as if it had waited for a step
    until(all_done(pool.ask([fake_run(2, scratch_size=10)])))
    assert seen[0] == fields | {"start": 0, "scratch": scratch.ctypes.data, "posted": 1, "done": 0}
    assert seen[1]["start"] == 0 and seen[1]["scratch"] == scratch.ctypes.data, "the larger scratch stays"
    assert (seen[1]["posted"], seen[1]["done"]) == (2, 1)


def test_job_keeps_its_run_alive_as_long_as_the_worker_is_inside(make):
    jobs, run = Jobs(), fake_run(1)
    worker, = make(FakeWork(jobs)).ask([run])
    until(lambda: jobs.inside)
    assert not worker.job.is_free() and worker.job.holds is run
    jobs.leave(1)
    until(worker.job.is_free)
    until(lambda: worker.job.holds is None)  # it lets go itself


def test_only_workers_with_nothing_to_do_are_chosen(make):
    jobs = Jobs()
    pool = make(FakeWork(jobs))
    first, = pool.ask([fake_run(1)])
    assert pool.ask([fake_run(2)]) == [], "as many threads as one caller wants, and this one is taken"
    second, = pool.ask([fake_run(3), fake_run(4)])
    assert first is not second
    until(lambda: sorted(jobs.inside) == [1, 3])
    jobs.leave(1)
    until(first.job.is_free)
    assert pool.ask([fake_run(5), fake_run(6)]) == [first]
    until(lambda: 5 in jobs.inside)
    assert not second.job.is_free()
    for number in (3, 5):
        jobs.leave(number)
    until(all_done([first, second]))
    assert sorted(jobs.done) == [1, 3, 5]


def test_callers_at_once_never_hand_two_jobs_to_one_worker(make, monkeypatch):
    """Six callers ask for two workers each, time after time: each job handed over is done once, and none is filled in
    while the worker has another."""
    done, handed, overwritten, fill = [], [], [], Job.fill

    def checked(job, run):
        if job.record["posted"][0] != job.record["done"][0]:
            overwritten.append(run)
        fill(job, run)

    def call(caller):
        for turn in range(300):
            numbers = [(caller * 300 + turn) * 2 + i for i in range(2)]
            asked = pool.ask([fake_run(number) for number in numbers])
            handed.extend(numbers[: len(asked)])
            until(all_done(asked))

    monkeypatch.setattr(Job, "fill", checked)
    pool = make(FakeWork(lambda record: done.append(int(record["weights"]))))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        callers = [threading.Thread(target=call, args=(caller,), daemon=True) for caller in range(6)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(WAIT)
        assert not any(caller.is_alive() for caller in callers)
    finally:
        sys.setswitchinterval(before)
    until(all_done(pool._workers))
    assert len(pool._workers) == 2 and overwritten == []
    assert len(handed) > 100 and sorted(done) == sorted(handed)


def test_no_more_threads_to_be_had(make, monkeypatch):
    """If no more threads can be started, a call only has fewer of them."""
    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        pool = make(FakeWork())
        assert pool.ask([fake_run()] * 2) == [] and pool._workers == []
    assert len(pool.ask([fake_run()] * 2)) == 2, "they may be had later"


def test_as_many_workers_as_there_are_threads_to_be_had(make, monkeypatch):
    start, started = threading.Thread.start, []

    def limited(self):
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    pool = make(FakeWork())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", limited)
        assert len(pool.ask([fake_run()] * 5)) == 2


# --- sleep -----------------------------------------------------------------------------------------------------------


def test_sleeping_worker_is_woken(make):
    """Repeatedly, with the compiled driver."""
    pool = make()
    for turn in range(1, 20):
        asked = pool.ask([fake_run()] * 2)
        until(all_done(asked))
        until(all_asleep(asked))
        assert [int(worker.job.record["done"][0]) for worker in asked] == [turn] * 2


@pytest.mark.parametrize("late", [False, True], ids=["job_is_there_first", "job_comes_later"])
def test_worker_spins_for_the_next_job_before_it_sleeps(make, monkeypatch, late):
    """It measures how long a spin takes; a job that is there already does not count as spins."""
    clock, told, posted = Clock(), [], threading.Event()
    monkeypatch.setattr(workers, "time", SimpleNamespace(perf_counter=clock, sleep=time.sleep))

    def work(address, spins):
        told.append(spins)
        clock.now += 1e-6 * spins
        return fake(address, spins)

    def compute(record):
        clock.now += 1

    def driver(layout):
        assert late or posted.wait(WAIT)
        return work

    fake = FakeWork(compute)
    pool = make()
    monkeypatch.setattr(workers, "driver", driver)
    worker, = pool.ask([fake_run()])
    posted.set()
    until(lambda: worker._asleep)
    assert told[:3] == [workers.TRIAL_SPINS] * 3
    assert told[3] == pytest.approx(workers.SPIN_SECONDS / 1e-6, rel=0.01)


def test_no_job_is_lost_while_a_worker_goes_to_sleep(make, monkeypatch):
    """Short jobs for the compiled driver, at all moments around the end of its spinning."""
    monkeypatch.setattr(workers, "SPIN_SECONDS", 1e-4)
    pool, chance, posted = make(), random.Random(0), 0
    asked = pool.ask([fake_run()])
    end = time.monotonic() + 2
    while posted < 4000 and time.monotonic() < end:
        until(all_done(asked))
        moment = time.perf_counter() + chance.uniform(0, 4e-4)
        while time.perf_counter() < moment:
            time.sleep(0)
        assert pool.ask([fake_run()]) == asked
        posted += 1
    until(all_done(asked))
    assert posted > 100 and asked[0].job.record["done"][0] == posted + 1
    until(all_asleep(asked))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_job_posted_at_the_moment_a_worker_goes_to_sleep(make, moment):
    """Just before or after it marks itself asleep: the job is done, and then the worker sleeps."""
    done, failures, posts = [], [], iter(range(10, 14))

    def post():
        number = next(posts, None)
        if number:
            try:
                assert pool.ask([fake_run(number)]) == [worker]
            except Exception as failure:  # as a caller does from another thread
                failures.append(failure)

    pool = make(FakeWork(lambda record: done.append(int(record["weights"]))))
    worker, = pool.ask([fake_run(1)])
    until(lambda: worker._asleep)
    worker._lock = Watched(worker._lock, worker.thread, **{moment: post})
    assert pool.ask([fake_run(2)]) == [worker]
    until(lambda: failures or len(done) == 6)
    assert failures == [] and done == [1, 2, 10, 11, 12, 13]
    until(lambda: worker._asleep)
    assert worker._wake.locked(), "nothing is left that would wake it"


# --- the end ---------------------------------------------------------------------------------------------------------


def test_stop_ends_sleeping_workers(make):
    pool = make()
    asked = pool.ask([fake_run()] * 2)
    until(all_asleep(asked))
    bounded(pool.stop)
    assert not any(worker.thread.is_alive() for worker in asked)


def test_stop_ends_workers_that_spin(make, monkeypatch):
    monkeypatch.setattr(workers, "SPIN_SECONDS", 0.05)
    pool = make()
    asked = pool.ask([fake_run()] * 2)
    until(all_done(asked))
    bounded(pool.stop)
    assert not any(worker.thread.is_alive() for worker in asked)


def test_stop_waits_for_workers_at_work(make):
    jobs = Jobs()
    pool = make(FakeWork(jobs))
    worker, = pool.ask([fake_run(1)])
    until(lambda: jobs.inside)
    stopping = threading.Thread(target=pool.stop, daemon=True)
    stopping.start()
    until(lambda: worker.ended)
    assert stopping.is_alive() and jobs.done == []
    jobs.leave(1)
    stopping.join(WAIT)
    assert not stopping.is_alive() and jobs.done == [1] and not worker.thread.is_alive()


def test_stop_ends_workers_that_wait_for_another_thread(make):
    pool = make(FakeWork(lambda record: YIELD))
    worker, = pool.ask([fake_run()])
    bounded(pool.stop)
    assert not worker.thread.is_alive()


def test_no_worker_is_started_after_the_end(make):
    """While the interpreter shuts down, a new thread never runs, and starting one would wait forever."""
    pool = make(FakeWork())
    pool.ask([fake_run()])
    bounded(pool.stop)
    before = threading.active_count()
    assert pool.ask([fake_run()]) == [] and threading.active_count() == before


def test_stop_ends_a_worker_whose_waking_was_interrupted(make, monkeypatch):
    """Ctrl-C comes between any two instructions of the main thread: the process must end all the same."""
    def interrupted(thread):
        raise KeyboardInterrupt

    pool = make(FakeWork())
    worker, = pool.ask([fake_run()])
    until(lambda: worker._asleep)
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(cpus, "avoid_current", interrupted)
        pool.ask([fake_run()])
    bounded(pool.stop)
    assert not worker.thread.is_alive()


def test_fake_work_spins_as_often_as_it_is_told():
    """The stand-in is of use only when it goes to sleep as the driver does."""
    job = Job()
    assert [FakeWork()(job.address, spins) for spins in (0, 5)] == [IDLE, IDLE]
    assert job.is_free() and job.record["done"][0] == 0
