"""A pointwise kernel that takes a panel of weights in parts: the same bits as in one, whatever the parts."""
from dataclasses import dataclass

import numpy as np
import pytest
from guarded import Guarded
from kernel_calls import HALVES, call_pointwise, exact_pointwise, relu6_of
from layouts import AVX2, AVX512, LANES, NEON, SSE, UNROLL, VECTOR, largest_tile

from npefficient.kernels import pointwise as pointwise_module
from npefficient.kernels.layout import ALL_WEIGHTS, FLOAT32, Layout

BLOCK = 3 * VECTOR * LANES  # bytes of a panel of three vectors for a block of input channels


@dataclass(frozen=True)
class InParts(Layout):
    """This processor's layout, with caches so small that every larger panel is taken in parts."""

    weights_at_once = 2 * BLOCK


LAYOUT = InParts(FLOAT32.lanes, FLOAT32.registers)
in_parts = pointwise_module.pointwise_kernel(LAYOUT)


def noise(*shape):
    return np.random.default_rng(sum(shape)).uniform(-4, 4, shape).astype(np.float32)


@pytest.mark.parametrize("m", [8, 40, 3 * LANES - LANES // 2], ids="out_{}".format)
@pytest.mark.parametrize("c", [8, 72, 200], ids="in_{}".format)
@pytest.mark.parametrize("p", [1, 5, 9, 25], ids="pixels_{}".format)
def test_bits(p, c, m):
    x, weight, bias, residual = noise(p, c), noise(m, c), noise(m), noise(p, m)
    linear = exact_pointwise(x, weight, bias, relu6=False)
    for relu6, more, expected in ((False, None, linear), (True, None, relu6_of(linear)),
                                  (False, residual, linear + residual)):
        got = call_pointwise(Guarded, x, weight, bias, relu6, more, kernel=in_parts)
        np.testing.assert_array_equal(got.view(np.int32), expected.view(np.int32))


def test_nan_stays_in_its_pixel():
    x, weight, bias = noise(17, 112), noise(24, 112), noise(24)
    x[3, 5] = np.nan
    got = call_pointwise(Guarded, x, weight, bias, kernel=in_parts)
    assert np.isnan(got[3]).all() and not np.isnan(np.delete(got, 3, 0)).any()


def parts(monkeypatch, pixels, channels, size, half):
    """The channels of each part, after a check of what its tiles read and write."""
    calls = []
    monkeypatch.setattr(pointwise_module, "family", lambda *_, **axes: lambda *tile: calls.append(tile))
    monkeypatch.setattr(pointwise_module, "routine", lambda function: function)
    make = pointwise_module.pointwise_kernel.__wrapped__
    make(LAYOUT)(10000, 700, 20000, 30000, 40000, 1, 1, 50000, 60000, 900, channels // UNROLL, pixels, size, half, 0)
    row = size * VECTOR - half * VECTOR // 2  # bytes of weights for a channel
    taken = sorted({call[5] for call in calls})  # addresses of weights
    ends = [*taken[1:], 20000 + channels * row]
    for weight, end in zip(taken, ends):
        first, last = weight == taken[0], end == ends[-1]
        at = 0
        for *tile, x, x_plane, _, following, start, start_plane, start_pixel, relu6, residual, residual_at, out, \
                out_plane, steps, _, count in (call for call in calls if call[5] == weight):
            assert (x - at - 10000) * row * LANES == (weight - 20000) * x_plane  # the same channels as the weights
            assert (out, residual_at, x_plane, out_plane) == (60000 + at, 50000 + at, 700, 900)
            assert steps * UNROLL * row == end - weight
            assert (start, start_plane, start_pixel) == ((40000, VECTOR, 0) if first else (out, out_plane, VECTOR))
            assert (relu6, residual, following) == ((1, 1, 30000) if last else (0, 0, end))
            at += count * tile[2] * VECTOR
        assert at == pixels * VECTOR
    return [(end - weight) // row for weight, end in zip(taken, ends)]


@pytest.mark.parametrize("size, half", [(1, 0), (2, 0), (3, 0), *([(2, 1), (3, 1)] if HALVES else [])])
@pytest.mark.parametrize("channels", [8, 24, 40, 112, 320, 1152], ids="in_{}".format)
def test_parts(monkeypatch, channels, size, half):
    row = size * VECTOR - half * VECTOR // 2
    found = parts(monkeypatch, largest_tile(size) + 1, channels, size, half)
    assert sum(found) == channels and not any(count % LANES for count in found[:-1])
    assert max(found) * row < LAYOUT.weights_at_once + LANES * row, "a part is larger than it should be"
    assert len(found) <= -(-channels * row // LAYOUT.weights_at_once), "more parts than needed"
    assert max(found) - min(found) <= 2 * LANES, "uneven parts"
    assert parts(monkeypatch, largest_tile(size), channels, size, half) == [channels], "one tile gains nothing"


def test_which_processors_take_parts():
    """With AVX2, a tile reads its weights faster than the second-level cache delivers them with ease."""
    assert AVX2.weights_at_once == 24 << 10
    others = SSE, NEON, AVX512, Layout(8, 16, 1), Layout(8, 16, 2)
    assert {layout.weights_at_once for layout in others} == {ALL_WEIGHTS}
