"""A plan's steps one by one: run any of them alone, read its input and output, and compute its expected output.

All that the benchmarks know of the engine's internals is in this file.
"""
import dataclasses
import functools
import math
import time
from dataclasses import dataclass

import numpy as np

from ..engine import workers
from ..engine.compiled import driver
from ..engine.engine import Buffers, Engine, Run
from ..engine.plan import POINTWISE, POOL, QUANTIZE, STEM, Plan, make_plan
from ..kernels.layout import FLOAT, ZERO
from ..kernels.memory import blocks, read_blocks
from ..network.architecture import LayerShape
from ..network.folded_network import FoldedNetwork
from ..network.parameters import Weights
from ..network.quantization import QuantizedWeights
from ..network.quantized_reference import QuantizedNetwork, from_float32, quantized_rows
from ..network.reference import linear
from .verify import LOGITS, verify

QUANTISES = "input of "  # how the name of what quantises a layer's input begins


def memory_held(engine: Engine) -> tuple[int, int]:
    """Bytes of the arenas that an engine keeps for its next calls, and of all threads' scratch memory."""
    prepared = list(engine._plans.values())
    arenas = sum(len(buffers.arena) for _, pool in prepared for buffers in pool.free)
    return arenas, engine.num_threads * max(plan.scratch_size for plan, _ in prepared)


@dataclass(frozen=True)
class Step:
    """One step with its layers: one, or a depthwise convolution fused with its producer.

    Where floats become integers, that is a step with a layer of its own, whose op is "quantize".
    """

    layers: tuple[LayerShape, ...]
    row: np.void  # of the plan's table
    relu6: bool
    residual: bool
    items: tuple[int, int]  # bytes of a value of the input and of the output
    constants: int  # bytes of weights, scales and biases

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
    def end(self) -> str:
        """What it ends with."""
        return ("relu6" if self.relu6 else "+residual" if self.residual else "int8" if self.op == "quantize" else
                "linear")

    @property
    def macs(self) -> int:
        return sum(one.macs for one in self.layers)

    def flops(self) -> int:
        """Two for each multiply-accumulate; one for each value that the pool adds or that is quantised."""
        one = self.layers[0]
        return 2 * self.macs or one.height * one.width * one.in_channels

    def bytes(self) -> int:
        """The least to read and write: input, weights, output, shortcut, and the scales of rows."""
        first, (item, out_item) = self.layers[0], self.items
        pixels, out = first.height * first.width, self.layers[-1].activations
        scales = FLOAT * first.height if self.row["has_scale"] or self.op == "quantize" else 0
        return (item * pixels * first.in_channels + scales + self.constants + out_item * out
                + (FLOAT * out if self.residual else 0))

    def describe(self) -> dict:
        """The columns of a table that describe it."""
        first, last = self.layers[0], self.layers[-1]
        return {"op": self.op, "input": f"{first.height}x{first.width}x{first.in_channels}", "k": last.kernel or None,
                "s": last.stride, "out": last.out_channels}


def _all_layers(plan: Plan) -> list[tuple[LayerShape, ...]]:
    """The layers of each step; the plan has none where floats are quantised for the step after."""
    every = []
    for layers, following in zip(plan.layers, (*plan.layers[1:], ())):
        if not layers:
            one = following[0]
            layers = (dataclasses.replace(one, name=QUANTISES + one.name, op="quantize", kernel=0, stride=1, params=0,
                                          macs=0, out_height=one.height, out_width=one.width,
                                          out_channels=one.in_channels),)
        every.append(layers)
    return every


def with_scale(values, scale):
    """Quantised values (1, H, W, C), and their row's scale (1, H, 1, 1) as one more channel."""
    return np.concatenate([values, np.broadcast_to(scale, (*values.shape[:3], 1))], axis=-1)


def without_work(steps: np.ndarray) -> np.ndarray:
    """The same steps with nothing to do."""
    idle = steps.copy()
    idle["chunks"] = 0
    return idle


