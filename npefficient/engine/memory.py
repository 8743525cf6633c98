"""Memory for the engine: what its vectors lie in."""
import numpy as np

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


def aligned(size: int) -> np.ndarray:
    """`size` zero bytes that start on a cache line."""
    block = np.zeros(size + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + size]
