"""How rows and pixels are cut into tiles: the kernels, run as plain Python with a recorder in place of the tiles."""
import numpy as np
import pytest
from guarded import Guarded
from kernel_calls import (
    LANES,
    LARGEST,
    VECTOR,
    call_depthwise,
    call_pointwise,
    call_stem,
    compiled_tiles,
    depthwise,
    depthwise_tiles,
    largest_tile,
    padding_before,
    pointwise,
    pointwise_tiles,
    stem_row,
    stem_tiles,
)

from npefficient.kernels import depthwise as depthwise_module
from npefficient.kernels import pointwise as pointwise_module
from npefficient.kernels import stem as stem_module
from npefficient.kernels.layout import FLOAT32


@pytest.fixture
def record(monkeypatch):
    """record(module, make, *arguments) -> the tiles' arguments, one list for each call of the routine that is made."""

    def run(module, make, *arguments):
        calls = []
        monkeypatch.setattr(module, "family", lambda *_, **axes: lambda *tile: calls.append(tile))
        monkeypatch.setattr(module, "routine", lambda function: function)
        make.__wrapped__(FLOAT32)(*arguments)
        monkeypatch.undo()
        return calls

    return run


def recorded_pointwise(record, pixels, vectors, half):
    """[(VECTORS, HALF, PIXELS, tiles), ..] after a check of their places."""
    calls = record(pointwise_module, pointwise_module.pointwise_kernel, 1000, 1, 2, 9, 3, 1, 1, 3000, 5000, 4, 5,
                   pixels, vectors, half, 2)
    at, found, before = 0, [], 2 * -(-pixels // largest_tile(vectors))
    for *tile, x, x_plane, weight, fetched, bias, bias_plane, bias_pixel, relu6, added, residual, out, plane, steps, \
            done, n in calls:
        assert (x, residual, out) == (1000 + at, 3000 + at, 5000 + at)
        assert (x_plane, weight, fetched, bias, bias_plane, bias_pixel) == (1, 2, 9, 3, VECTOR, 0)
        assert (relu6, added, plane, steps) == (1, 1, 4, 5)
        assert done == before + sum(tiles for *_, tiles in found)
        found.append((*tile, n))
        at += found[-1][2] * n * VECTOR
    assert at == pixels * VECTOR
    return found


def recorded_depthwise(record, kernel, stride, columns):
    """[(KERNEL, STRIDE, PIXELS, tiles), ..] after a check of their places."""
    calls = record(depthwise_module, depthwise_module.depthwise_kernel, 1000, 1, 2, 3, 5000, 7, columns, kernel, stride)
    at, found = 0, []
    for *tile, x, x_row, weight, bias, out, out_row, rows, tiles in calls:
        assert (x, out, out_row) == (1000 + at * stride * VECTOR, 5000 + at * VECTOR, columns * VECTOR)
        assert (x_row, weight, bias, rows) == (1, 2, 3, 7)
        found.append((*tile, tiles))
        at += found[-1][2] * tiles
    assert at == columns
    return found


def recorded_stem(record, width, vectors):
    """[(VECTORS, PIXELS, tiles), ..] of the outputs that see all of their columns, and those of the others."""
    columns, left = -(-width // 2), padding_before(width, 3, 2)
    calls = record(stem_module, stem_module.stem_kernel, 10000, 3, width, 3, 2, 3, 5000, 4, 0, columns, 0, left,
                   vectors)
    inner, border, places = [], [], []
    for *size, x, _, x_pixel, _, _, bias, out, out_plane, rows, taps, tiles in calls:
        assert (bias, out_plane, rows) == (3, 4, 3)
        first = (out - 5000) // VECTOR
        assert x == 10000 + max(2 * first - left, 0) * 3 * 4
        tile = *size, tiles
        (inner if taps == 9 else border).append(tile)
        assert tiles * tile[1] == 1 or x_pixel == 2 * 3 * 4
        places += range(first, first + tile[1] * tiles)
    assert sorted(places) == list(range(columns))
    return inner, border


def assert_even(tiles, total, largest):
    """Check that the tiles, pairs (pixels, how many), are as few as possible, and all of one size or a pixel more."""
    sizes = [pixels for pixels, count in tiles for _ in range(count)]
    assert sum(sizes) == total, f"{sum(sizes)} pixels of {total}"
    assert len(sizes) == -(-total // largest), f"{len(sizes)} tiles, expected {-(-total // largest)}"
    assert max(sizes, default=0) <= largest, f"a tile of {max(sizes)} pixels, at most {largest}"
    assert not sizes or max(sizes) - min(sizes) <= 1, f"uneven tiles: {sizes}"
    assert len(tiles) <= 2, f"{len(tiles)} calls"


@pytest.mark.parametrize("vectors, half", sorted({tile[:2] for tile in pointwise_tiles()}))
def test_pointwise_tiles(record, vectors, half):
    for pixels in range(120):
        found = recorded_pointwise(record, pixels, vectors, half)
        assert_even([tile[2:] for tile in found], pixels, largest_tile(vectors))
        assert {tile[:3] for tile in found} <= set(pointwise_tiles())


@pytest.mark.parametrize("stride", [1, 2], ids="s{}".format)
@pytest.mark.parametrize("kernel", [3, 5], ids="k{}".format)
def test_depthwise_tiles(record, kernel, stride):
    for columns in range(120):
        found = recorded_depthwise(record, kernel, stride, columns)
        assert_even([tile[2:] for tile in found], columns, LARGEST)
        assert {tile[:3] for tile in found} <= set(depthwise_tiles())


@pytest.mark.parametrize("vectors", sorted({tile[0] for tile in stem_tiles()}))
def test_stem_tiles(record, vectors):
    for width in range(1, 120):
        inner, border = recorded_stem(record, width, vectors)
        starts = range(-padding_before(width, 3, 2), width - 2, 2)  # of outputs that end inside
        assert_even([tile[1:] for tile in inner], sum(start >= 0 for start in starts), largest_tile(vectors))
        assert set(border) <= {(vectors, 1, 1)}
        assert {tile[:2] for tile in inner + border} <= set(stem_tiles())


def test_every_tile_is_tested(record):
    """Every tile in the machine code has a row in the tests of `test_kernels`, and every row's tile is called."""
    zeros = np.zeros((2, 2, LANES), np.float32)
    call_pointwise(Guarded, zeros[0], np.zeros((8, LANES), np.float32), np.zeros(8, np.float32))
    call_depthwise(Guarded, zeros, np.zeros((LANES, 1, 3, 3), np.float32), zeros[0, 0], 1)
    call_stem(Guarded, zeros, np.zeros((32, LANES, 3, 3), np.float32), np.zeros(32, np.float32))
    got = [recorded_pointwise(record, p, v, half) for v, half, p in pointwise_tiles()]
    assert got == [[(*tile, 1)] for tile in pointwise_tiles()]
    got = [recorded_depthwise(record, *tile) for tile in depthwise_tiles()]
    assert got == [[(*tile, 1)] for tile in depthwise_tiles()]
    got = [recorded_stem(record, 2 * p + 2, v) for v, p in stem_tiles()]
    assert got == [([(*tile, 1)], [(tile[0], 1, 1)]) for tile in stem_tiles()]
    assert compiled_tiles(pointwise) == pointwise_tiles()
    assert compiled_tiles(depthwise) == depthwise_tiles()
    assert compiled_tiles(stem_row) == stem_tiles()


@pytest.mark.parametrize("tiles, match", [
    pytest.param([(4, 1), (4, 1)], "8 pixels of 9", id="too_few_pixels"),
    pytest.param([(3, 3)], "3 tiles, expected 2", id="too_many"),
    pytest.param([(8, 1), (1, 1)], "uneven", id="uneven"),
    pytest.param([(5, 1), (4, 0), (4, 1)], "3 calls", id="in_three_calls"),
])
def test_assert_even_can_fail(tiles, match):
    assert_even([(4, 1), (5, 1)], 9, 8)
    with pytest.raises(AssertionError, match=match):
        assert_even(tiles, 9, 8)


def test_assert_even_shows_a_tile_that_is_too_large():
    with pytest.raises(AssertionError, match="9 pixels, at most 8"):
        assert_even([(9, 1), (7, 1)], 16, 8)