class Steps:
    """The steps for one input size on their own arena, in the precision of the weights; x (1, H, W, C)."""

    def __init__(self, weights: Weights | QuantizedWeights, x: np.ndarray, threads: int = 1, fused: bool = True):
        """fused: a depthwise step is fused with its producer, as usual; otherwise each layer is a step of its own."""
        self.weights, self.x = weights, x
        self.engine = Engine(weights, threads)
        network = weights.architecture
        keep = [] if fused else [layer.name for layer in network.layers(*x.shape[1:3])]
        plan = make_plan(network, self.engine.packed, *x.shape[1:3], threads, frozenset(keep))
        self.buffers = Buffers(plan)
        self.job = workers.Job()
        self.convs = {conv.name: conv for conv in weights.architecture.convs}
        self.steps = [self._describe(layers, row) for layers, row in zip(_all_layers(plan), plan.steps)]
        self.idle = self._buffers(without_work(plan.steps))
        self.whole = self.runner(plan.steps)
        self.calls = [self.repeated(i, 1) for i in range(len(self.steps))]

    @property
    def precision(self) -> str:
        return "int8" if isinstance(self.weights, QuantizedWeights) else "float32"

    def tolerance(self, length: int) -> int:
        """The `length` for `verify`: integers have no rounding errors."""
        return length if self.precision == "float32" else 0

    def check_logits(self, what: str, expected) -> None:
        """Verify the logits after the last step against the plain network's."""
        verify(what, self.logits(), expected, self.tolerance(LOGITS))

    @functools.cached_property
    def network(self) -> FoldedNetwork | QuantizedNetwork:
        """The plain network."""
        if isinstance(self.weights, QuantizedWeights):
            return QuantizedNetwork(self.weights)
        return FoldedNetwork(self.weights.architecture, self.weights.parameters)

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
        conv, item = self.convs.get(layers[-1].name), self.engine.packed.layout.item
        reads_floats = row["op"] in (STEM, QUANTIZE) or row["floats"]
        writes_floats = row["op"] in (STEM, POOL) or row["op"] == POINTWISE and not row["relu6"]
        items = FLOAT if reads_floats else item, FLOAT if writes_floats else item
        return Step(layers, row, bool(conv and conv.relu6), bool(row["has_residual"]), items,
                    sum(map(self._constants, layers)))

    def _constants(self, layer: LayerShape) -> int:
        """Bytes of a layer's weights, scales and biases."""
        if isinstance(self.weights, QuantizedWeights):
            made, item = self.weights.float_layers | self.weights.layers, self.engine.packed.layout.item
            arrays = vars(made[layer.name]).values() if layer.name in made else ()
            return sum(array.size * (item if array.dtype == np.int8 else FLOAT) for array in arrays)
        conv = self.convs.get(layer.name)
        return FLOAT * (math.prod(conv.weight_shape) + conv.out_channels if conv else layer.params)

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
        """Run step i, after those before it, and compare it with NumPy; returns the largest difference, 0 for int8."""
        step = self.steps[i]
        x = self._input(i)
        residual = self._read(step, "residual") if step.residual else None
        for layer in step.layers:
            x = self._expected(layer, x)
        self.calls[i]()
        expected = x if residual is None else x + residual
        return verify(f"step {i}, {step.name}", self._output(step), expected, self.tolerance(self._sum_length(step)))

    def _input(self, i: int) -> np.ndarray:
        """What the plain network's layer reads: floats that the step before has quantised, as they were before it."""
        step = self.steps[i]
        if step.layers[0].op == "stem":
            return self.x
        return self._read(self.steps[i - 1] if step.row["has_scale"] else step, "x")

    def _output(self, step: Step) -> np.ndarray:
        """What a step has written; after quantised values, their row's scale."""
        out, first = self._read(step, "out"), step.layers[0]
        if step.op != "quantize":
            return out
        start = step.row["scale"]
        scale = self.buffers.arena[start : start + FLOAT * first.height].view(np.float32)
        return with_scale(out.astype(np.float32) - ZERO, scale.reshape(1, -1, 1, 1))

    def _read(self, step: Step, what: str) -> np.ndarray:
        """A copy of the activation that a step reads or writes: (1, rows, columns, channels), float32 or uint8."""
        first, last = step.layers[0], step.layers[-1]
        height, width, channels = ((first.height, first.width, first.in_channels) if what == "x" else
                                   (last.out_height, last.out_width, last.out_channels))
        start = step.row[what] + (step.row["out"] if what == "residual" else 0)
        item = {"x": step.items[0], "out": step.items[1], "residual": FLOAT}[what]
        out = np.empty((1, height, width, channels), np.float32 if item == FLOAT else np.uint8)
        read_blocks(blocks(self.buffers.arena[start:], self.engine.packed.layout, *out.shape[1:], item), out[0])
        return out

    def _expected(self, one: LayerShape, x):
        """The plain network's output of a layer for the input x, without the shortcut."""
        if one.op == "quantize":
            return with_scale(*quantized_rows(x))
        if one.op == "pool":
            _, pooled = next(self.network.head_layers(x))
            return pooled[:, None, None]
        if one.op != "classifier":
            return self.network.conv(x, self.convs[one.name])
        if isinstance(self.weights, QuantizedWeights):
            return from_float32(x, self.weights.layers["classifier"])
        return linear(x, *(self.weights.parameters[f"classifier.{leaf}"] for leaf in ("weight", "bias")))

    def _sum_length(self, step: Step) -> int:
        """The products per sum of a step, added up over its layers."""
        if step.op == "pool":
            return step.layers[0].height * step.layers[0].width
        return sum((one.kernel**2 or 1) * (1 if one.op == "depthwise" else one.in_channels) + 2 for one in step.layers)
