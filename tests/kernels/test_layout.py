"""How activations and panels lie in memory, and which vectors a processor has."""
import pytest

from npefficient.kernels import layout
from npefficient.kernels.processor import vector_unit

ALL_CHANNELS = range(8, 2000, 8)


@pytest.fixture(params=[(4, 16), (4, 32), (8, 16), (16, 32)], ids=lambda unit: "{}_lanes_{}_registers".format(*unit))
def unit(request, monkeypatch):
    """(lanes, registers) of a vector unit, whatever the processor."""
    for name, value in zip(("LANES", "REGISTERS", "VECTOR"), (*request.param, 4 * request.param[0])):
        monkeypatch.setattr(layout, name, value)
    return request.param


@pytest.mark.parametrize("features, expected", [
    ("+avx,+avx2,+fma,+avx512f,+avx512vl", (16, 32)), ("+avx2,+fma,+avx512f,-avx512vl", (8, 16)),
    ("+avx2,+fma", (8, 16)), ("+avx,-avx2", (4, 16)), ("+sse2", (4, 16)), ("", (4, 16)), ("+neon", (4, 32)),
    ("-neon", (4, 16))])
def test_vector_unit(monkeypatch, features, expected):
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    monkeypatch.setenv("NUMBA_CPU_FEATURES", features)
    assert vector_unit() == expected


def test_layout_is_that_of_this_processor():
    assert (layout.LANES, layout.REGISTERS) == vector_unit()
    assert layout.VECTOR == 4 * layout.LANES


def test_vectors_hold_all_channels(unit):
    for channels in range(1, 100):
        assert channels <= layout.vectors(channels) * unit[0] < channels + unit[0]


def test_half_vectors_are_there_with_16_lanes_only(unit):
    got = [channels for channels in ALL_CHANNELS if layout.is_half(channels)]
    expected = [channels for channels in ALL_CHANNELS if channels > 16 and channels % 16] if unit[0] == 16 else []
    assert got == expected


def test_planes_are_no_power_of_two_apart(unit):
    """A vector's room lies between two planes, but not where each is one vector: those lie side by side."""
    vector = 4 * unit[0]
    assert [layout.plane_size(pixels) // vector for pixels in (1, 2, 3, 1024)] == [1, 3, 4, 1025]
    assert layout.plane_size(7) % vector == 0


@pytest.mark.parametrize("count, wide, sizes", [
    (1, 0, [1]), (2, 0, [2]), (3, 1, [3]), (4, 0, [2, 2]), (5, 1, [3, 2]), (6, 2, [3, 3]), (7, 1, [3, 2, 2]),
    (8, 2, [3, 3, 2]), (10, 2, [3, 3, 2, 2])])
def test_panels(count, wide, sizes):
    assert layout.panels(count) == (wide, len(sizes))
    assert layout.panel_sizes(count) == sizes


def test_panels_of_every_count():
    """All vectors, in panels of 3, then of 2, and never of 1 but where there is just one: it wastes the registers."""
    for count in range(1, 300):
        sizes = layout.panel_sizes(count)
        assert sum(sizes) == count and sizes == sorted(sizes, reverse=True)
        assert set(sizes) <= {2, 3} or count == 1
        assert sizes.count(2) <= 2
        assert layout.panels(count) == (sizes.count(3), len(sizes))


def test_tiles_fit_the_registers(unit):
    """The accumulators, a panel's weights and one input at least; AVX2 and AVX-512 have room for no more."""
    for count in (1, 2, 3):
        pixels = layout.largest_tile(count)
        assert 1 <= pixels <= layout.LARGEST
        assert pixels * count + count + 1 <= unit[1]
    if unit[0] > 4:
        assert [layout.largest_tile(count) for count in (1, 2, 3)] == {8: [8, 6, 4], 16: [8, 8, 8]}[unit[0]]
