"""Plan what to run, on which buffers, in which chunks: everything that can be decided before the first pixel.

A plan is a table of steps for one picture of (height, width) on a number of threads. The compiled driver (`run.py`)
walks it. A depthwise convolution is fused with its producer (`source`): its input rows are computed as they are needed,
one panel of channels at a time, into scratch memory that stays in the cache, and are padded there. Each step is cut
into chunks that threads claim; no bit of the result depends on the cut. Activations share one arena, whose buffers are
reused as soon as their last reader is done; requested outputs (`keep`) stay to the end. Nothing is computed after the
last of them.
"""
from dataclasses import dataclass, replace

import numpy as np

from ..kernels.layout import AVERAGE, AVERAGE_AND_MAXIMUM, FLOAT, MAXIMUM
from ..kernels.memory import ALIGNMENT, SCRATCH
from ..kernels.packing import taps
from ..network.architecture import Architecture, LayerShape, same_padding
from .activation import Activation
from .arena import Buffer, place
from .pack import Packed

STEM, DEPTHWISE, POINTWISE, POOL, QUANTIZE = range(5)  # what a step does
FROM_PICTURE, EXPANDED, COPIED = range(3)  # a depthwise step's source: the stem, a pointwise layer, its input as it is
POOLS = {"avg": [AVERAGE], "max": [MAXIMUM], "avgmax": [AVERAGE_AND_MAXIMUM], "catavgmax": [AVERAGE, MAXIMUM]}  # steps

PIXELS_AT_ONCE = 256 << 10  # bytes of a pointwise step's input in one chunk, which each panel reads again
PIXELS_PER_PART = 24  # least pixels of a pointwise step's chunk with all panels: three tiles of 8
CHUNKS = 2  # least chunks per thread: if one thread is late, the others take its chunks instead of waiting for it

# One step. Offsets and distances are in bytes: x, scale and out from the arena's start, residual from out, weight and
# bias from the start of the packed weights.
STEP = np.dtype([(name, np.int64) for name in (
    "op", "chunks", "parts", "panels_per_chunk", "panels_to_next",  # parts are of pixels or output rows
    "x", "x_plane", "has_scale", "scale", "out", "out_plane", "has_residual", "residual", "weight", "bias", "relu6",
    "pixels", "in_channels", "vectors", "panels", "wide_panels", "half", "pool",
    "height", "width",  # of the input; of a pointwise step, the width is that of what has one scale
    # of a depthwise step only
    "source", "out_height", "out_width", "kernel", "stride", "top", "left",
    "floats", "depthwise_weight", "depthwise_size", "depthwise_bias", "scratch_row", "scratch_plane", "rows_at_once",
    # of the stem, alone or a depthwise step's source
    "picture_height", "picture_width", "picture_top", "picture_left", "rows", "columns",
)])  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """How to run one network, or its head, on one picture of one size."""

    steps: np.ndarray  # STEP, 1-D
    layers: tuple[tuple[LayerShape, ...], ...]  # of each step
    arena_size: int  # bytes
    scratch_size: int  # bytes for each thread
    outputs: dict[str, Activation]  # kept layer -> its output after the run
    features: Activation | None = None  # the input of a plan that does not start at the picture; written before the run


