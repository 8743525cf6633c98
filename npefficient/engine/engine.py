"""An engine holds one network's packed weights and its plans, and runs them."""
import functools
import threading
import time

import numpy as np

from ..parameters import Weights
from . import workers
from .compiled import driver
from .counters import COUNTERS_SIZE, EPOCH_BITS
from .pack import pack
from .plan import ALIGNMENT, Plan, make_plan

PLANS_KEPT = 8  # input shapes, each with its buffers


class _Buffers:
    """What one running call needs: an arena and the steps' counters."""

    def __init__(self, plan: Plan):
        self.arena = aligned(plan.arena_size)
        self.counters = aligned(len(plan.steps) * COUNTERS_SIZE).view(np.int64)
        self.epoch = 0


class _Prepared:
    """A plan with its free buffers; each call takes one and brings it back, so that calls don't meet."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.free: list[_Buffers] = []

    def take(self) -> _Buffers:
        try:
            return self.free.pop()
        except IndexError:  # every one is in use
            return _Buffers(self.plan)


class Engine:
    """Run one network: float32 (N, H, W, C) -> logits (N, num_classes)."""

    def __init__(self, weights: Weights, num_threads: int):
        self.architecture = weights.architecture
        self.num_threads = num_threads
        self.packed = pack(weights)
        self._prepared: dict[tuple[int, int, int], _Prepared] = {}
        self._lock = threading.Lock()

    def plan(self, batch: int, height: int, width: int) -> Plan:
        """The plan for one input shape, made on first use and kept for the last few shapes."""
        return self._prepare((batch, height, width)).plan

    def _prepare(self, shape: tuple[int, int, int]) -> _Prepared:
        prepared = self._prepared.get(shape)
        if prepared is None:
            prepared = _Prepared(make_plan(self.architecture, self.packed, *shape))
            with self._lock:
                prepared = self._prepared.setdefault(shape, prepared)  # another thread may have been quicker
                while len(self._prepared) > PLANS_KEPT:
                    del self._prepared[next(iter(self._prepared))]  # the oldest
        return prepared

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x is C-contiguous and checked by the caller; safe to call from several threads at once."""
        prepared = self._prepare(x.shape[:3])
        plan, buffers = prepared.plan, prepared.take()
        self._run(plan, buffers, x)
        logits = buffers.arena[plan.logits :].view(np.float32)[: plan.batch * plan.logits_width]
        logits = logits.reshape(plan.batch, plan.logits_width)[:, : self.architecture.num_classes].copy()
        prepared.free.append(buffers)  # after an interrupted run they are left to the helpers still in them
        return logits

    def _run(self, plan: Plan, buffers: _Buffers, x: np.ndarray) -> None:
        compiled = driver()
        buffers.epoch += 1
        buffers.counters.reshape(len(plan.steps), -1)[:, :: ALIGNMENT // 8] = buffers.epoch << EPOCH_BITS
        walk = functools.partial(_walk, compiled, plan, buffers, buffers.epoch, self.packed, x)
        if self.num_threads > 1:
            workers.ask(self.num_threads - 1, walk)
        walk()


def _walk(compiled, plan: Plan, buffers: _Buffers, epoch: int, packed, x: np.ndarray) -> None:
    """Take part in a run until it is over; the arguments keep all arrays alive as long as this thread looks at them."""
    at = 0
    while 0 <= at < len(plan.steps):
        at = compiled(plan.steps.ctypes.data, len(plan.steps), at, buffers.counters.ctypes.data, epoch, packed.address,
                      plan.constants.ctypes.data, buffers.arena.ctypes.data, x.ctypes.data)
        if 0 <= at < len(plan.steps):
            time.sleep(0)  # another thread is still at work: let it run


def aligned(size: int) -> np.ndarray:
    """`size` zero bytes that start on a cache line."""
    block = np.zeros(size + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + size]
