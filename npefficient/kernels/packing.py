"""Pack weights in the order in which the kernels read them.

    stem        (M, C, K, K) -> [panel][K][K][C][vectors of the panel][lanes], always floats
    pointwise   (M, C, 1, 1) -> [panel][C / group][vectors of the panel][lanes][group]; a half vector (`layout.py`) has
                lanes / 2
    depthwise   (C, 1, K, K) -> [C / lanes][K][K][lanes]; of integers [C / lanes][K][distance][lanes][group], see
                `depthwise_int8.py`

A group has one value if the weights are floats, as those of the stem and of the first depthwise convolution always
are. Nothing here needs Numba.
"""
import numpy as np

from .layout import FLOAT

KINDS = {4: np.float32, 2: np.int16, 1: np.int8}  # by bytes


def groups(layout, kernel: int, start: int) -> list[int]:
    """The first pixels of the groups that a window from pixel `start` on takes."""
    every = 2 if layout.group > kernel else layout.group
    first = start // every * every
    return list(range(first, start + kernel, layout.group))


def distances(layout, kernel: int, stride: int) -> list[int]:
    """First pixel of a group minus first pixel of a window, for all pairs that meet."""
    return sorted({first - p * stride for p in range(layout.group) for first in groups(layout, kernel, p * stride)})


def taps(layout, item: int, kernel: int, stride: int) -> int:
    """Vectors of weights of one block of channels of a depthwise convolution."""
    return kernel * (kernel if item == FLOAT else len(distances(layout, kernel, stride)))


def packed_size(layout, op: str, shape, stride: int = 1, item: int | None = None) -> int:
    """Bytes of a packed weight (M, C, K, K). item: bytes of its values, those of the layout by default."""
    m, c, k, _ = shape
    item = item or layout.item
    if op == "depthwise":
        return layout.vectors(m) * taps(layout, item, k, stride) * layout.floats
    return c * k * k * sum(layout.panel_widths(m)) * item


def pack_weight(layout, op: str, weight, out, stride: int = 1, item: int | None = None) -> None:
    """(M, C, K, K) -> out, `packed_size` zero bytes; the stride counts for a depthwise convolution only."""
    item = item or layout.item
    group = FLOAT // item
    if op == "depthwise" and item != FLOAT:
        weight = _by_distance(layout, weight, stride)
    ordered = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1, group)  # (M, K K C / group, group)
    widths = [layout.lanes] * layout.vectors(len(weight)) if op == "depthwise" else layout.panel_widths(len(weight))
    out, m, start = out.view(KINDS[item]), 0, 0
    for width in widths:
        chosen, size = ordered[m : m + width], ordered[0].size * width
        out[start : start + size].reshape(-1, width, group)[:, : len(chosen)] = chosen.transpose(1, 0, 2)
        m, start = m + width, start + size


def _by_distance(layout, weight, stride: int):
    """(C, 1, K, K) -> (C, group, K, distances): the taps that each pixel of a group meets, or zero."""
    kernel = weight.shape[-1]
    places = np.add.outer(np.arange(layout.group), distances(layout, kernel, stride))  # columns of the window
    inside = (places >= 0) & (places < kernel)
    return np.where(inside[:, None], weight[:, 0][:, :, np.where(inside, places, 0)].transpose(0, 2, 1, 3), 0)