def panels_to_next(threads: int, parts: int, panels_per_chunk: int) -> int:
    """The distance to a thread's probable next panel, which it prefetches: other threads claim the chunks between.

    Chunks are claimed in order, all parts of a panel before the next panel, so `threads` chunks later is
    `threads // parts` panels later. A chunk of several panels goes on with the next one itself.
    """
    return max(1, threads // parts) if panels_per_chunk == 1 else 1


def parts_for(panel_count: int, threads: int, most: int) -> int:
    """The number of parts (of pixels or rows) into which to cut a step whose chunks are single panels.

    The least that gives CHUNKS chunks or more to each thread, and the same number to each; at most `most`.
    """
    parts = 1
    while threads > 1 and parts < most and (parts * panel_count < CHUNKS * threads or parts * panel_count % threads):
        parts += 1
    return parts


class _Planner:
    """Collects steps and the buffers they read and write; offsets are filled in at the end."""

    def __init__(self, network: Architecture, packed: Packed, threads: int, keep: frozenset[str]):
        self.network, self.packed, self.layout, self.threads = network, packed, packed.layout, threads
        self.keep = keep or frozenset([network.output])
        self.layers, self.steps, self.buffers, self.uses = [], [], [], []
        self.kept: dict[str, tuple[int, LayerShape, Buffer]] = {}  # with the step that completes it
        self.scratch_size = 0
        self.given: tuple | None = None

    def features(self, height: int, width: int, channels: int, item: int) -> Buffer:
        """Reserve memory for features that are written before the run: this plan does not compute them."""
        x = self.buffer(height * width, channels, item)
        self.given = x, height, width, channels
        return x

    def buffer(self, pixels: int, channels: int, item: int) -> Buffer:
        """Reserve memory for an activation with `item` bytes for each value, from the next step on."""
        plane, now = self.layout.plane_size(pixels, item), len(self.steps)
        size = self.layout.vectors(channels) * plane
        self.buffers.append(Buffer(-(-size // ALIGNMENT) * ALIGNMENT, plane, item, now, now))
        return self.buffers[-1]

    def add(self, layers, x: Buffer | None, residual: Buffer | None = None, out: Buffer | None = None,
            place: int = 0, item: int = FLOAT, **fields) -> Buffer:
        """Append a step that computes these layers; returns the buffer of its output.

        item: bytes of an output's value; out, place: for a step that writes only a part of a layer's output, the buffer
            and the offset in it, in bytes
        """
        last = layers[-1]
        out = out or self.buffer(last.out_height * last.out_width, last.out_channels, item)
        for used in (x, x and x.scale, residual, out):
            if used is not None:
                used.dies = len(self.steps)
        if last.name in self.keep:
            self.kept[last.name] = len(self.steps), last, out
        self.layers.append(tuple(layers))
        self.steps.append(fields)
        self.uses.append((x, residual, out, place))
        return out

    def quantized(self, x: Buffer, height: int, width: int, channels: int) -> Buffer:
        """An activation as a pointwise convolution reads it: floats become the layout's integers."""
        if x.item == self.layout.item:
            return x
        parts = min(height, CHUNKS * self.threads) if self.threads > 1 else 1
        out = self.buffer(height * width, channels, self.layout.item)
        out.scale = self.buffer(height, 1, FLOAT)
        for used in (x, out, out.scale):
            used.dies = len(self.steps)
        self.layers.append(())
        self.steps.append({"op": QUANTIZE, "parts": parts, "panels_per_chunk": 1, "chunks": parts, "height": height,
                           "width": width, "vectors": self.layout.vectors(channels)})
        self.uses.append((x, None, out, 0))
        return out

    def pointwise(self, layer, x: Buffer, relu6: bool, residual: Buffer | None = None) -> Buffer:
        x = self.quantized(x, layer.height, layer.width, layer.in_channels)
        pixels, count = layer.out_height * layer.out_width, self.layout.vectors(layer.out_channels)
        wide, total = self.layout.panels(count)
        # A chunk is a part of the pixels for all panels: its input is read from memory once, then from the cache. Parts
        # are as few as PIXELS_AT_ONCE allows, and on several threads a multiple of their number.
        parts = -(-pixels * layer.in_channels * self.layout.item // PIXELS_AT_ONCE)
        if self.threads > 1:
            parts = -(-max(parts, CHUNKS * self.threads) // self.threads) * self.threads
        per_chunk = total
        # Late layers have few pixels and many channels (7 x 7 x 1280): there the weights are larger than the input, and
        # a chunk is a single panel, so that each panel's weights are read once. A part has at least one longest tile.
        if pixels < parts * PIXELS_PER_PART:
            parts, per_chunk = parts_for(total, self.threads, max(1, pixels // self.layout.longest_tile)), 1
        weight, bias = self.packed.offsets[layer.name]
        # The classifier's packed weights are padded to whole vectors (`pack.py`), so it has no half vector.
        half = layer.name != "classifier" and self.layout.is_half(layer.out_channels)
        return self.add([layer], x, residual, item=self.layout.item if relu6 else FLOAT, op=POINTWISE, parts=parts,
                        panels_per_chunk=per_chunk,
                        panels_to_next=panels_to_next(self.threads, parts, per_chunk),
                        chunks=parts * -(-total // per_chunk), weight=weight, bias=bias, relu6=relu6,
                        pixels=pixels, width=pixels if x.scale is None else layer.width,
                        in_channels=layer.in_channels, vectors=count, panels=total, wide_panels=wide, half=half)

    def stem(self, layer: LayerShape) -> Buffer:
        return self.add([layer], None, op=STEM, **self._by_rows(layer), **self._source(layer))

    def depthwise(self, before: LayerShape | None, layer: LayerShape, x: Buffer | None) -> Buffer:
        """A depthwise layer, fused with its producer `before` (None: it copies its input from `x`).

        Scratch memory holds the input rows of `rows_at_once` output rows of one panel, (rows - 1) S + K of them with
        their padding, in at most SCRATCH bytes if that is enough for a single output row.
        """
        if before and x:
            x = self.quantized(x, before.height, before.width, before.in_channels)
        # The stem puts out floats; a pointwise layer with ReLU6, values of the layout.
        item = x.item if x and not before else FLOAT if before.op == "stem" else self.layout.item
        pixel, cut = self.layout.lanes * item, self._by_rows(layer)  # bytes of a vector in scratch memory
        top, left = (same_padding(size, layer.kernel, layer.stride)[0] for size in (layer.height, layer.width))
        columns = layer.width + sum(same_padding(layer.width, layer.kernel, layer.stride))
        together = max(self.layout.panel_sizes(cut["vectors"]))  # vectors of the widest panel
        most = SCRATCH // (together * columns * pixel)  # input rows that fit
        most = max(1, (most - layer.kernel) // layer.stride + 1)  # output rows that these suffice for
        rows = -(-layer.out_height // cut["parts"])  # output rows of the largest chunk
        rows = -(-rows // -(-rows // most))  # output rows at once: in as few rounds as possible, of equal size
        plane = self.layout.plane_size(((rows - 1) * layer.stride + layer.kernel) * columns, item)
        # A group of pixels may reach beyond the last one, see `kernels/depthwise_int8.py`.
        self.scratch_size = max(self.scratch_size, together * plane + (self.layout.group - 1) * pixel)
        weight, bias = self.packed.offsets[layer.name]
        return self.add([before, layer] if before else [layer], x, item=self.layout.item, op=DEPTHWISE,
                        height=layer.height, width=layer.width, out_height=layer.out_height, out_width=layer.out_width,
                        kernel=layer.kernel, top=top, left=left, stride=layer.stride, depthwise_weight=weight,
                        depthwise_size=taps(self.layout, item, layer.kernel, layer.stride) * self.layout.floats,
                        depthwise_bias=bias, floats=item == FLOAT, rows_at_once=rows, scratch_row=columns * pixel,
                        scratch_plane=plane, **cut,
                        **(self._source(before) if before else {"source": COPIED}))

    def _by_rows(self, layer: LayerShape) -> dict[str, int]:
        """The fields of a step whose chunks are single panels of some output rows.

        At least 4 rows, as two neighbouring chunks both compute the K - S input rows that they share.
        """
        count = self.layout.vectors(layer.out_channels)
        wide, total = self.layout.panels(count)
        parts = parts_for(total, self.threads, max(1, layer.out_height // 4))
        return {"vectors": count, "panels": total, "wide_panels": wide, "panels_per_chunk": 1, "parts": parts,
                "panels_to_next": panels_to_next(self.threads, parts, 1), "chunks": parts * total}

    def _source(self, layer: LayerShape) -> dict[str, int]:
        """The fields of a stem or an expansion, as a step of its own or a depthwise step's source."""
        weight, bias = self.packed.offsets[layer.name]
        fields = {"source": EXPANDED, "in_channels": layer.in_channels, "weight": weight, "bias": bias}
        if layer.op == "stem":
            top, left = (same_padding(size, layer.kernel, layer.stride)[0] for size in (layer.height, layer.width))
            fields |= {"source": FROM_PICTURE, "picture_height": layer.height, "picture_width": layer.width,
                       "picture_top": top, "picture_left": left, "rows": layer.out_height, "columns": layer.out_width}
        return fields

    def pool(self, layer, x: Buffer, how: str) -> Buffer:
        """One step, or for "catavgmax" two, whose outputs are concatenated."""
        out, count = None, self.layout.vectors(layer.in_channels)
        for i, pool in enumerate(POOLS[how]):
            out = self.add([layer], x, None, out, i * count * self.layout.floats, op=POOL, parts=1, panels_per_chunk=1,
                           chunks=1, pixels=layer.height * layer.width, vectors=count, pool=pool)
        return out

    def head(self, layers: dict[str, LayerShape], x: Buffer) -> None:
        """Pool and classifier, if the network has them."""
        if self.network.global_pool:
            x = self.pool(layers["global_pool"], x, self.network.global_pool)
        if self.network.num_classes:
            self.pointwise(layers["classifier"], x, False)

    def finish(self) -> Plan:
        """Drop the steps after the last kept layer, place the buffers in the arena and write the table."""
        count = 1 + max(step for step, _, _ in self.kept.values())
        for _, _, buffer in self.kept.values():
            buffer.dies = count  # after the last step: it is read when the run is over
        size = place([buffer for buffer in self.buffers if buffer.born < count])
        table = np.zeros(count, STEP)
        for row, step, (x, residual, out, shift) in zip(table, self.steps, self.uses):
            for name, value in step.items():
                row[name] = value
            row["out"], row["out_plane"] = out.offset + shift, out.plane
            if x is not None:
                row["x"], row["x_plane"] = x.offset, x.plane
                if x.scale is not None:
                    row["has_scale"], row["scale"] = 1, x.scale.offset
            if out.scale is not None:
                row["scale"] = out.scale.offset
            if residual is not None:
                row["has_residual"], row["residual"] = 1, residual.offset - out.offset
        outputs = {name: self._activation(out, layer.out_height, layer.out_width, layer.out_channels)
                   for name, (_, layer, out) in self.kept.items()}
        features = self._activation(*self.given) if self.given else None
        return Plan(table, tuple(self.layers[:count]), size, self.scratch_size, outputs, features)

    def _activation(self, buffer: Buffer, height: int, width: int, channels: int) -> Activation:
        return Activation(layout=self.layout, item=buffer.item, offset=buffer.offset, height=height, width=width,
                          channels=channels)


def make_plan(network: Architecture, packed: Packed, height: int, width: int, threads: int = 1,
              keep: frozenset[str] = frozenset()) -> Plan:
    """Plan one network for pictures (height, width, in_chans).

    keep: the layers whose outputs can be read afterwards, by the names of `network.layers`; the last one if empty. A
        depthwise convolution is fused with its producer unless that is one of them.
    """
    planner = _Planner(network, packed, threads, keep)
    layers = {layer.name: layer for layer in network.layers(height, width)}
    x, before = None, layers[network.stem.name]
    for block in network.blocks:
        shortcut = x if block.skip else None
        *expansion, depthwise, project = (layers[conv.name] for conv in block.convs)
        before = expansion[0] if expansion else before
        if before.name in planner.keep:
            x, before = planner.pointwise(before, x, True) if expansion else planner.stem(before), None
        x = planner.depthwise(before, depthwise, x)
        x = planner.pointwise(project, x, False, shortcut)  # linear, then the shortcut is added
    x = planner.pointwise(layers[network.head.name], x, True)
    planner.head(layers, x)
    return planner.finish()


def make_head_plan(network: Architecture, packed: Packed, height: int, width: int, threads: int = 1,
                   keep: frozenset[str] = frozenset()) -> Plan:
    """Plan the layers after the last feature map (height, width, channels): global pool and classifier."""
    planner = _Planner(network, packed, threads, keep)
    x = planner.features(height, width, network.head.out_channels, packed.layout.item)
    planner.head({layer.name: layer for layer in network.head_layers(height, width)}, x)
    return planner.finish()


def make_classifier_plan(network: Architecture, packed: Packed, height: int, width: int, threads: int = 1,
                         keep: frozenset[str] = frozenset()) -> Plan:
    """Plan the classifier alone for `height` pooled vectors, those of a batch: to it they are rows, of `width` 1."""
    planner = _Planner(network, packed, threads, keep)
    x = planner.features(height, width, network.head_hidden_size, FLOAT)
    classifier = network.head_layers(height, width)[-1]
    planner.pointwise(replace(classifier, height=height, width=width, out_height=height, out_width=width), x, False)
    return planner.finish()
