"""How activations and panels lie in memory."""
import pytest
from layouts import AVX2, AVX512, NEON, SSE

from npefficient.kernels.layout import FLOAT32
from npefficient.kernels.processor import vector_unit

ALL_CHANNELS = range(8, 2000, 8)


LAYOUTS = [SSE, NEON, AVX2, AVX512]

def test_layout_is_that_of_this_processor():
    assert (FLOAT32.lanes, FLOAT32.registers) == vector_unit()
    assert FLOAT32.vector == 4 * FLOAT32.lanes


@pytest.mark.parametrize("layout", LAYOUTS)
def test_vectors_hold_all_channels(layout):
    for channels in range(1, 100):
        assert channels <= layout.padded(channels) == layout.vectors(channels) * layout.lanes < channels + layout.lanes


@pytest.mark.parametrize("layout", LAYOUTS)
def test_half_vectors_are_there_with_16_lanes_only(layout):
    got = [channels for channels in ALL_CHANNELS if layout.is_half(channels)]
    halves = [channels for channels in ALL_CHANNELS if channels > 16 and channels % 16]
    assert got == (halves if layout.lanes == 16 else [])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_planes_are_no_power_of_two_apart(layout):
    """Two planes are one vector apart, except planes of a single vector, which lie side by side."""
    assert [layout.plane_size(pixels) // layout.vector for pixels in (1, 2, 3, 1024)] == [1, 3, 4, 1025]
    assert layout.plane_size(7) % layout.vector == 0


@pytest.mark.parametrize("count, wide, sizes", [
    (1, 0, [1]), (2, 0, [2]), (3, 1, [3]), (4, 0, [2, 2]), (5, 1, [3, 2]), (6, 2, [3, 3]), (7, 1, [3, 2, 2]),
    (8, 2, [3, 3, 2]), (10, 2, [3, 3, 2, 2])])
def test_panels(count, wide, sizes):
    assert FLOAT32.panels(count) == (wide, len(sizes))
    assert FLOAT32.panel_sizes(count) == sizes


def test_panels_of_every_count():
    """All vectors are in panels of 3, then of 2; a panel of 1 wastes registers, and is only for a single vector."""
    for count in range(1, 300):
        sizes = FLOAT32.panel_sizes(count)
        assert sum(sizes) == count and sizes == sorted(sizes, reverse=True)
        assert set(sizes) <= {2, 3} or count == 1
        assert sizes.count(2) <= 2
        assert FLOAT32.panels(count) == (sizes.count(3), len(sizes))


@pytest.mark.parametrize("layout, expected", [(SSE, [7, 4, 3]), (NEON, [8, 8, 7]), (AVX2, [8, 6, 4]),
                                              (AVX512, [8, 8, 8])])
def test_tiles_fit_the_registers(layout, expected):
    """Registers hold accumulators, a panel's weights and one input at least; AVX2 and AVX-512 hold no larger tile."""
    assert [layout.largest_tile(count) for count in (1, 2, 3)] == expected
    for count, pixels in zip((1, 2, 3), expected):
        assert pixels * count + count + 1 <= layout.registers
