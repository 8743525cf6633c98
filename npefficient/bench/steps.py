"""A plan's steps one by one: run any of them alone, read its input and output, and compute its expected output.

All that the benchmarks know of the engine's internals is in this file.
"""
import dataclasses
import math
import time
from dataclasses import dataclass

import numpy as np

from ..engine import workers
from ..engine.activation import Activation
from ..engine.compiled import driver
from ..engine.engine import Buffers, Engine, Run
from ..engine.plan import make_plan
from ..kernels.layout import FLOAT32
from ..network import reference
from ..network.architecture import LayerShape
from ..network.folding import fold
from ..network.parameters import Weights
from .verify import verify


def memory_held(engine: Engine) -> tuple[int, int]:
    """Bytes of the arenas that an engine keeps for its next calls, and of all threads' scratch memory."""
    prepared = list(engine._plans.values())
    arenas = sum(len(buffers.arena) for _, pool in prepared for buffers in pool.free)
    return arenas, engine.num_threads * max(plan.scratch_size for plan, _ in prepared)


@dataclass(frozen=True)
class Step:
    """One step with its layers: one, or a depthwise convolution fused with its producer."""

    layers: tuple[LayerShape, ...]
    row: np.void  # of the plan's table
    relu6: bool
    residual: bool
    weights: int  # values read, including biases

    @property
    def name(self) -> str:
        """The layer's name; "blocks.1.0.conv_pw + conv_dw" for two."""
        first, *rest = (layer.name for layer in self.layers)
        return " + ".join([first, *(name.rpartition(".")[2] for name in rest)])

    @property
    def op(self) -> str:
        return " + ".join(layer.op for layer in self.layers)

    @property
    def shape(self) -> tuple:
        """Steps of the same shape do the same work."""
        return (*((one.op, one.kernel, one.stride, one.height, one.width, one.in_channels, one.out_channels)
                  for one in self.layers), self.relu6, self.residual)

    @property
    def macs(self) -> int:
        return sum(one.macs for one in self.layers)

    def flops(self) -> int:
        """Two for each multiply-accumulate; the pool's additions."""
        one = self.layers[0]
        return 2 * self.macs or one.height * one.width * one.in_channels

    def bytes(self) -> int:
        """The least to read and write: input, weights, output, shortcut."""
        first, last = self.layers[0], self.layers[-1]
        values = first.height * first.width * first.in_channels + last.activations * (2 if self.residual else 1)
        return FLOAT32.item * (values + self.weights)

    def describe(self) -> dict:
        """The columns of a table that describe it."""
        first, last = self.layers[0], self.layers[-1]
        return {"op": self.op, "input": f"{first.height}x{first.width}x{first.in_channels}", "k": last.kernel or None,
                "s": last.stride, "out": last.out_channels}


def without_work(steps: np.ndarray) -> np.ndarray:
    """The same steps with nothing to do."""
    idle = steps.copy()
    idle["chunks"] = 0
    return idle


