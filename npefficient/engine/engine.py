"""An engine holds one network's packed weights and its plans, and runs them."""
import functools
import threading
import time

import numpy as np

from ..parameters import Weights
from . import workers
from .compiled import driver
from .counters import COUNTERS_SIZE, EPOCH_BITS
from .job import GIVE_WAY
from .memory import ALIGNMENT, aligned
from .pack import Packed, pack
from .plan import Plan, make_plan
from .workers import Job

PLANS_KEPT = 8  # input sizes, each with its buffers


class Buffers:
    """What one run needs: an arena and the steps' counters."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.arena = aligned(plan.arena_size)
        self.counters = aligned(len(plan.steps) * COUNTERS_SIZE).view(np.int64)
        self.epoch = 0


class Run:
    """One picture on its way through the network: what each thread that takes part has to know."""

    def __init__(self, buffers: Buffers, packed: Packed, picture: np.ndarray):
        buffers.epoch += 1
        counters, plan = buffers.counters, buffers.plan
        counters.reshape(len(plan.steps), -1)[:, :: ALIGNMENT // 8] = buffers.epoch << EPOCH_BITS
        self.buffers, self.packed, self.picture, self.plan = buffers, packed, picture, plan
        self.fields = {"steps": plan.steps.ctypes.data, "count": len(plan.steps), "counters": counters.ctypes.data,
                       "epoch": buffers.epoch, "weights": packed.address, "arena": buffers.arena.ctypes.data,
                       "picture": picture.ctypes.data}

    def logits(self, count: int) -> np.ndarray:
        return self.buffers.arena[self.plan.logits :].view(np.float32)[:count]


class _Pool:
    """Things that running calls take and bring back, so that calls don't meet."""

    def __init__(self, make):
        self.make, self.free = make, []

    def take(self):
        try:
            return self.free.pop()
        except IndexError:  # every one is in use
            return self.make()


class Engine:
    """Run one network: float32 (N, H, W, C) -> logits (N, num_classes)."""

    def __init__(self, weights: Weights, num_threads: int):
        self.architecture = weights.architecture
        self.num_threads = num_threads
        self.packed = pack(weights)
        self._plans: dict[tuple[int, int, int], tuple[Plan, _Pool]] = {}
        self._jobs = _Pool(Job)
        self._lock = threading.Lock()

    def plan(self, height: int, width: int, threads: int | None = None) -> Plan:
        """The plan for one input size, made on first use and kept for the last few sizes."""
        return self._prepare(height, width, threads or self.num_threads)[0]

    def _prepare(self, *key: int) -> tuple[Plan, _Pool]:
        prepared = self._plans.get(key)
        if prepared is None:
            plan = make_plan(self.architecture, self.packed, *key)
            with self._lock:  # another thread may have been quicker
                prepared = self._plans.setdefault(key, (plan, _Pool(functools.partial(Buffers, plan))))
                while len(self._plans) > PLANS_KEPT:
                    del self._plans[next(iter(self._plans))]  # the oldest
        return prepared

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x is C-contiguous and checked by the caller; safe to call from several threads at once.

        As many pictures as there are threads run at the same time, one on each; the threads share those that are left.
        """
        logits = np.empty((len(x), self.architecture.num_classes), np.float32)
        apart = len(x) // self.num_threads * self.num_threads if self.num_threads > 1 else 0
        for i in range(0, apart, self.num_threads):
            self._run(x[i : i + self.num_threads], logits[i : i + self.num_threads], 1)
        for i in range(apart, len(x)):
            self._run(x[i : i + 1], logits[i : i + 1], self.num_threads)
        return logits

    def _run(self, pictures: np.ndarray, logits: np.ndarray, threads: int) -> None:
        """Pictures (N, H, W, C) at the same time -> logits (N, num_classes), each on so many threads."""
        _, pool = self._prepare(*pictures.shape[1:3], threads)
        runs = [Run(pool.take(), self.packed, picture) for picture in pictures]
        self.share(runs, threads)
        for run, row in zip(runs, logits):
            row[:] = run.logits(len(row))
            pool.free.append(run.buffers)  # after an interrupted run they are left to the helpers still in them

    def share(self, runs: list[Run], threads: int) -> None:
        """Finish these runs: this thread goes through all of them, and helpers take part beside it."""
        work, job = driver(), self._jobs.take()
        helpers = asked = workers.ask((runs * threads)[1:]) if len(runs) * threads > 1 else []
        for run in runs:
            job.fill(run)
            job.post()
            step, since = None, 0.0
            while work(job.address, 0) == GIVE_WAY:  # a helper still has a part of a step
                if job.start() != step:
                    step, since = job.start(), time.perf_counter()
                elif helpers and time.perf_counter() - since > workers.STUCK:
                    workers.call_off(helpers)
                    helpers = []
                time.sleep(0)
        job.let_go()
        self._jobs.free.append(job)
        for helper in asked:
            helper.let_go()  # a late one does so itself
