"""Memory of the rungs: aligned arrays, zeros around pictures and after channels, blocks of channels, packed weights.

All of this is prepared before a rung is timed. Pictures are (rows, columns, channels), float32; on the ladder in 8
bits uint8.
"""
import math

import numpy as np

from ..kernels.layout import FLOAT, FLOAT32
from ..kernels.memory import aligned, read_blocks, write_blocks
from ..kernels.memory import blocks as blocks_in
from ..kernels.packing import pack_weight, packed_size
from ..network.architecture import same_padding

LAYOUT = FLOAT32  # of the engine: the last rungs run its kernels
LANES, VECTOR, UNROLL = LAYOUT.lanes, LAYOUT.vector, LAYOUT.unroll


def zeros(*shape, kind=np.float32) -> np.ndarray:
    """Zeros, aligned to a cache line."""
    return aligned(np.dtype(kind).itemsize * math.prod(shape)).view(kind).reshape(shape)


def placed(array, multiple: int = 1, axis: int = -1) -> np.ndarray:
    """An aligned copy, zero-padded at the end of one axis to a multiple."""
    shape = list(array.shape)
    shape[axis] = -(-shape[axis] // multiple) * multiple
    result = zeros(*shape, kind=array.dtype)
    result[tuple(map(slice, array.shape))] = array
    return result


# --- padding ---------------------------------------------------------------------------------------------------------


def padding(height: int, width: int, conv) -> list[tuple[int, int]]:
    """Pixels of zeros (before, after) the rows and the columns of a convolution's picture."""
    return [same_padding(size, conv.weight.shape[-1], conv.stride) for size in (height, width)]


def bordered(make, height: int, width: int, channels: int, conv):
    """Zeros for a picture and its padding, made by `zeros` or `blocks` -> the whole array, a view of the picture."""
    (top, bottom), (left, right) = padding(height, width, conv)
    every = make(top + height + bottom, left + width + right, channels)
    return every, every[..., top : top + height, left : left + width, :]


# --- blocks of channels ----------------------------------------------------------------------------------------------


def blocks(rows: int, columns: int, channels: int, item: int = FLOAT) -> np.ndarray:
    """Zeros for a picture in blocks of LANES channels, (blocks, rows, columns, LANES), with a gap between blocks.

    item: bytes of a value, which is a float32 if there are 4, else an integer
    """
    memory = aligned(LAYOUT.vectors(channels) * LAYOUT.plane_size(rows * columns, item))
    return blocks_in(memory, LAYOUT, rows, columns, channels, item)


def in_blocks(picture, item: int = FLOAT) -> np.ndarray:
    """(H, W, C) -> (blocks, H, W, LANES)."""
    planes = blocks(*picture.shape, item)
    write_blocks(planes, picture)
    return planes


def out_of_blocks(planes, channels: int) -> np.ndarray:
    """(blocks, Q, R, LANES) -> (Q, R, C)."""
    picture = np.empty((*planes.shape[1:3], channels), planes.dtype)
    read_blocks(planes, picture)
    return picture


# --- addresses: keep the arrays alive as long as these are used ------------------------------------------------------


def address(array) -> int:
    """The address of an array's first byte."""
    return array.ctypes.data


def planes_of(planes) -> tuple[int, int, int]:
    """(blocks, H, W, LANES), or a view of a part -> address, bytes from block to block, bytes from row to row."""
    return address(planes), *planes.strides[:2]


# --- weights ---------------------------------------------------------------------------------------------------------


def packed(weight) -> np.ndarray:
    """(K, M) -> [panel][K][channels of the panel], 1-D, as a tile reads it: panels of 3 or 2 vectors; the very last
    vector is a half one if that is enough."""
    matrix = weight.T[:, :, None, None]  # (M, K, 1, 1)
    result = zeros(packed_size(LAYOUT, "pointwise", matrix.shape) // LAYOUT.item)
    pack_weight(LAYOUT, "pointwise", matrix, result)
    return result