class Steps:
    """The steps for one input size on their own arena; x (1, H, W, C)."""

    def __init__(self, weights: Weights, x: np.ndarray, threads: int = 1, fused: bool = True):
        """fused: a depthwise step is fused with its producer, as usual; otherwise each layer is a step of its own."""
        self.weights, self.x = weights, x
        self.engine = Engine(weights, threads)
        network = weights.architecture
        keep = [] if fused else [layer.name for layer in network.layers(*x.shape[1:3])]
        plan = make_plan(network, self.engine.packed, *x.shape[1:3], threads, frozenset(keep))
        self.buffers = Buffers(plan)
        self.job = workers.Job()
        self.convs = {conv.name: conv for conv in weights.architecture.convs}
        self.steps = [self._describe(layers, row) for layers, row in zip(plan.layers, plan.steps)]
        self.idle = self._buffers(without_work(plan.steps))
        self.whole = self.runner(plan.steps)
        self.calls = [self.repeated(i, 1) for i in range(len(self.steps))]

    def runner(self, steps: np.ndarray):
        """Return a call that runs only these steps, on the shared arena."""
        buffers = self._buffers(steps)
        return lambda: self.engine.share([self._run(buffers)], self.engine.num_threads)

    def _buffers(self, steps: np.ndarray) -> Buffers:
        own = Buffers(dataclasses.replace(self.buffers.plan, steps=np.ascontiguousarray(steps)))
        own.arena = self.buffers.arena  # the counters stay its own, as the number of steps differs
        return own

    def _run(self, buffers: Buffers) -> Run:
        return Run(buffers, self.engine.packed, self.x[0])

    def _describe(self, layers, row) -> Step:
        conv, count = self.convs.get(layers[-1].name), 0
        for layer in layers:
            one = self.convs.get(layer.name)
            count += math.prod(one.weight_shape) + one.out_channels if one else layer.params
        return Step(layers, row, bool(conv and conv.relu6), bool(row["has_residual"]), count)

    def repeated(self, i: int, times: int):
        """Return a call that runs step i `times` times in one call of the driver."""
        return self.runner(np.repeat(self.buffers.plan.steps[i : i + 1], times))

    def nothing(self):
        """Return a call that runs one step without any work: the cost of calling the driver."""
        return self.runner(without_work(self.buffers.plan.steps[:1]))

    def in_place(self, clock=time.perf_counter) -> np.ndarray:
        """Make a whole pass that reads the clock before its first step and after each step.

        Returns seconds, (1 + steps,): first the time to prepare the run and to ask workers, then that of each step.
        Workers walk through the steps as usual; this thread is given one step at a time, where `Engine.share` gives it
        all of them.
        """
        return self._look_after_each(self.buffers, clock)

    def looks(self, clock=time.perf_counter) -> float:
        """The seconds that `in_place` adds to the work of each step."""
        return float(np.median(self._look_after_each(self.idle, clock)[1:]))

    def _look_after_each(self, buffers: Buffers, clock) -> np.ndarray:
        job, work = self.job, driver(self.engine.packed.layout)
        posted, start, count = (memoryview(job.record[field]) for field in ("posted", "start", "count"))  # fastest
        times = [clock()]
        run, others = self._run(buffers), self.engine.num_threads - 1
        active = workers.ask([run] * others) if others else []
        job.fill(run)
        times.append(clock())
        for i in range(len(buffers.plan.steps)):
            start[0], count[0] = i, i + 1
            posted[0] += 1  # job.post()
            active = workers.finish(work, job, active)
            times.append(clock())
        return np.diff(times)

    def logits(self) -> np.ndarray:
        """(1, num_classes), after the last step."""
        return self._read(self.steps[-1], "out").reshape(1, -1)

    def run_verified(self, i: int) -> float:
        """Run step i, after those before it, and compare it with NumPy; returns the largest difference."""
        step = self.steps[i]
        x = self.x if step.layers[0].op == "stem" else self._read(step, "x")
        residual = self._read(step, "residual") if step.residual else None
        for layer in step.layers:
            x = self._expected(layer, x)
        self.calls[i]()
        expected = x if residual is None else x + residual
        return verify(f"step {i}, {step.name}", self._read(step, "out"), expected, self._sum_length(step))

    def _read(self, step: Step, what: str) -> np.ndarray:
        """A copy of the activation that a step reads or writes: (1, rows, columns, channels)."""
        first, last = step.layers[0], step.layers[-1]
        height, width, channels = ((first.height, first.width, first.in_channels) if what == "x" else
                                   (last.out_height, last.out_width, last.out_channels))
        start = step.row[what] + (step.row["out"] if what == "residual" else 0)
        out = np.empty((1, height, width, channels), np.float32)
        Activation(layout=self.engine.packed.layout, item=FLOAT32.item, offset=int(start), height=height, width=width,
                   channels=channels).read(self.buffers.arena, out[0])
        return out

    def _expected(self, one: LayerShape, x):
        """NumPy's output of a layer for the input x, without the shortcut."""
        parameters = self.weights.parameters
        if one.op == "pool":
            return reference.global_average_pool(x)[:, None, None]
        if one.op == "classifier":
            return reference.linear(x, parameters["classifier.weight"], parameters["classifier.bias"])
        conv = self.convs[one.name]
        weight, bias = (array.astype(np.float32) for array in fold(conv, parameters))
        if one.op == "pointwise":
            out = reference.pointwise_conv(x, weight) + bias
        else:
            layer = reference.dense_conv if one.op == "stem" else reference.depthwise_conv
            out = layer(x, weight, one.stride) + bias
        return reference.relu6(out) if conv.relu6 else out

    def _sum_length(self, step: Step) -> int:
        """The products per sum of a step, added up over its layers."""
        if step.op == "pool":
            return step.layers[0].height * step.layers[0].width
        return sum((one.kernel**2 or 1) * (1 if one.op == "depthwise" else one.in_channels) + 2 for one in step.layers)
