"""What to run, on which buffer, in which chunks: everything that can be decided before the first pixel.

A plan is a table of steps for one (batch, height, width). The compiled driver (`run.py`) walks it; each step is cut
into chunks that threads claim, so the table does not depend on the number of threads, and neither does a single bit of
the result. Activations lie in one arena whose buffers are reused as soon as their last reader is done.
"""
from dataclasses import dataclass

import numpy as np

from ..architecture import Architecture, same_padding
from ..kernels.layout import FLOAT, LANES, PANEL
from .pack import Packed, padded_channels

STEM, DEPTHWISE, POINTWISE, POOL = range(4)

ALIGNMENT = 64  # bytes: a cache line
PIXELS_PER_CHUNK = 96  # of a pointwise step: their inputs stay in the first-level cache for the early layers
ENOUGH_CHUNKS = 16  # a step with fewer pixel chunks is cut by output channels too

# One step. Offsets are in bytes: x (except the stem's, which reads the picture), out and residual in the arena, weight
# and bias in the packed weights, constants in the plan's constants.
STEP = np.dtype([(name, np.int64) for name in (
    "op", "chunks",
    "items", "items_per_chunk",  # output rows of all pictures, pixels, or pictures
    "panels", "panels_per_chunk",  # of 16 output channels; pointwise only
    "x", "out", "has_residual", "residual", "weight", "bias", "constants",
    "height", "width", "in_channels", "out_height", "out_width", "out_channels",
    "kernel", "stride", "top", "left",
)])  # fmt: skip

# The constants: (0, 6) and (-inf, inf) to clamp by, then the share of one pixel in the average.
RELU6, LINEAR, SHARE = 0, 2 * FLOAT, 4 * FLOAT


@dataclass(frozen=True)
class Plan:
    """How to run one network on inputs of one shape."""

    batch: int
    height: int
    width: int
    steps: np.ndarray  # STEP, 1-D
    names: tuple[str, ...]  # of the steps' layers
    constants: np.ndarray  # float32
    arena_size: int  # bytes
    logits: int  # offset in the arena of (batch, padded classes) float32
    logits_width: int


@dataclass
class _Buffer:
    """One activation: its size in bytes, the steps that write it and read it last, and where it lies."""

    size: int
    born: int
    dies: int
    offset: int = -1


def place(buffers: list[_Buffer]) -> int:
    """Give every buffer an offset such that no two that live at the same time overlap; return the arena's size.

    Largest first, each at the lowest place that is free for its lifetime.
    """
    placed: list[_Buffer] = []
    for buffer in sorted(buffers, key=lambda b: -b.size):
        offset = 0
        for other in sorted(placed, key=lambda b: b.offset):
            if other.born <= buffer.dies and buffer.born <= other.dies and other.offset < offset + buffer.size:
                offset = max(offset, other.offset + other.size)
        buffer.offset = offset
        placed.append(buffer)
    return max(buffer.offset + buffer.size for buffer in buffers)


class _Planner:
    """Collects steps and the buffers they read and write; offsets are filled in at the end."""

    def __init__(self, batch: int, packed: Packed):
        self.batch, self.packed = batch, packed
        self.names, self.steps, self.buffers, self.uses = [], [], [], []

    def add(self, layer, op: int, constants: int, x: _Buffer | None, residual: _Buffer | None = None) -> _Buffer:
        """Append one layer as a step; returns the buffer of its output."""
        now = len(self.steps)
        channels = padded_channels(layer.out_channels)
        size = self.batch * layer.out_height * layer.out_width * channels * FLOAT
        out = _Buffer(-(-size // ALIGNMENT) * ALIGNMENT, now, now)
        for read in (x, residual):
            if read is not None:
                read.dies = now
        weight, bias = self.packed.offsets.get(layer.name, (0, 0))
        self.steps.append({
            "op": op, "has_residual": residual is not None, "weight": weight, "bias": bias, "constants": constants,
            "height": layer.height, "width": layer.width, "in_channels": layer.in_channels,
            "out_height": layer.out_height, "out_width": layer.out_width, "out_channels": channels,
            "kernel": layer.kernel, "stride": layer.stride,
            "top": same_padding(layer.height, layer.kernel, layer.stride)[0],
            "left": same_padding(layer.width, layer.kernel, layer.stride)[0],
            **chunks(op, self.batch, layer, channels),
        })  # fmt: skip
        self.names.append(layer.name)
        self.buffers.append(out)
        self.uses.append((x, residual, out))
        return out

    def table(self) -> tuple[np.ndarray, int]:
        """The steps as a structured array, and the arena's size in bytes."""
        size = place(self.buffers)
        table = np.zeros(len(self.steps), STEP)
        for row, step, (x, residual, out) in zip(table, self.steps, self.uses):
            for name, value in step.items():
                row[name] = value
            row["x"], row["residual"] = (b.offset if b is not None else 0 for b in (x, residual))
            row["out"] = out.offset
        return table, size


def chunks(op: int, batch: int, layer, channels: int) -> dict[str, int]:
    """Cut one step: stem and depthwise by rows, pointwise by pixels and, where those are few, by panels too."""
    if op == POINTWISE:
        items, per_chunk = batch * layer.out_height * layer.out_width, PIXELS_PER_CHUNK
    elif op == POOL:
        items, per_chunk = batch, 1
    else:
        items, per_chunk = batch * layer.out_height, max(1, batch * layer.out_height // (2 * ENOUGH_CHUNKS))
    panels, parts = 1, -(-items // per_chunk)
    panels_per_chunk = 1
    if op == POINTWISE:
        panels = -(-channels // (PANEL * LANES))
        panels_per_chunk = max(1, panels * min(parts, ENOUGH_CHUNKS) // ENOUGH_CHUNKS)
    return {"items": items, "items_per_chunk": per_chunk, "panels": panels, "panels_per_chunk": panels_per_chunk,
            "chunks": parts * -(-panels // panels_per_chunk)}


def make_plan(network: Architecture, packed: Packed, batch: int, height: int, width: int) -> Plan:
    """Plan one network for inputs (batch, height, width, in_chans)."""
    planner = _Planner(batch, packed)
    *convs, pool, classifier = network.layers(height, width)
    layers = iter(convs)
    x = planner.add(next(layers), STEM, RELU6, None)
    for block in network.blocks:
        shortcut = x if block.skip else None
        for conv in block.convs:
            op = DEPTHWISE if conv.op == "depthwise" else POINTWISE
            # Only a block's last convolution is linear; it takes the shortcut along.
            clamp, residual = (RELU6, None) if conv.relu6 else (LINEAR, shortcut)
            x = planner.add(next(layers), op, clamp, x, residual)
    head = next(layers)
    x = planner.add(head, POINTWISE, RELU6, x)
    x = planner.add(pool, POOL, SHARE, x)
    logits = planner.add(classifier, POINTWISE, LINEAR, x)
    steps, size = planner.table()
    share = 1.0 / (head.out_height * head.out_width)
    constants = np.array([0.0, 6.0, -np.inf, np.inf, share], np.float32)
    return Plan(batch, height, width, steps, tuple(planner.names), constants, size, logits.offset,
                padded_channels(network.num_classes))
