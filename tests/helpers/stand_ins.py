"""Stand-ins for the kernels below `run_chunk`: they note what each call would read and write; no address is real.

Scratch memory and outputs are shadows. A vector of scratch memory holds a number that says which vector of the layer
before it is, or that it is a zero of the padding; the outputs count how often each is written.
"""
import dataclasses
import types

import naive
import numpy as np
import pytest
from layouts import LANES, UNROLL, VECTOR
from planning import name_of

from npefficient.engine import chunks
from npefficient.engine import plan as plan_module
from npefficient.kernels.formats import Kernels
from npefficient.kernels.layout import FLOAT32

WEIGHTS, ARENA, PICTURE, SCRATCH = (i << 40 for i in range(1, 5))  # bases too far apart to be mistaken
NOTHING, ZERO = -2, -1  # what a vector of scratch memory holds, beside the vectors of the layer before
def check_chunks(plan, packed, **mistakes):
    """Fail unless the chunks of every step write each of its outputs once, and read what belongs to it.

    mistakes: kernel -> a function from its stand-in to another one, which has to make this fail
    """
    for i in range(len(plan.steps)):
        calls = Calls(plan, i, packed)
        names = {field.name for field in dataclasses.fields(Kernels)} - {"first_depthwise"}
        kernels = {name: getattr(calls, name) for name in names}
        for name, mistake in mistakes.items():
            kernels[name] = mistake(kernels[name])
        kernels["first_depthwise"] = kernels["depthwise"]  # the same one, for floats
        with pytest.MonkeyPatch.context() as patch:
            for name in ("routine", "arithmetic"):
                patch.setattr(chunks, name, lambda function: function)
            patch.setattr(chunks, "kernels_for", lambda layout: Kernels(**kernels))  # noqa: B023 (called at once)
            calls.check(chunks.make_run_chunk.__wrapped__(FLOAT32))


