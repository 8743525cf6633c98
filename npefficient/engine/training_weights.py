"""The chunks of a training step that bring weights into the order in which the kernels read them, and gradients back.

    pack        packed[panel][K][K][C][lane] = plain[m, c, i, j]
    add_up      plain[m, c, i, j] = part 0 + part 1 + .. of the same [panel][K][K][C][lane], in this order

`plain` is (M, C, K, K), or a view of that shape: turned weights differ from the others in their strides alone. How
panels are cut, and that each block of a depthwise convolution is one, is told in `kernels/packing.py`.
"""
from ..kernels.lanes import arithmetic, routine
from ..kernels.layout import FLOAT, Layout
from ..kernels.scalars import load_float, store_float
from ..kernels.tiles import make_panel_at


def make_weight_chunks(layout: Layout):
    """The routines `pack` and `add_up` for one layout: one panel each."""
    lanes, vector, panel_at = layout.lanes, layout.vector, make_panel_at(layout)

    @arithmetic
    def cut(step, panel):
        """(first vector, output channels, how many of them there are in `plain`) of a panel."""
        first, vectors = (panel, 1) if step.by_block else panel_at(panel, step.wide_panels, step.z_vectors)
        width = vectors * lanes
        if step.half and first + vectors == step.z_vectors:
            width -= lanes // 2
        return first, width, min(width, step.out_channels - first * lanes)

    @routine
    def pack(step, panel):
        first, width, used = cut(step, panel)
        distance, rows = step.plain_lane, step.in_channels
        out = step.weight + first * vector * step.panel_rows
        for tap in range(step.kernel * step.kernel):
            for c in range(rows):
                plain = step.plain + first * lanes * distance + c * step.plain_channel + tap * step.plain_tap
                for lane in range(used):
                    store_float(load_float(plain + lane * distance), out + lane * FLOAT)
                out += width * FLOAT

    @routine
    def add_up(step, panel):
        first, width, used = cut(step, panel)
        distance, rows, parts, size = step.plain_lane, step.in_channels, step.parts, step.dweight_size
        part = step.dweight + first * vector * step.panel_rows
        for tap in range(step.kernel * step.kernel):
            for c in range(rows):
                plain = step.plain + first * lanes * distance + c * step.plain_channel + tap * step.plain_tap
                for lane in range(used):
                    total = load_float(part + lane * FLOAT)
                    for other in range(1, parts):
                        total += load_float(part + other * size + lane * FLOAT)
                    store_float(total, plain + lane * distance)
                part += width * FLOAT

    return pack, add_up
