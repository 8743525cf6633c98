"""The convolutions of one network for batches of one size: their feature maps, and the fields of their steps."""
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..kernels.layout import CACHE_LINE, FLOAT, Layout
from ..kernels.memory import aligned, blocks, read_blocks, write_blocks
from ..network.architecture import Architecture, Conv, same_padding
from .computable import check_network
from .training_steps import AS_IT_IS, EXACT_ROWS, LINEAR, NORM_ROWS, RELU6, Fields

# Bytes of a strip's data, which stay in the second-level cache. The weights are read again for each strip: it should be
# long. It is the same on every processor, as strips decide the order of sums. On a Zen 4 with 1 MiB, a step of lite0 is
# 5 % slower with 192 KiB, and 2 % with 768 KiB.
STRIP_SIZE = 512 << 10
LEAST_STRIP = 24  # pixels: three tiles of 8
MOST_PARTS, LEAST_PARTS = 8, 2  # of the pictures, whose gradients of a layer's weights are added up side by side
PARTS_SIZE = 3 << 19  # bytes of all these gradients, from which there are fewer parts


@dataclass(frozen=True)
class Maps:
    """The feature maps of all pictures, or their gradient, in blocks of channels."""

    layout: Layout
    pictures: int
    height: int
    width: int
    channels: int

    @property
    def vectors(self) -> int:
        return self.layout.vectors(self.channels)

    @property
    def plane(self) -> int:
        """Bytes from one block of channels to the next."""
        return self.layout.plane_size(self.height * self.width)

    @property
    def picture(self) -> int:
        """Bytes from one picture to the next."""
        return self.vectors * self.plane

    def memory(self) -> np.ndarray:
        return aligned(self.pictures * self.picture)

    def read(self, memory: np.ndarray) -> np.ndarray:
        """Their values, (N, H, W, C)."""
        out = np.empty((self.pictures, self.height, self.width, self.channels), np.float32)
        for n, values in enumerate(out):
            read_blocks(self._blocks(memory, n), values)
        return out

    def write(self, memory: np.ndarray, x: np.ndarray) -> None:
        """Set their values from (N, H, W, C)."""
        for n, values in enumerate(x):
            write_blocks(self._blocks(memory, n), values)

    def _blocks(self, memory, n):
        return blocks(memory[n * self.picture :], self.layout, self.height, self.width, self.channels)


