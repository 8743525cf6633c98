"""The packed weights: each can be found where its format says, folded in float64 and rounded once."""
import numpy as np
import pytest
from golden_weights import packed, weights
from layouts import AVX2, AVX512, LANES, SSE

from npefficient.engine.pack import pack
from npefficient.kernels.memory import ALIGNMENT
from npefficient.kernels.packing import pack_weight, packed_size
from npefficient.network.architecture import build
from npefficient.network.folding import fold
from npefficient.network.parameters import Weights

SHORT = [f"lite{i}" for i in range(5)]
NETWORKS = [*((short, 1000, 3) for short in SHORT), ("lite0", 1, 1), ("lite0", 8, 4), ("lite1", 10, 1),
            ("lite0", 17, 2)]
BATCH_NORM = "weight", "bias", "running_mean", "running_var"


@pytest.fixture(params=[SSE, AVX2, AVX512], ids=lambda layout: f"lanes_{layout.lanes}")
def layout(request):
    """Other processors' layouts too: packing needs no such processor."""
    return request.param


def panel_of(vector, count):
    """(first vector, vectors) of the panel of a vector: threes as long as what is left is no 1, then twos."""
    threes = count // 3 - (count % 3 == 1 and count > 1)
    first = np.where(vector < 3 * threes, vector // 3 * 3, 3 * threes + (vector - 3 * threes) // 2 * 2)
    return first, np.where(vector < 3 * threes, 3, np.minimum(2, count - first))


def unpacked(buffer, start, op, shape, lanes):
    """Read (M, C, K, K) back, each weight from the place that the format gives it."""
    m, c, kernel, _ = shape
    o, i, dy, dx = np.indices(shape)
    taps, tap = kernel * kernel, dy * kernel + dx
    if op == "depthwise":
        place = (o // lanes * taps + tap) * lanes + o % lanes
    else:
        count = -(-m // lanes)
        first, size = panel_of(o // lanes, count)
        half = (first + size == count) & (0 < m % lanes <= 8) & (lanes == 16)
        place = first * lanes * taps * c + (tap * c + i) * (size * lanes - half * 8) + o - first * lanes
    return buffer[start // 4 + place]


def assert_packed(found, values, network, lanes):
    """Every weight in its place, zeros where there is none, each layer at a vector's start behind the one before."""
    buffer, offsets = found.buffer, found.offsets
    assert buffer.dtype == np.float32 and list(offsets) == [conv.name for conv in network.convs] + ["classifier"]
    left = np.ones(buffer.size, bool)  # what no layer has claimed
    end = 0
    for conv in network.convs:
        gain, shift, mean, variance = (np.float64(values[f"{conv.bn}.{leaf}"]) for leaf in BATCH_NORM)
        scale = gain / np.sqrt(variance + 0.001)
        weight = (np.float64(values[f"{conv.name}.weight"]) * scale[:, None, None, None]).astype(np.float32)
        bias = (shift - mean * scale).astype(np.float32)
        end = claim(buffer, left, offsets[conv.name], end, conv.name, conv.op, weight, bias, lanes)
    rows = -(-len(values["classifier.bias"]) // lanes) * lanes  # whole vectors
    weight, bias = np.zeros((rows, 1280, 1, 1), np.float32), np.zeros(rows, np.float32)
    weight[: len(values["classifier.bias"]), :, 0, 0] = values["classifier.weight"]
    bias[: len(values["classifier.bias"])] = values["classifier.bias"]
    end = claim(buffer, left, offsets["classifier"], end, "classifier", "pointwise", weight, bias, lanes)
    assert buffer.nbytes == end
    assert not buffer[left].any(), "something between the layers"


def claim(buffer, left, offset, end, name, op, weight, bias, lanes):
    """Check one layer that begins at byte `end`; returns where the next one begins."""
    start, bias_start = offset
    assert start == end, f"{name}: a gap or an overlap before its weights"
    assert start % (4 * lanes) == bias_start % (4 * min(lanes, 8)) == 0, f"{name}: not at a vector's start"
    m, *_ = weight.shape
    padded = -(-m // lanes) * lanes
    half = 8 if op != "depthwise" and lanes == 16 and 0 < m % 16 <= 8 and m > 16 else 0
    assert bias_start - start == 4 * (padded - half) * (weight.size // m), f"{name}: not as long as its weights"
    np.testing.assert_array_equal(unpacked(buffer, start, op, weight.shape, lanes), weight, name)
    np.testing.assert_array_equal(buffer[bias_start // 4 :][:m], bias, name)
    left[unpacked(np.arange(buffer.size), start, op, weight.shape, lanes)] = False
    left[bias_start // 4 : bias_start // 4 + m] = False
    return -(-(bias_start + 4 * padded) // (4 * lanes)) * 4 * lanes


@pytest.mark.parametrize("short, classes, colours", NETWORKS)
def test_pack_keeps_every_weight(short, classes, colours):
    found = packed(short, classes, colours)
    assert found.address % ALIGNMENT == 0
    assert_packed(found, weights(short, classes, colours).parameters, build(short, classes, colours), LANES)


@pytest.mark.parametrize("short, classes, colours", [("lite0", 1000, 3), ("lite2", 17, 1)])
def test_pack_keeps_every_weight_in_other_vectors(layout, short, classes, colours):
    full = weights(short, classes, colours)
    assert_packed(pack(full, layout), full.parameters, full.architecture, layout.lanes)


@pytest.mark.parametrize("change, match", [
    pytest.param(lambda buffer: buffer[[7, 8]].tolist()[::-1], "conv_stem", id="weights_changed_places"),
    pytest.param(lambda buffer: [np.nextafter(buffer[7], np.float32(9)), buffer[8]], "conv_stem", id="one_bit"),
])
def test_assert_packed_shows_a_wrong_weight(change, match):
    found = pack(weights("lite0", 8))
    found.buffer[[7, 8]] = change(found.buffer)
    with pytest.raises(AssertionError, match=match):
        assert_packed(found, weights("lite0", 8).parameters, build("lite0", 8), LANES)


def test_assert_packed_shows_what_lies_between():
    """With one class, most of the classifier's rows are zeros."""
    found = pack(weights("lite0", 1))
    found.buffer[-1] = 1
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        assert_packed(found, weights("lite0", 1).parameters, build("lite0", 1), LANES)
    found.buffer[-1] = 0
    start, bias = found.offsets["classifier"]
    found.offsets["classifier"] = start + 4 * LANES, bias
    with pytest.raises(AssertionError, match="classifier: a gap or an overlap"):
        assert_packed(found, weights("lite0", 1).parameters, build("lite0", 1), LANES)


# --- by hand ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op, channels, expected", [
    ("pointwise", 24, {4: [12, 12], 8: [24], 16: [24]}), ("pointwise", 40, {4: [12, 12, 8, 8], 8: [24, 16], 16: [40]}),
    ("pointwise", 32, {4: [12, 12, 8], 8: [16, 16], 16: [32]}), ("pointwise", 8, {4: [8], 8: [8], 16: [16]}),
    ("pointwise", 56, {4: [12, 12, 12, 12, 8], 8: [24, 16, 16], 16: [32, 24]}),
    ("stem", 32, {4: [12, 12, 8], 8: [16, 16], 16: [32]}),
    ("depthwise", 40, {4: [4] * 10, 8: [8] * 5, 16: [16] * 3}),
])
def test_pack_weight_by_hand(layout, op, channels, expected):
    """Panels of so many channels one after the other, in each tap after tap, input channel after input channel."""
    widths, (c, k) = expected[layout.lanes], (1, 3) if op == "depthwise" else (2, 1) if op == "pointwise" else (2, 3)
    weight = np.arange(1, channels * c * k * k + 1).reshape(channels, c, k, k)
    by_hand, first = [], 0
    for width in widths:
        for dy in range(k):
            for dx in range(k):
                for i in range(c):
                    by_hand += [weight[m, i, dy, dx] if m < channels else 0 for m in range(first, first + width)]
        first += width
    out = np.zeros(len(by_hand), np.float32)
    pack_weight(layout, op, weight, out)
    assert out.tolist() == by_hand
    assert packed_size(layout, op, weight.shape) == 4 * len(by_hand)
    if op != "depthwise":
        assert layout.panel_widths(channels) == widths


def test_pack_rounds_once():
    """Folded in float64 and rounded to float32 at the end; float16 parameters are widened first."""
    full = weights("lite0", 8)
    half = {name: array.astype(np.float16) if array.dtype == np.float32 else array
            for name, array in full.parameters.items()}
    wide = {name: np.asarray(array, np.float64) for name, array in half.items()}
    got, expected = (pack(Weights(full.architecture, p, None, None, full.source)).buffer for p in (half, wide))
    np.testing.assert_array_equal(got, expected)
    conv = full.architecture.head
    folded, _ = fold(conv, full.parameters)
    assert (folded != folded.astype(np.float32)).any()


@pytest.mark.parametrize("channels, expected", [
    (1, (4, 8, 16)), (4, (4, 8, 16)), (7, (8, 8, 16)), (8, (8, 8, 16)), (9, (12, 16, 16)), (17, (20, 24, 32)),
    (1000, (1000, 1000, 1008)), (1001, (1004, 1008, 1008))])
def test_padded_channels(layout, channels, expected):
    assert layout.padded(channels) == expected[(4, 8, 16).index(layout.lanes)]


# --- weights at float32's ends ---------------------------------------------------------------------------------------


def changed(**values):
    """Weights of a Lite0 with one value in the place of each tensor's first one; "__" stands for "."."""
    full = weights("lite0", 8)
    parameters = dict(full.parameters)
    for name, value in values.items():
        name = name.replace("__", ".")
        parameters[name] = parameters[name].copy()
        parameters[name].flat[0] = value
    return Weights(full.architecture, parameters, None, None, full.source)


@pytest.mark.parametrize("values", [{"classifier__weight": 1e30}, {"bn1__weight": 1e20}, {"bn2__bias": 1e38}])
def test_pack_takes_weights_that_are_only_large(values):
    assert np.isfinite(pack(changed(**values)).buffer).all()


@pytest.mark.parametrize("factor, expected", [(1, 1), (1.5, 1.5), (-1.5, -1.5), (0.9, 0), (-0.9, 0), (1e-7, 0)])
def test_pack_makes_zeros_of_what_has_not_full_precision(factor, expected):
    """Some processors take 140 times as long for denormal numbers."""
    tiny = np.finfo(np.float32).tiny
    found = pack(changed(classifier__weight=factor * tiny, classifier__bias=factor * tiny))
    first, bias = (found.buffer[place // 4] for place in found.offsets["classifier"])
    assert first == bias == np.float32(expected * tiny)


def test_pack_makes_zeros_of_a_batch_norm_that_leaves_no_full_precision():
    full, found = pack(changed()), pack(changed(bn2__weight=1e-42))
    first = full.offsets["conv_head"][0] // 4
    assert full.buffer[first] and found.buffer[first] == 0
    assert (np.abs(found.buffer[found.buffer != 0]) >= np.finfo(np.float32).tiny).all()
