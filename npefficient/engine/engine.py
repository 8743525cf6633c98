"""An engine holds one network's packed weights and plans, and runs them."""
import functools
import threading

import numpy as np

from ..kernels.layout import Layout
from ..kernels.memory import ALIGNMENT, aligned
from ..network.architecture import FLAT
from ..network.parameters import Weights
from ..network.quantization import QuantizedWeights
from . import workers
from .compiled import driver
from .pack import Packed, pack
from .plan import Plan, make_classifier_plan, make_head_plan, make_plan
from .records import COUNTERS_SIZE, EPOCH_BITS
from .workers import Job

PLANS_KEPT = 8  # plans, one for each input size, number of threads and set of outputs; each keeps its buffers


class Buffers:
    """What one run needs: an arena and the steps' counters."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.arena = aligned(plan.arena_size)
        self.counters = aligned(len(plan.steps) * COUNTERS_SIZE).view(np.int64)
        self.epoch = 0


class Run:
    """One picture's pass through the network: what each participating thread has to know."""

    def __init__(self, buffers: Buffers, packed: Packed, picture: np.ndarray):
        """picture: float32 (H, W, C), or the last feature map for a plan of the head."""
        buffers.epoch += 1
        counters, plan = buffers.counters, buffers.plan
        counters.reshape(len(plan.steps), -1)[:, :: ALIGNMENT // 8] = buffers.epoch << EPOCH_BITS
        self.buffers, self.packed, self.picture, self.plan = buffers, packed, picture, plan
        self.fields = {"layout": packed.layout.number, "steps": plan.steps.ctypes.data, "count": len(plan.steps),
                       "counters": counters.ctypes.data, "epoch": buffers.epoch, "weights": packed.address,
                       "arena": buffers.arena.ctypes.data, "picture": picture.ctypes.data}
        if plan.features is not None:
            plan.features.write(buffers.arena, picture)

    def read(self, layer: str, out: np.ndarray) -> None:
        """Copy the output of a kept layer to `out`, (H, W, C)."""
        self.plan.outputs[layer].read(self.buffers.arena, out)


class _Pool:
    """Objects for reuse: each running call takes one and returns it, so that no two calls share one.

    Popping from a list and appending to it are atomic, so there is no lock that a signal handler could find taken.
    """

    def __init__(self, make):
        self.make, self.free = make, []

    def take(self):
        try:
            return self.free.pop()
        except IndexError:  # every one is in use
            return self.make()


class _Here(threading.local):
    """State of the calling thread."""

    shares = False  # True inside `Engine.share`


_here = _Here()


class Sharing:
    """What finishes runs for one layout, in the calling thread and with workers."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self._jobs = _Pool(Job)

    def share(self, runs: list[Run], threads: int) -> None:
        """Finish these runs: this thread walks through all of them, and workers take part.

        A signal handler that interrupts a call gets no workers: that call may hold their locks.
        """
        inside = _here.shares
        try:
            _here.shares = True
            self._share(runs, [] if inside else (runs * threads)[1:])
        finally:
            _here.shares = inside

    def _share(self, runs: list[Run], parts: list[Run]) -> None:
        """parts: the run for each worker to take part in."""
        work, job = driver(self.layout), self._jobs.take()
        asked = active = workers.ask(parts) if parts else []
        for run in runs:
            job.fill(run)
            job.post(run)
            active = workers.finish(work, job, active)
        job.release()
        self._jobs.free.append(job)
        for worker in asked:
            worker.release()  # a worker that is still busy does it itself, before it sleeps


class Engine(Sharing):
    """Run one network, or a part of it."""

    def __init__(self, weights: Weights | QuantizedWeights, num_threads: int, layout: Layout | None = None):
        """layout: of values of the weights' format; by default that of this processor's vectors."""
        self.architecture = weights.architecture
        self.num_threads = num_threads
        self.packed = pack(weights, layout)
        self._plans: dict[tuple, tuple[Plan, _Pool]] = {}
        super().__init__(self.packed.layout)

    def plan(self, height: int, width: int, threads: int | None = None) -> Plan:
        """The plan for one input size, made on first use and kept for the last few sizes."""
        return self._prepare(make_plan, height, width, threads or self.num_threads,
                             frozenset([self.architecture.output]))[0]

    def _prepare(self, make, *key) -> tuple[Plan, _Pool]:
        prepared = self._plans.get((make, *key))
        if prepared is None:
            plan = make(self.architecture, self.packed, *key)
            # Another thread may have been quicker: `setdefault` keeps its plan. Each of these lines is atomic; with a
            # lock, a signal handler that calls the model could wait forever for the call that it interrupts.
            prepared = self._plans.setdefault((make, *key), (plan, _Pool(functools.partial(Buffers, plan))))
            for oldest in list(self._plans)[:-PLANS_KEPT]:
                self._plans.pop(oldest, None)
        return prepared

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(N, H, W, C) -> logits (N, num_classes), or the output of the last layer if there is no classifier."""
        return self.outputs(x, [self.architecture.output])[self.architecture.output]

    def outputs(self, x: np.ndarray, layers) -> dict[str, np.ndarray]:
        """(N, H, W, C) -> the outputs of these layers, by the names of `architecture.layers`: (N, h, w, c) or (N, c).

        x is C-contiguous and checked by the caller; safe to call from several threads at once.
        """
        return self._run(make_plan, x, layers)

    def head_outputs(self, features: np.ndarray, layers) -> dict[str, np.ndarray]:
        """The last feature map (N, h, w, channels) -> the outputs of the global pool and the classifier."""
        return self._run(make_head_plan, features, layers)

    def logits(self, pooled: np.ndarray) -> np.ndarray:
        """The output of the global pool (N, head_hidden_size) -> logits (N, num_classes)."""
        return self._each(make_classifier_plan, pooled[None, :, None], ["classifier"])["classifier"][0, :, 0]

    def _run(self, make, x, layers) -> dict[str, np.ndarray]:
        """One picture after the other, or one on each thread; only the classifier sees a whole batch at once.

        So its weights, 5 MB for 1,000 classes, are read once for all pictures. No other layer gains by that: while it
        computes, its next weights are prefetched.
        """
        together = len(x) > 1 and "classifier" in layers
        made = self._each(make, x, {*layers, "global_pool"} - {"classifier"} if together else layers)
        if together:
            made["classifier"] = self.logits(made["global_pool"][:, 0, 0])[:, None, None]
        return {name: made[name][:, 0, 0] if name in FLAT else made[name] for name in layers}

    def _each(self, make, x, layers) -> dict[str, np.ndarray]:
        """(N, H, W, C) -> the outputs of these layers, all of shape (N, h, w, c)."""
        keep, made = frozenset(layers), {}
        for first, count, threads in self._turns(len(x)):
            plan, pool = self._prepare(make, *x.shape[1:3], threads, keep)
            made = made or {name: np.empty((len(x), *plan.outputs[name].shape), np.float32) for name in layers}
            runs = [Run(pool.take(), self.packed, picture) for picture in x[first : first + count]]
            self.share(runs, threads)
            for i, run in enumerate(runs, first):
                for name, array in made.items():
                    run.read(name, array[i])
                pool.free.append(run.buffers)  # not after an interrupt: workers may still use them
        return made

    def _turns(self, pictures: int):
        """Yield (first picture, number of pictures at the same time, threads for each of them).

        Groups of `num_threads` pictures run at the same time, one on each thread, which needs no waiting between steps;
        all threads share each picture of the remainder. An empty batch is one turn with no pictures: its outputs have
        known shapes.
        """
        if not pictures:
            yield 0, 0, 1
        apart = pictures // self.num_threads * self.num_threads if self.num_threads > 1 else 0
        yield from ((i, self.num_threads, 1) for i in range(0, apart, self.num_threads))
        yield from ((i, 1, self.num_threads) for i in range(apart, pictures))
