"""Memory for the kernels: arrays aligned to cache lines, and pictures in blocks of channels (`layout.py`)."""
import numpy as np

from .layout import CACHE_LINE, FLOAT

# Bytes of a depthwise convolution's input rows at a time, which stay in the second-level cache: caches have 256 KiB
# (Haswell) to 2 MiB (Sapphire Rapids), and 192 KiB leave room for weights in the smallest. On a Zen 4 with 1 MiB, 96 to
# 512 KiB change the time of lite0 and lite4 by less than 2 %.
SCRATCH = 192 << 10

ALIGNMENT = CACHE_LINE  # bytes; also the widest vector's size: one that crosses two lines takes two loads


def aligned(size: int) -> np.ndarray:
    """`size` zero bytes that start on a cache line."""
    block = np.zeros(size + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + size]


def blocks(memory: np.ndarray, layout, height: int, width: int, channels: int, item: int = FLOAT) -> np.ndarray:
    """Bytes of a picture in blocks of channels -> the same memory as (blocks, H, W, lanes), float32 or integers."""
    count, pixels, kind = layout.vectors(channels), height * width, np.float32 if item == FLOAT else f"u{item}"
    planes = memory[: count * layout.plane_size(pixels, item)].view(kind).reshape(count, -1, layout.lanes)
    return planes[:, :pixels].reshape(count, height, width, layout.lanes)


def read_blocks(blocks: np.ndarray, out: np.ndarray) -> None:
    """Copy (blocks, H, W, lanes) to `out`, float32 (H, W, C)."""
    for inside, outside in _parts(blocks, out):
        outside[:] = inside


def write_blocks(blocks: np.ndarray, x: np.ndarray) -> None:
    """Copy x, float32 (H, W, C), to (blocks, H, W, lanes); unused lanes are not written."""
    for inside, outside in _parts(blocks, x):
        inside[:] = outside


def _parts(blocks, array):
    """Pairs of views of the same shape into the blocks and the array: first all whole blocks, then the remainder."""
    lanes = blocks.shape[-1]
    height, width, channels = array.shape
    whole, rest = divmod(channels, lanes)
    by_pixel = blocks.transpose(1, 2, 0, 3)
    yield by_pixel[:, :, :whole], array[..., : whole * lanes].reshape(height, width, whole, lanes)
    if rest:
        yield by_pixel[:, :, whole, :rest], array[..., whole * lanes :]
