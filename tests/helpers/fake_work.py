"""Stand-ins for the compiled driver and for runs, to see what workers do, and waits that time out."""
import ctypes
import threading
import time
from types import SimpleNamespace

import numpy as np

from npefficient.engine.records import IDLE, JOB, YIELD
from npefficient.kernels.layout import FLOAT32

WAIT = 10  # seconds


def record_at(address):
    """The job at an address, for reading and writing."""
    return np.frombuffer((ctypes.c_byte * JOB.itemsize).from_address(address), JOB)[0]


class FakeWork:
    """Serves a job's address as the compiled driver does, but does a job by calling `do(record)`.

    The job is done then, except where `do` returns YIELD. It spins at most 20 times for a job.
    """

    def __init__(self, do=lambda record: None):
        self.do = do

    def __call__(self, address, spins):
        record, left = record_at(address), min(spins, 20)
        while True:
            while record["posted"] == record["done"]:
                if left == 0:
                    return IDLE
                time.sleep(0)
                left -= 1
            if self.do(record) == YIELD:
                return YIELD
            record["done"] += 1


class Jobs:
    """`do` of FakeWork: each job waits for `leave(number)`; `inside` and `done` list the runs' numbers."""

    def __init__(self):
        self.inside, self.done, self._leave = [], [], {}

    def __call__(self, record):
        number = int(record["weights"])
        self.inside.append(number)
        assert self._leave.setdefault(number, threading.Event()).wait(WAIT)
        self.done.append(number)

    def leave(self, number):
        self._leave.setdefault(number, threading.Event()).set()


class Watched:
    """A lock that calls `before()` before one thread takes it, and `after()` once that thread has released it."""

    def __init__(self, lock, thread, before=lambda: None, after=lambda: None):
        self.lock, self.thread, self.before, self.after, self.busy = lock, thread, before, after, False

    def call(self, hook):
        if threading.current_thread() is self.thread and not self.busy:
            self.busy = True
            hook()
            self.busy = False

    def __enter__(self):
        self.call(self.before)
        self.lock.acquire()

    def __exit__(self, *exception):
        self.lock.release()
        self.call(self.after)


def fake_run(number=0, scratch_size=0, **fields):
    """What a job is filled with from an `engine.Run`; without steps, so that the real driver is done with it at once.

    `number` tells runs apart: the job's `weights`.
    """
    fields = {"layout": FLOAT32.number, "steps": 0, "count": 0, "counters": 0, "epoch": 1, "weights": number,
              "arena": 0, "picture": 0} | fields
    return SimpleNamespace(plan=SimpleNamespace(scratch_size=scratch_size), fields=fields,
                           packed=SimpleNamespace(layout=FLOAT32))


def until(condition):
    """Wait until condition() holds."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.0002)


def bounded(function, *arguments):
    """Call a function that must not hang; returns what it returns."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function(*arguments)), daemon=True)
    thread.start()
    thread.join(WAIT)
    assert not thread.is_alive(), "it hangs"
    return results[0]


def all_done(asked):
    return lambda: all(worker.job.is_free() for worker in asked)
