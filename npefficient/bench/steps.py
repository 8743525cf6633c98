"""A plan's steps one by one: run any of them alone, see what they read and write, and say what they should write.

What the other benchmarks know of the engine's inside stands here.
"""
import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from .. import reference
from ..architecture import LayerShape
from ..engine.engine import Engine, _Buffers
from ..engine.plan import Plan
from ..parameters import Weights
from .verify import verify

FLOAT = 4  # bytes


def runner(engine: Engine, plan: Plan, steps: np.ndarray, buffers: _Buffers, x: np.ndarray):
    """Return a call that runs just these steps of a plan, in the arena of `buffers`."""
    part = dataclasses.replace(plan, steps=np.ascontiguousarray(steps))
    own = _Buffers(part)  # with counters for as many steps
    own.arena = buffers.arena
    return lambda: engine._run(part, own, x)


@dataclass(frozen=True)
class Step:
    """One step with its layer."""

    layer: LayerShape
    row: np.void  # of the plan's table
    relu6: bool
    residual: bool
    weights: int  # values read, the bias included

    @property
    def shape(self) -> tuple:
        """Steps of the same shape do the same work."""
        one = self.layer
        return (one.op, one.kernel, one.stride, one.height, one.width, one.in_channels, one.out_channels, self.relu6,
                self.residual)

    def flops(self, batch: int) -> int:
        """Two for each multiply-accumulate; the pool's additions."""
        one = self.layer
        return batch * (2 * one.macs or one.height * one.width * one.in_channels)

    def bytes(self, batch: int) -> int:
        """The least that has to be read and written: input, weights, output, shortcut."""
        one = self.layer
        values = one.height * one.width * one.in_channels + one.activations * (2 if self.residual else 1)
        return FLOAT * (batch * values + self.weights)


class Steps:
    """The steps of one input shape on an arena of their own."""

    def __init__(self, weights: Weights, x: np.ndarray, threads: int = 1):
        self.weights, self.x, self.batch = weights, x, len(x)
        self.engine = Engine(weights, threads)
        self.plan = self.engine.plan(*x.shape[:3])
        self.buffers = _Buffers(self.plan)
        self.convs = {conv.name: conv for conv in weights.architecture.convs}
        layers = {layer.name: layer for layer in weights.architecture.layers(*x.shape[1:3])}
        self.steps = [self._describe(layers[name], row) for name, row in zip(self.plan.names, self.plan.steps)]
        self.whole = runner(self.engine, self.plan, self.plan.steps, self.buffers, x)
        self.calls = [self.repeated(i, 1) for i in range(len(self.steps))]

    def _describe(self, layer: LayerShape, row) -> Step:
        conv = self.convs.get(layer.name)
        count = math.prod(conv.weight_shape) + conv.out_channels if conv else layer.params
        return Step(layer, row, bool(conv and conv.relu6), bool(row["has_residual"]), count)

    def repeated(self, i: int, times: int):
        """Return a call that runs step i so many times in one go of the driver."""
        return runner(self.engine, self.plan, np.repeat(self.plan.steps[i : i + 1], times), self.buffers, self.x)

    def nothing(self):
        """Return a call that runs one step without any work: what calling the driver costs."""
        idle = self.plan.steps[:1].copy()
        idle["chunks"] = 0
        return runner(self.engine, self.plan, idle, self.buffers, self.x)

    def logits(self) -> np.ndarray:
        """(N, num_classes), after the last step."""
        return self._read(self.steps[-1], "out").reshape(self.batch, -1)

    def run_verified(self, i: int) -> float:
        """Run step i, after those before it, and hold it against NumPy; returns the largest difference."""
        step = self.steps[i]
        x = self.x if step.layer.op == "stem" else self._read(step, "x")
        expected = self._expected(step, x, self._read(step, "residual") if step.residual else None)
        self.calls[i]()
        return verify(f"step {i}, {step.layer.name}", self._read(step, "out"), expected, self._sum_length(step))

    def _read(self, step: Step, what: str) -> np.ndarray:
        """A copy of the activation that a step reads or writes: (N, rows, columns, channels)."""
        one = step.layer
        shape = (one.height, one.width, one.in_channels) if what == "x" else (one.out_height, one.out_width,
                                                                              one.out_channels)
        width = shape[2] if what == "x" else int(step.row["out_channels"])  # classes are padded to whole vectors
        values = self.buffers.arena[step.row[what] :].view(np.float32)[: self.batch * shape[0] * shape[1] * width]
        return values.reshape(self.batch, *shape[:2], width)[..., : shape[2]].copy()

    def _expected(self, step: Step, x, residual):
        """What NumPy makes of a step's input."""
        one, parameters = step.layer, self.weights.parameters
        if one.op == "pool":
            return reference.global_average_pool(x)[:, None, None]
        if one.op == "classifier":
            return reference.linear(x, parameters["classifier.weight"], parameters["classifier.bias"])
        conv = self.convs[one.name]
        weight, bias = (array.astype(np.float32) for array in reference.fold(conv, parameters))
        if one.op == "pointwise":
            out = reference.pointwise_conv(x, weight) + bias
        else:
            layer = reference.dense_conv if one.op == "stem" else reference.depthwise_conv
            out = layer(x, weight, one.stride) + bias
        out = reference.relu6(out) if step.relu6 else out
        return out if residual is None else out + residual

    def _sum_length(self, step: Step) -> int:
        """The products in each of a step's sums."""
        one = step.layer
        if one.op == "pool":
            return one.height * one.width
        return (one.kernel**2 or 1) * (1 if one.op == "depthwise" else one.in_channels) + 2