@dataclass
class Layer:
    """A convolution with its batch norm."""

    conv: Conv
    height: int  # of the input
    width: int
    maps: Maps  # of z, what the convolution gives
    z: np.ndarray
    norm: np.ndarray  # (NORM_ROWS, channels in whole vectors), float32, see `training_steps.py`
    exact: np.ndarray  # (EXACT_ROWS, the same), float64
    factors: np.ndarray  # (N,), for each picture, of the output before a shortcut is added
    source: "Layer | None"  # the layer before
    y: np.ndarray | None = None  # the input, if it is kept: what the layer before gives, with its block's shortcut
    shortcut: np.ndarray | None = None  # that shortcut, if there is one
    block_end: "Layer | None" = None  # whose output this layer's input is added to, if there is one
    has_shortcut: bool = False  # if such an input is added to this layer's output
    by_batch: bool = True  # if its batch norm takes the batch's statistics, not the running ones
    dy: np.ndarray | None = field(default=None, repr=False)  # gradient after batch norm, backward only

    @property
    def kind(self) -> int:
        """How the input is made of what the layer before gives."""
        return AS_IT_IS if self.source is None else RELU6 if self.source.conv.relu6 else LINEAR

    def weight_size(self) -> int:
        """Bytes of the weights' gradient, as its kernel writes it."""
        return self.maps.vectors * self.maps.layout.vector * math.prod(self.conv.weight_shape[1:])

    @property
    def parts(self) -> int:
        """Of the pictures, see `training_steps.py`; a power of two, which 2, 4 or 8 threads share evenly."""
        size = math.prod(self.conv.weight_shape) * FLOAT
        fitting = max(LEAST_PARTS, min(MOST_PARTS, PARTS_SIZE // size))
        return min(1 << fitting.bit_length() - 1, self.maps.pictures)

    @functools.cached_property
    def strips(self) -> tuple[int, list[int], list[int]]:
        """(their number, pixels of each in the output, and in the input).

        They are cut so that the data of one stays in the cache, in at most STRIP_SIZE bytes with the widest vectors.
        With any others they are the same.
        """
        conv, maps = self.conv, self.maps
        if conv.op == "pointwise":
            most = max(LEAST_STRIP, STRIP_SIZE // (FLOAT * (conv.in_channels + conv.out_channels)))
            count = -(-maps.height * maps.width // most)
            pixels = _sizes(maps.height * maps.width, count)
            return count, pixels, pixels
        row = maps.width * maps.channels * FLOAT  # of the stem
        if conv.op == "depthwise":  # rows of the input, and as many of the gradient
            row = 2 * conv.stride * (self.width + conv.kernel - 1) * CACHE_LINE
        count = -(-maps.height // max(1, STRIP_SIZE // row))
        rows = _sizes(maps.height, count)
        inside = [n * conv.stride for n in rows[:-1]]
        inside.append(self.height - sum(inside))
        return count, [n * maps.width for n in rows], [n * self.width for n in inside]

    @functools.cached_property
    def scratch(self) -> tuple[int, int]:
        """(bytes of a strip's input in scratch memory, the same and its dz)."""
        conv, maps, vector = self.conv, self.maps, self.maps.layout.vector
        _, outside, inside = self.strips
        if conv.op == "stem":
            rows, columns = ((n - 1) * conv.stride + conv.kernel for n in (max(outside) // maps.width, maps.width))
            x = -(-rows * columns * conv.in_channels * FLOAT // CACHE_LINE) * CACHE_LINE
            return x, x + max(outside) * vector * maps.vectors
        if conv.op == "pointwise":
            plane = (max(outside) + 1) * vector
            x = plane * maps.layout.vectors(conv.in_channels)
            return x, x + plane * maps.vectors
        row = (self.width + conv.kernel - 1) * vector
        x = ((max(outside) // maps.width - 1) * conv.stride + conv.kernel) * row
        return x, x + (max(inside) // self.width + conv.kernel - 1) * row

    def fields(self) -> Fields:
        """The fields of its steps that are the same forward and backward."""
        conv, maps, source = self.conv, self.maps, self.source
        top, left = (same_padding(size, conv.kernel, conv.stride)[0] for size in (self.height, self.width))
        fields = {"pictures": maps.pictures, "strips": self.strips[0], "x_kind": self.kind,
                  "z": self.z, "z_picture": maps.picture, "z_plane": maps.plane, "factors": self.factors,
                  "height": self.height, "width": self.width, "out_height": maps.height, "out_width": maps.width,
                  "in_channels": conv.in_channels, "out_channels": conv.out_channels, "kernel": conv.kernel,
                  "stride": conv.stride, "top": top, "left": left, **panels(maps.layout, conv.out_channels),
                  "y": self.y, "residual": self.shortcut, **self.norm_fields()}
        return fields | (source.as_source() if source else {})

    def norm_fields(self) -> Fields:
        """The fields that tell of its batch norm."""
        return {"norm": self.norm, "norm_size": self.norm[0].nbytes, "exact": self.exact,
                "exact_size": self.exact[0].nbytes, "z_vectors": self.maps.vectors}

    def as_source(self) -> Fields:
        """The fields of the next layer's steps that tell of this one."""
        maps = self.maps
        return {"x": self.z, "x_picture": maps.picture, "x_plane": maps.plane, "x_vectors": maps.vectors,
                "x_norm": self.norm, "x_norm_size": self.norm[0].nbytes, "x_factors": self.factors,
                **panels(maps.layout, maps.channels, "x_")}


def panels(layout: Layout, channels: int, of: str = "") -> Fields:
    """How packed weights with so many output channels are cut."""
    wide, total = layout.panels(layout.vectors(channels))
    return {f"{of}panels": total, f"{of}wide_panels": wide, f"{of}half": int(layout.is_half(channels))}


def weight_fields(layout: Layout, op: str, weight: np.ndarray) -> Fields:
    """The fields of a step that packs weights of a convolution, (M, C, K, K) or a view of that shape, or adds them up.
    """
    m, c, kernel, _ = weight.shape
    lane, channel, _, tap = weight.strides
    fields = {"plain": weight, "plain_lane": lane, "plain_channel": channel, "plain_tap": tap, "out_channels": m,
              "in_channels": c, "kernel": kernel, "panel_rows": c * kernel**2, "z_vectors": layout.vectors(m)}
    if op == "depthwise":
        return fields | {"chunks": layout.vectors(m), "by_block": 1}
    cut = panels(layout, m)
    return fields | {"chunks": cut["panels"], **cut}


def _sizes(total: int, count: int) -> list[int]:
    """`count` parts, as `cut_at` in `training_chunks.py` cuts them."""
    return [(i + 1) * total // count - i * total // count for i in range(count)]


def make_layers(network: Architecture, layout: Layout, pictures: int, height: int, width: int) -> Iterator[Layer]:
    """All convolutions in order, with memory for their outputs.

    Raises ArgumentError for a network that compiled kernels can't compute.
    """
    check_network(network)
    source = shortcut = None
    for convs, skip in ([(network.stem,), False], *((block.convs, block.skip) for block in network.blocks),
                        [(network.head,), False]):
        made = []
        for conv in convs:
            maps = Maps(layout, pictures, *conv.output_size(height, width), conv.out_channels)
            norm = aligned(NORM_ROWS * maps.vectors * layout.vector).view(np.float32).reshape(NORM_ROWS, -1)
            exact = np.zeros((EXACT_ROWS, norm.shape[1]))
            layer = Layer(conv, height, width, maps, maps.memory(), norm, exact, np.ones(pictures, np.float32), source)
            if layer.kind == LINEAR:
                layer.y, layer.shortcut = source.maps.memory(), shortcut
                shortcut = None
            made.append(layer)
            source, height, width = layer, maps.height, maps.width
        if skip:
            made[0].block_end, made[-1].has_shortcut, shortcut = made[-1], True, made[0].y
        yield from made
