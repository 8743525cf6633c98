"""How floats lie in memory: what the kernels share with the code that packs and plans, which needs no Numba.

An activation (C, H, W) lies in blocks of as many channels as the processor's vectors have lanes:

    [C / LANES][H * W][LANES]    one plane for each block, and a vector's room between two planes

so that the pixels of a tile are at constant distances from one address, and a depthwise convolution walks along
neighbouring vectors. Every channel count of the network is a multiple of 8. Where a vector has 16 lanes, the last block
may be half full: its upper lanes are zero, and the kernels compute half vectors there (`is_half`).
"""
from .processor import vector_unit

FLOAT = 4  # bytes
LANES, REGISTERS = vector_unit()  # floats in a vector; vectors that the processor holds
VECTOR = LANES * FLOAT  # bytes
UNROLL = min(4, LANES)  # channels that a pointwise kernel takes at a time
PANEL = 3  # vectors of output channels side by side in the packed weights, see `panels`
AVERAGE, MAXIMUM, AVERAGE_AND_MAXIMUM = range(3)  # what a global pool does: timm's "avg", "max" and "avgmax"
LARGEST = 8  # pixels of a tile at the most: more need not fit the registers, and gain nothing


def vectors(channels: int) -> int:
    """Blocks of LANES channels."""
    return -(-channels // LANES)


def is_half(channels: int) -> bool:
    """True where only the lower half of the last of several blocks is in use."""
    return LANES > 8 and channels > LANES and 0 < channels % LANES <= LANES // 2


def plane_size(pixels: int) -> int:
    """Bytes from one block of channels to the next: pixels of powers of two would meet in the same cache lines."""
    return (pixels + (pixels > 1)) * VECTOR


def panels(count: int) -> tuple[int, int]:
    """`count` vectors of output channels as (panels of PANEL, panels in all): 3 each, then 2 each; 1 stays 1."""
    wide, rest = divmod(count, PANEL)
    if rest == 1 and wide:
        wide, rest = wide - 1, PANEL + 1
    return wide, wide + -(-rest // 2)


def panel_sizes(count: int) -> list[int]:
    """Vectors of each of these panels."""
    wide, total = panels(count)
    sizes = [PANEL] * wide + [2] * (total - wide)
    sizes[-1] -= sum(sizes) - count  # a single vector
    return sizes


def largest_tile(count: int) -> int:
    """Pixels of a tile with `count` vectors: accumulators, weights and inputs fit the registers.

    One input at a time, except where a vector holds just the UNROLL channels that are taken together: then LLVM keeps
    those of every pixel, and multiplies by their lanes.
    """
    if LANES == UNROLL:
        return min(LARGEST, (REGISTERS - count) // (count + 1))
    return min(LARGEST, (REGISTERS - 1 - count) // count)
