"""Pack weights in the order in which the kernels read them.

    stem        (M, C, K, K) -> [panel][K][K][C][vectors of the panel][lanes]
    pointwise   (M, C, 1, 1) -> [panel][C][vectors of the panel][lanes]; a half vector (`layout.py`) has lanes / 2
    depthwise   (C, 1, K, K) -> [C / lanes][K][K][lanes]
"""
import numpy as np


def packed_size(layout, op: str, shape) -> int:
    """Values of a packed weight (M, C, K, K)."""
    m, c, k, _ = shape
    return c * k * k * sum(_widths(layout, op, m))


def pack_weight(layout, op: str, weight, out) -> None:
    """(M, C, K, K) -> out, 1-D zeros of `packed_size`."""
    ordered = weight.astype(np.float32, copy=False).transpose(0, 2, 3, 1).reshape(len(weight), -1)  # (M, K K C)
    m = start = 0
    for width in _widths(layout, op, len(weight)):
        chosen, size = ordered[m : m + width], ordered.shape[1] * width
        out[start : start + size].reshape(-1, width)[:, : len(chosen)] = chosen.T
        m, start = m + width, start + size


def _widths(layout, op: str, channels: int) -> list[int]:
    """Output channels of each panel, in order."""
    return [layout.lanes] * layout.vectors(channels) if op == "depthwise" else layout.panel_widths(channels)
