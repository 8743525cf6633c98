"""The memory layout as a value: kernels are traced for it, packing and planning use it.

An activation (C, H, W) is stored in blocks of as many channels as a vector has lanes:

    [C / lanes][H * W][lanes]    one plane for each block, and a gap of one vector between planes

So the pixels of a tile are at constant distances from one address, and a depthwise convolution reads neighbouring
vectors. Every channel count of the network is a multiple of 8. With 16 lanes, the last block may be half full: its
upper lanes are zero, and the kernels compute half vectors there (`is_half`).

Nothing here needs Numba. `memory.py` allocates such arrays, `packing.py` lays out weights.
"""
from dataclasses import dataclass

from .processor import has_dot_products, vector_unit

CACHE_LINE = 64  # bytes, on x86 and on most ARM cores
FLOAT = 4  # bytes of a float32, and of an int32
ALL_WEIGHTS = 1 << 40  # bytes: more than any panel has
RELU6_STEP = 6.0 / 255.0  # of integers after a ReLU6
ZERO = 128  # what 0 is as an integer where a scale of its own is found for each row, see `quantize.py`
AVERAGE, MAXIMUM, AVERAGE_AND_MAXIMUM = range(3)  # what a global pool does: timm's "avg", "max" and "avgmax"


def tile_pixels(vectors: int, registers: int, inputs_kept: int, most: int) -> int:
    """Pixels of a tile that is `vectors` vectors wide, so that accumulators, weights and inputs fit the registers.

    Besides its accumulators a tile needs one register for each vector of weights, and one for the input: a single one
    for all its pixels, or one for each pixel if `inputs_kept` is 1. Compiled code also calls this: integers only.
    """
    return min(most, (registers - vectors - 1 + inputs_kept) // (vectors + inputs_kept))


@dataclass(frozen=True)
class Layout:
    """Activations and packed weights for one kind of vector. Equal layouts share their compiled kernels."""

    lanes: int  # values in a vector
    registers: int  # vector registers of the processor
    item: int = FLOAT  # bytes of a value: 4 for float32, 1 or 2 for integers of 8 bits, see `integers.py`
    panel: int = 3  # vectors of output channels side by side in the packed weights, see `panels`
    longest_tile: int = 8  # pixels of a tile, at most: more may not fit the registers, and gain nothing
    training: bool = False  # convolutions without ReLU6, since batch norm comes between, and backward kernels

    @property
    def vector(self) -> int:
        """Bytes of a vector of values."""
        return self.lanes * self.item

    @property
    def floats(self) -> int:
        """Bytes of a vector of float32, whatever the layout's values are."""
        return self.lanes * FLOAT

    @property
    def number(self) -> int:
        """What tells it from other layouts in compiled code."""
        return self.lanes << 8 | self.training << 4 | self.item

    @property
    def group(self) -> int:
        """Values in the 4 bytes of a lane of a float32 or int32 vector: 1 for float32, 4 for 8-bit integers."""
        return FLOAT // self.item

    @property
    def unroll(self) -> int:
        """Input channels that a pointwise kernel takes at a time: every channel count is a multiple of it."""
        return min(4 if self.item == FLOAT else 8, self.lanes)

    @property
    def weights_at_once(self) -> int:
        """Bytes of a panel of pointwise weights that all pixels of a call use before they use the next ones.

        With AVX2, a tile of 4 pixels reads 3 vectors of weights, 96 bytes, for every 12 FMAs, or 6 cycles with two
        units. That is two thirds of what a Zen 3's second-level cache delivers, 24 bytes a cycle. So weights that are
        used again should stay in the first level: in 24 of the 32 KiB that processors with AVX2 have at least. On that
        Zen 3, this takes 4 % off the time of lite0 and 7 % off that of lite4 (`npefficient bench model`, with both in
        turns); 16 to 28 KiB are equally good. Tiles of 8 pixels in vectors of 16 lanes were fast enough on a Zen 4,
        which takes them in two passes, and vectors of 4 lanes need half as much: they take a panel as a whole.
        """
        return 24 << 10 if (self.lanes, self.item) == (8, FLOAT) else ALL_WEIGHTS

    @property
    def inputs_kept(self) -> int:
        """1 if a vector holds exactly the `unroll` channels that are taken together, else 0. Then a tile loads the
        vector of each pixel once, keeps it in a register, and multiplies by one lane after the other."""
        return int(self.item == FLOAT and self.lanes == self.unroll)

    def vectors(self, channels: int) -> int:
        """The number of blocks for `channels` channels."""
        return -(-channels // self.lanes)

    def padded(self, channels: int) -> int:
        """The next multiple of the lanes."""
        return self.vectors(channels) * self.lanes

    def is_half(self, channels: int) -> bool:
        """True if only the lower half of the last of several blocks is in use."""
        return self.lanes > 8 and channels > self.lanes and 0 < channels % self.lanes <= self.lanes // 2

    def plane_size(self, pixels: int, item: int | None = None) -> int:
        """Bytes from one block of channels to the next, with `item` bytes for each value. The gap of a vector avoids
        strides of a power of two, with which all blocks of a pixel would map to the same cache sets."""
        return (pixels + (pixels > 1)) * self.lanes * (item or self.item)

    def panels(self, count: int) -> tuple[int, int]:
        """`count` vectors of output channels as (wide panels, panels in all): 3 vectors each, then 2 each; 1 stays 1.

        Three vectors use the registers best. A single vector next to other panels would cost as much as two.
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
        """Output channels of each panel of packed weights; a half vector counts half."""
        *sizes, last = self.panel_sizes(self.vectors(channels))
        return [*(self.lanes * size for size in sizes), self.lanes * last - self.is_half(channels) * self.lanes // 2]

    def largest_tile(self, vectors: int) -> int:
        """Pixels of a tile that is `vectors` vectors wide, see `tile_pixels`."""
        return tile_pixels(vectors, self.registers, self.inputs_kept, self.longest_tile)

    def has_tile(self, VECTORS: int, HALF: int, PIXELS: int) -> bool:
        """False for a pointwise tile that does not fit the registers, and for a panel that no layer has."""
        return PIXELS <= self.largest_tile(VECTORS) and (not HALF or self.lanes > 8 and VECTORS > 1)


FLOAT32 = Layout(*vector_unit())
TRAINING = Layout(*vector_unit(), training=True)
INT8 = Layout(*vector_unit(), item=1 if has_dot_products() else 2)


def layout_of(precision: str) -> Layout:
    """The layout of this processor's vectors for "float32" or "int8"."""
    return {"float32": FLOAT32, "int8": INT8}[precision]
