"""Where a rung's values lie: arrays on cache lines, zeros around pictures and behind channels, blocks, packed weights.

All of this happens before a rung is timed. Pictures are (rows, columns, channels), float32.
"""
import numpy as np

from ..kernels.layout import FLOAT, LANES, VECTOR, is_half, panel_sizes, plane_size, vectors
from ..network.architecture import same_padding

CACHE_LINE = 64  # bytes: a vector that lies across two of them takes two loads


def zeros(*shape) -> np.ndarray:
    """float32 zeros that start on a cache line."""
    size = int(np.prod(shape))
    block = np.zeros(size + CACHE_LINE // FLOAT, np.float32)
    start = -block.ctypes.data % CACHE_LINE // FLOAT
    return block[start : start + size].reshape(shape)


def placed(array, multiple: int = 1, axis: int = -1) -> np.ndarray:
    """A copy on cache lines, with zeros behind it along one axis up to a multiple."""
    shape = list(array.shape)
    shape[axis] = -(-shape[axis] // multiple) * multiple
    result = zeros(*shape)
    result[tuple(map(slice, array.shape))] = array
    return result


# --- padding ---------------------------------------------------------------------------------------------------------


def padding(height: int, width: int, conv) -> list[tuple[int, int]]:
    """Pixels of zeros (before, after) the rows and the columns of a convolution's picture."""
    return [same_padding(size, conv.weight.shape[-1], conv.stride) for size in (height, width)]


def bordered(make, height: int, width: int, channels: int, conv):
    """Zeros for a picture and its padding, made by `zeros` or `blocks` -> all of them, and the view of the picture."""
    (top, bottom), (left, right) = padding(height, width, conv)
    every = make(top + height + bottom, left + width + right, channels)
    return every, every[..., top : top + height, left : left + width, :]


# --- blocks of channels ----------------------------------------------------------------------------------------------


def blocks(rows: int, columns: int, channels: int) -> np.ndarray:
    """Zeros for a picture in blocks of LANES channels, (blocks, rows, columns, LANES), a gap between two blocks."""
    count, pixels = vectors(channels), rows * columns
    planes = zeros(count, plane_size(pixels) // VECTOR, LANES)
    return planes[:, :pixels].reshape(count, rows, columns, LANES)


def fill(planes, picture) -> None:
    """(H, W, C) -> the first C lanes of (blocks, H, W, LANES)."""
    for c in range(picture.shape[2]):
        planes[c // LANES, :, :, c % LANES] = picture[:, :, c]


def in_blocks(picture) -> np.ndarray:
    """(H, W, C) -> (blocks, H, W, LANES)."""
    planes = blocks(*picture.shape)
    fill(planes, picture)
    return planes


def out_of_blocks(planes, channels: int) -> np.ndarray:
    """(blocks, Q, R, LANES) -> (Q, R, C)."""
    return np.concatenate(list(planes), axis=2)[:, :, :channels]


# --- addresses: whoever keeps them keeps the arrays as well ----------------------------------------------------------


def address(array) -> int:
    """Where an array starts."""
    return array.ctypes.data


def planes_of(planes) -> tuple[int, int, int]:
    """(blocks, H, W, LANES), or a part of it -> address, bytes from block to block, bytes from row to row."""
    return address(planes), *planes.strides[:2]


# --- weights ---------------------------------------------------------------------------------------------------------


def packed(weight) -> np.ndarray:
    """(K, M) -> [panel][K][channels of the panel], 1-D, as a tile reads it: 3 or 2 vectors wide, the last vector of all
    only a half one where that is enough."""
    channels = weight.shape[1]
    ends = np.cumsum(panel_sizes(vectors(channels))) * LANES
    ends[-1] -= is_half(channels) * LANES // 2
    panels = np.split(placed(weight, LANES), ends, axis=1)[:-1]
    return placed(np.concatenate([panel.ravel() for panel in panels]))
