"""One channel of each K x K convolution: its numbers are the plain network's, and make up its output."""
import numpy as np
import pytest
from explanations import digit, digits, noise
from tolerance import LOGITS, tolerance

import npefficient
from npefficient.images.image import normalise
from npefficient.network.architecture import same_padding
from npefficient.network.quantization import quantize
from npefficient.network.quantized_reference import QuantizedNetwork
from npefficient.network.reference import Network

STEP = 6 / 255


def by_hand(one, row, column):
    """One output, from the definition, in float64."""
    total = 0.0
    for i, j in np.ndindex(one.kernel, one.kernel):
        r, c = row * one.stride + i - one.padding[0], column * one.stride + j - one.padding[1]
        if 0 <= r < one.x.shape[0] and 0 <= c < one.x.shape[1]:
            total += float(one.x[r, c].astype(np.float64) @ one.weight[i, j].astype(np.float64))
    total = total * one.scale + one.bias
    return np.rint(min(max(total, 0), 255)) * one.step if one.step else min(max(total, 0), 6)


def pixels(one):
    """The four corners and the middle: with padding on each side, and without."""
    rows, columns = one.out.shape
    return {(row, column) for row in (0, rows - 1) for column in (0, columns - 1)} | {(rows // 2, columns // 2)}


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_numbers_make_up_the_output(precision):
    sums = digit("three", precision).sums
    assert len(sums) == 17 and {one.kernel for one in sums} == {3, 5} and {one.stride for one in sums} == {1, 2}
    for one in sums:
        for row, column in pixels(one):
            assert abs(by_hand(one, row, column) - one.out[row, column]) < 1e-5, one
    assert {one.x.dtype for one in sums} == ({np.dtype(np.float32)} if precision == "float32" else
                                             {np.dtype(np.float32), np.dtype(np.uint8)})


def test_numbers_are_those_of_the_plain_network():
    weights, explanation = digits().weights(), digit()
    network = Network(weights.architecture, weights.parameters)
    x = normalise(explanation.cropped, explanation.preprocessing)
    made, before = dict(network.layers(x[None])), {}
    for first, second in zip(made, list(made)[1:]):
        before[second] = made[first]
    for one in explanation.sums:
        expected = made[one.layer][0]
        read = x if one.layer == "conv_stem" else before[one.layer][0, ..., one.channel : one.channel + 1]
        np.testing.assert_allclose(one.x, read, rtol=0, atol=tolerance(np.float32, LOGITS, 6.0))
        np.testing.assert_allclose(one.out, expected[..., one.channel], rtol=0, atol=tolerance(np.float32, LOGITS, 6.0))
        spread = expected.std((0, 1))
        assert spread[one.channel] > 0.99 * spread.max(), "the channel that varies most"
        assert one.padding == tuple(same_padding(size, one.kernel, one.stride)[0] for size in one.x.shape[:2])


def test_numbers_in_int8_are_its_integers():
    weights, explanation = quantize(digits().weights()), digit("three", "int8")
    x = normalise(explanation.cropped, explanation.preprocessing)
    made, before = dict(QuantizedNetwork(weights).layers(x[None])), {}
    for first, second in zip(made, list(made)[1:]):
        before[second] = made[first]
    for one in explanation.sums[2:]:
        np.testing.assert_array_equal(one.x, before[one.layer][0, ..., one.channel : one.channel + 1])
        np.testing.assert_array_equal(one.weight[..., 0], weights.layers[one.layer].weight[one.channel, 0])
        np.testing.assert_array_equal(np.rint(one.out / STEP), made[one.layer][0, ..., one.channel])
    stem, first = explanation.sums[:2]
    assert stem.step == 0 and first.step == pytest.approx(STEP) and stem.scale == first.scale == 1


def test_sums_of_a_network_with_one_input_channel():
    model = npefficient.create_model("lite0", num_classes=3, in_chans=1, num_threads=1)
    model.preprocessing = npefficient.Preprocessing((33, 47))
    got = npefficient.explain(noise(50, 50, 1), model, measure=False, occlusion=False)
    assert got.sums[0].x.shape == (33, 47, 1) and got.sums[0].weight.shape == (3, 3, 1)
    assert repr(got.sums[0]).startswith("ChannelSums(conv_stem, channel ")
    for one in got.sums[:3]:
        assert abs(by_hand(one, 0, 0) - one.out[0, 0]) < 1e-5
    assert got.to_html().count('class="probe ') == 17