class Calls:
    """One step under its stand-ins."""

    def __init__(self, plan, i, packed):
        self.name, self.layers, self.offsets = name_of(plan, i), plan.layers[i], packed.offsets
        self.step = s = types.SimpleNamespace(**{field: int(plan.steps[i][field]) for field in plan.steps.dtype.names})
        self.last, self.source = self.layers[-1], self.layers[0]
        channels = self.last.out_channels
        self.blocks = -(-channels // LANES)
        if self.last.op == "classifier":
            channels = self.blocks * LANES
        across = {"pool": (), "depthwise": (self.last.out_height,), "stem": (self.last.out_height,)}
        across = across.get(self.last.op, (self.last.out_height * self.last.out_width,))
        self.written = np.zeros((self.blocks, *across), int)
        self.widths = FLOAT32.panel_widths(channels)
        self.scratch = np.full(plan.scratch_size // VECTOR, NOTHING)
        if s.op == plan_module.DEPTHWISE:
            h, w, k, stride = self.last.height, self.last.width, self.last.kernel, self.last.stride
            pad = naive.border(h, k, stride), naive.border(w, k, stride)
            self.padded = np.pad(np.arange(h * w).reshape(h, w), pad, constant_values=ZERO)

    def sure(self, fact, what):
        assert fact, f"{self.name}: {what}"

    def check(self, run_chunk):
        for chunk in range(self.step.chunks):
            self.scratch[:] = NOTHING  # what other threads and steps have left there
            run_chunk(self.step, chunk, WEIGHTS, ARENA, PICTURE, SCRATCH)
        wrong = self.written[self.written != 1]
        self.sure(not len(wrong), f"an output is written {wrong.max(initial=0)} times")

    # --- what a call has to be like ---

    def panel(self, weight, bias, vectors, half, layer, taps):
        """The first vector of a panel, which lies in the packed weights as it is read."""
        row = layer.in_channels * taps * VECTOR
        start, bias_start = self.offsets[layer.name]
        first, rest = divmod(weight - WEIGHTS - start, row)
        self.sure(rest == 0 and bias == WEIGHTS + bias_start + first * VECTOR, "a bias of other channels")
        width = vectors * LANES - half * LANES // 2
        widths = dict(zip(np.cumsum([0, *self.widths[:-1]]).tolist(), self.widths))
        self.sure(widths.get(first * LANES) == width, f"{width} channels from {first * LANES} on are no panel")
        return first

    def read(self, x):
        """The first pixel that lies at an address, of the arena or of a plane there."""
        pixel, rest = divmod(x - ARENA - self.step.x, VECTOR)
        self.sure(rest == 0 and pixel >= 0, "reads beside a pixel")
        return pixel

    def output(self, first, vectors, at, count, out, where):
        """Note `count` places from `at` on of the vectors from `first` on, which lie `where` bytes into a plane."""
        self.sure(out == ARENA + self.step.out + first * self.step.out_plane + where, "writes to another place")
        self.sure(at >= 0 and at + count <= self.written.shape[1], "writes outside")
        self.written[first : first + vectors, at : at + count] += 1

    def vectors_at(self, address, count):
        """The vectors of scratch memory from an address on."""
        start, rest = divmod(address - SCRATCH, VECTOR)
        inside = count >= 0 and start >= 0 and start + count <= len(self.scratch)
        self.sure(rest == 0 and inside, "leaves scratch memory")
        return slice(start, start + count)

    def fill(self, out, out_plane, first, vectors, row):
        """Note a row of the layer before, in scratch memory."""
        s, layer = self.step, self.last
        self.sure(0 <= row < layer.height and out_plane == s.scratch_plane, "a row that is not there")
        for v in range(vectors):
            at = self.vectors_at(out + v * out_plane, layer.width)
            self.scratch[at] = ((first + v) * layer.height + row) * layer.width + np.arange(layer.width)

    # --- the kernels ---

    def pointwise(self, x, x_plane, has_scale, scale, weight, next_weight, bias, relu6, has_residual, residual, out,
                  out_plane, steps, pixels, vectors, half, calls_before):
        s, layer = self.step, self.source
        self.sure(next_weight > weight and calls_before >= 0, "fetches what is behind it")
        first, pixel = self.panel(weight, bias, vectors, half, layer, 1), self.read(x)
        self.sure(steps * UNROLL == layer.in_channels and x_plane == s.x_plane, "other input channels")
        self.sure(pixel + pixels <= layer.height * layer.width, "reads pixels that are not there")
        if layer is self.last:
            self.sure((relu6, has_residual, out_plane) == (s.relu6, s.has_residual, s.out_plane), "another layer's way")
            self.sure(residual == out + s.residual or not has_residual, "adds another pixel")
            self.output(first, vectors, pixel, pixels, out, pixel * VECTOR)
        else:
            row, rest = divmod(pixel, self.last.width)
            self.sure(rest == 0 and pixels == self.last.width, "not a row")
            self.sure((relu6, has_residual) == (1, 0), "not an expansion")
            self.fill(out, out_plane, first, vectors, row)

    def stem_row(self, x, height, width, channels, weight, bias, out, out_plane, q, columns, top, left, vectors):
        s, layer = self.step, self.source
        first = self.panel(weight, bias, vectors, 0, layer, layer.kernel**2)
        around = [naive.border(size, layer.kernel, layer.stride)[0] for size in (layer.height, layer.width)]
        self.sure([x, height, width, channels, columns, top, left] ==
                  [PICTURE, layer.height, layer.width, layer.in_channels, layer.out_width, *around], "another picture")
        if layer is self.last:
            self.sure(out_plane == s.out_plane, "another layer's way")
            self.output(first, vectors, q, 1, out, q * columns * VECTOR)
        else:
            self.fill(out, out_plane, first, vectors, q)

    def depthwise(self, x, x_row, weight, bias, out, rows, columns, kernel, stride):
        s, layer = self.step, self.last
        start, bias_start = self.offsets[layer.name]
        block, rest = divmod(weight - WEIGHTS - start, layer.kernel**2 * VECTOR)
        self.sure(rest == 0 and 0 <= block < self.blocks, "weights of no channel")
        self.sure(bias == WEIGHTS + bias_start + block * VECTOR, "a bias of other channels")
        self.sure((columns, kernel, stride) == (layer.out_width, layer.kernel, layer.stride), "another layer's way")
        row = (out - ARENA - s.out - block * s.out_plane) // (columns * VECTOR)
        self.output(block, 1, row, rows, out, row * columns * VECTOR)
        expected = self.padded[row * stride : (row + rows - 1) * stride + kernel, : (columns - 1) * stride + kernel]
        expected = np.where(expected == ZERO, ZERO, expected + block * layer.height * layer.width)
        got = [self.scratch[self.vectors_at(x + i * x_row, expected.shape[1])] for i in range(len(expected))]
        self.sure((got == expected).all(), f"row {row} of {rows} meets something else in scratch memory")

    def pool(self, how, x, x_plane, pixels, out, out_plane, vectors):
        s, layer = self.step, self.last
        self.sure(how == 0, "another pool")
        self.sure((self.read(x), x_plane, pixels) == (0, s.x_plane, layer.height * layer.width), "other pixels")
        self.sure((out, out_plane, vectors) == (ARENA + s.out, s.out_plane, self.blocks), "writes to another place")
        self.written += 1

    def quantize(self, *arguments):
        self.sure(False, "floats stay floats")

    def zero(self, out, count):
        self.scratch[self.vectors_at(out, count)] = ZERO

    def zero_columns(self, out, row, rows, count):
        for i in range(rows):
            self.zero(out + i * row, count)

    def copy(self, x, out, count):
        to = self.vectors_at(out, count)
        if x >= SCRATCH:
            self.sure(out <= x, "copies over what it has still to copy")
            self.scratch[to] = self.scratch[self.vectors_at(x, count)].copy()
            return
        layer = self.last
        self.sure(layer is self.source, "copies what it should compute")
        block, at = divmod(x - ARENA - self.step.x, self.step.x_plane)
        row, rest = divmod(at, layer.width * VECTOR)
        self.sure(rest == 0 and count == layer.width and 0 <= block < self.blocks, "not a row")
        self.fill(out, self.step.scratch_plane, block, 1, row)
