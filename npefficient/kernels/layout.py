"""How values lie in memory, as a value: what kernels are traced for, and what packing and planning go by.

An activation (C, H, W) lies in blocks of as many channels as a vector has lanes:

    [C / lanes][H * W][lanes]    one plane for each block, and room for one vector between two planes

so that the pixels of a tile are at constant distances from one address, and a depthwise convolution walks along
neighbouring vectors. Every channel count of the network is a multiple of 8. Where a vector has 16 lanes, the last block
may be half full: its upper lanes are zero, and the kernels compute half vectors there (`is_half`).

Nothing here needs Numba. `memory.py` makes such arrays, `packing.py` lays out weights.
"""
from dataclasses import dataclass

from .processor import vector_unit

CACHE_LINE = 64  # bytes
AVERAGE, MAXIMUM, AVERAGE_AND_MAXIMUM = range(3)  # what a global pool does: timm's "avg", "max" and "avgmax"


def tile_pixels(vectors: int, registers: int, inputs_kept: int, most: int) -> int:
    """Pixels of a tile that is `vectors` vectors wide: accumulators, weights and inputs fit the registers.

    Beside its accumulators a tile holds one register for each vector of weights, and one input: of all its pixels
    together, or of each pixel where `inputs_kept` is 1. Compiled code calls this as well: integers only.
    """
    return min(most, (registers - vectors - 1 + inputs_kept) // (vectors + inputs_kept))


@dataclass(frozen=True)
class Layout:
    """Activations and packed weights for vectors of one kind. Two that are equal share their compiled kernels."""

    lanes: int  # values in a vector
    registers: int  # vectors that the processor holds
    item: int = 4  # bytes of a value
    panel: int = 3  # vectors of output channels side by side in the packed weights, see `panels`
    longest_tile: int = 8  # pixels of a tile at the most: more need not fit the registers, and gain nothing

    @property
    def vector(self) -> int:
        """Bytes of a vector."""
        return self.lanes * self.item

    @property
    def unroll(self) -> int:
        """Input channels that a pointwise kernel takes at a time: every channel count is a multiple of it."""
        return min(4, self.lanes)

    @property
    def inputs_kept(self) -> int:
        """1 where a vector holds just the `unroll` channels that are taken together: then LLVM keeps those of every
        pixel in a register, and multiplies by their lanes; else 0."""
        return int(self.lanes == self.unroll)

    def vectors(self, channels: int) -> int:
        """Blocks that so many channels take."""
        return -(-channels // self.lanes)

    def padded(self, channels: int) -> int:
        """The next multiple of the lanes."""
        return self.vectors(channels) * self.lanes

    def is_half(self, channels: int) -> bool:
        """True where only the lower half of the last of several blocks is in use."""
        return self.lanes > 8 and channels > self.lanes and 0 < channels % self.lanes <= self.lanes // 2

    def plane_size(self, pixels: int) -> int:
        """Bytes from one block of channels to the next: pixels of powers of two would meet in the same cache lines."""
        return (pixels + (pixels > 1)) * self.vector

    def panels(self, count: int) -> tuple[int, int]:
        """`count` vectors of output channels as (wide panels, panels in all): 3 vectors each, then 2 each; 1 stays 1.

        Three vectors use the registers best. A single vector beside other panels would cost as much as two.
        """
        wide, rest = divmod(count, self.panel)
        if rest == 1 and wide:
            wide, rest = wide - 1, self.panel + 1
        return wide, wide + -(-rest // 2)

    def panel_sizes(self, count: int) -> list[int]:
        """Vectors of each of these panels."""
        wide, total = self.panels(count)
        sizes = [self.panel] * wide + [2] * (total - wide)
        sizes[-1] -= sum(sizes) - count  # a single vector
        return sizes

    def panel_widths(self, channels: int) -> list[int]:
        """Output channels of each panel of packed weights, a half vector as such."""
        *sizes, last = self.panel_sizes(self.vectors(channels))
        return [*(self.lanes * size for size in sizes), self.lanes * last - self.is_half(channels) * self.lanes // 2]

    def largest_tile(self, vectors: int) -> int:
        """Pixels of a tile that is `vectors` vectors wide, see `tile_pixels`."""
        return tile_pixels(vectors, self.registers, self.inputs_kept, self.longest_tile)


FLOAT32 = Layout(*vector_unit())
