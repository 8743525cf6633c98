"""The packed weights: each can be found where its format says, folded in float64 and rounded once."""

import numpy as np
import pytest
from golden_weights import packed, weights

from npefficient import reference
from npefficient.architecture import build
from npefficient.engine.pack import pack, pack_pointwise, padded_channels
from npefficient.parameters import Weights

SHORT = [f"lite{i}" for i in range(5)]


def unpacked(buffer, start, op, shape):
    """Read (M, C, K, K) back, each weight from the place that the format gives it."""
    m, c, kernel, _ = shape
    o, i, dy, dx = np.indices(shape)
    if op == "pointwise":
        width = np.minimum(16, m - o // 16 * 16)
        place = o // 16 * 16 * c + i * width + o % 16
    elif op == "depthwise":
        place = (dy * kernel + dx) * m + o
    else:
        place = ((dy * kernel + dx) * c + i) * m + o
    return buffer[start // 4 + place]


@pytest.mark.parametrize("short, classes, colours", [
    *((short, 1000, 3) for short in SHORT), ("lite0", 1, 1), ("lite0", 8, 4), ("lite1", 10, 1), ("lite0", 17, 2)])
def test_pack_keeps_every_weight(short, classes, colours):
    values, network = weights(short, classes, colours).parameters, build(short, classes, colours)
    buffer, offsets = packed(short, classes, colours).buffer, packed(short, classes, colours).offsets
    assert buffer.dtype == np.float32 and list(offsets) == [conv.name for conv in network.convs] + ["classifier"]
    end = 0
    for conv in network.convs:
        start, bias_start = offsets[conv.name]
        vectors = [np.float64(values[f"{conv.bn}.{leaf}"]) for leaf in ("weight", "bias", "running_mean", "running_var")]
        scale = vectors[0] / np.sqrt(vectors[3] + 0.001)
        expected = (np.float64(values[f"{conv.name}.weight"]) * scale[:, None, None, None]).astype(np.float32)
        assert start == end, f"{conv.name}: a gap or an overlap before its weights"
        np.testing.assert_array_equal(unpacked(buffer, start, conv.op, conv.weight_shape), expected, conv.name)
        end = bias_start + 4 * conv.out_channels
        assert bias_start == start + expected.nbytes
        expected = (vectors[1] - vectors[2] * scale).astype(np.float32)
        np.testing.assert_array_equal(buffer[bias_start // 4 : end // 4], expected, conv.name)
    rows = -(-classes // 8) * 8
    start, bias_start = offsets["classifier"]
    assert (start, bias_start, buffer.nbytes) == (end, end + rows * 1280 * 4, end + rows * 1281 * 4)
    got = unpacked(buffer, start, "pointwise", (rows, 1280, 1, 1))[:, :, 0, 0]
    np.testing.assert_array_equal(got[:classes], values["classifier.weight"])
    np.testing.assert_array_equal(buffer[bias_start // 4 :][:classes], values["classifier.bias"])
    assert not got[classes:].any() and not buffer[bias_start // 4 :][classes:].any()


def test_pack_pointwise_by_hand():
    """24 output channels of 2 inputs: a panel of 16 and one of 8, input channel after input channel."""
    weight = np.array([[m, 100 + m] for m in range(24)])
    expected = [*range(16), *range(100, 116), *range(16, 24), *range(116, 124)]
    out = np.full(48, -1.0)
    pack_pointwise(weight, out)
    assert out.tolist() == expected


def test_pack_rounds_once():
    """Folded in float64 and rounded to float32 at the end; float16 parameters are widened first."""
    full = weights("lite0", 8)
    half = {name: array.astype(np.float16) if array.dtype == np.float32 else array for name, array in full.parameters.items()}
    wide = {name: np.asarray(array, np.float64) for name, array in half.items()}
    got, expected = (pack(Weights(full.architecture, p, None, None, full.source)).buffer for p in (half, wide))
    np.testing.assert_array_equal(got, expected)
    conv = full.architecture.head
    folded, _ = reference.fold(conv, full.parameters)
    assert (folded != folded.astype(np.float32)).any()


@pytest.mark.parametrize("channels, expected", [(1, 8), (7, 8), (8, 8), (9, 16), (1000, 1000), (1001, 1008)])
def test_padded_channels(channels, expected):
    assert padded_channels(channels) == expected
