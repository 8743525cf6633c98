"""Occlusion: patches covered by hand, with the network in plain NumPy, and how its map compares with the evidence."""
import numpy as np
import pytest
from explanations import digit, digits, digits_in_int8, noise
from tolerance import LOGITS, assert_close

import npefficient
from npefficient.errors import ArgumentError
from npefficient.explanation.occlusion import Agreement, agreement, falls, over_pixels, usual_patch
from npefficient.images.image import normalise
from npefficient.network.quantization import quantize
from npefficient.network.quantized_reference import QuantizedNetwork
from npefficient.network.reference import Network


def plain(precision):
    weights = digits().weights()
    return (Network(weights.architecture, weights.parameters) if precision == "float32" else
            QuantizedNetwork(quantize(weights)))


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_falls_are_those_of_the_plain_network(precision):
    explanation, network = digit("three", precision), plain(precision)
    x = normalise(explanation.cropped, explanation.preprocessing)
    assert explanation.patch == 10, "a seventh of 64, rounded up"
    before = network(x[None])[0]
    for row, column in ((0, 0), (3, 3), (6, 2), (6, 6)):
        covered = x.copy()
        covered[10 * row : 10 * row + 10, 10 * column : 10 * column + 10] = 0
        after = network(covered[None])[0]
        for one in explanation.classes:
            assert one.occlusion.shape == (7, 7) and one.occlusion.dtype == np.float32
            got = np.float32([before[one.index] - one.occlusion[row, column]])
            assert_close(got, after[one.index : one.index + 1], LOGITS)


def test_falls_of_any_patch_in_any_batch(monkeypatch):
    from npefficient.explanation import occlusion

    model, told = digits(), []
    x = normalise(noise(64, 64, 3))
    logits = model(x[None])[0]
    got = falls(model, x, logits, 20, lambda *done: told.append(done))
    assert got.shape == (4, 4, 10) and told == [(16, 16)]
    monkeypatch.setattr(occlusion, "AT_ONCE", 3)
    np.testing.assert_array_equal(falls(model, x, logits, 20, lambda *done: told.append(done)), got)
    assert told[1:] == [(3, 16), (6, 16), (9, 16), (12, 16), (15, 16), (16, 16)]
    np.testing.assert_array_equal(falls(model, x, logits, 64)[0, 0], logits - model(np.zeros_like(x)[None])[0])
    assert falls(model, x[:5, :9], logits, 4).shape == (2, 3, 10), "an input that is not square"


def test_covering_what_is_grey_already_changes_nothing():
    model, x = digits(), np.zeros((64, 64, 3), np.float32)
    assert not falls(model, x, model(x[None])[0], 32).any()


@pytest.mark.parametrize("size, expected", [((224, 224), 32), ((380, 380), 55), ((64, 64), 10), ((1, 1), 1),
                                            ((20, 70), 10)], ids=str)
def test_usual_patch_is_a_seventh(size, expected):
    assert usual_patch(*size) == expected


def test_over_pixels_by_hand():
    assert over_pixels(np.float32([[1, 2], [3, 4]]), 2, (3, 4)).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4]]


def test_agreement_by_hand():
    cells = np.float32([[0, 1], [2, 5]])
    assert agreement(cells, cells, 2, (4, 4)) == Agreement(pytest.approx(1), True)
    assert agreement(cells, -cells, 2, (4, 4)) == Agreement(pytest.approx(-1), False)
    assert agreement(np.ones((2, 2)), cells, 2, (4, 4)) == Agreement(None, False)
    fine = np.zeros((4, 4))
    fine[2, 3] = 1  # a pixel of the strongest cell
    assert agreement(cells, fine, 1, (4, 4)) == Agreement(pytest.approx(np.corrcoef(
        cells.repeat(2, 0).repeat(2, 1).ravel(), fine.ravel())[0, 1]), True)


def test_agreement_of_patches_that_are_no_cells():
    """Three cells over 7 pixels and patches of 3, of which the last is cut off: the centre decides."""
    cells = np.float32([[0, 9, 0]])
    for patch, same in ((0, False), (1, True), (2, False)):
        one = np.zeros((1, 3))
        one[0, patch] = 1
        assert agreement(cells, one, 3, (1, 7)).same == same


def test_occlusion_map_has_colour_where_a_patch_counts():
    explanation = digit("three")
    one, picture = explanation.classes[0], explanation.occlusion_map().astype(int)
    row, column = np.unravel_index(np.abs(one.occlusion).argmax(), one.occlusion.shape)
    part = np.ptp(picture[10 * row : 10 * row + 10, 10 * column : 10 * column + 10], axis=2)
    assert picture.shape == (64, 64, 3) and part.mean() > 2 * np.ptp(picture, axis=2).mean()
    assert explanation.occlusion_scale == max(np.abs(other.occlusion).max() for other in explanation.classes)
    assert (explanation.occlusion_map("three", "zero") != picture).any()
    assert explanation.agreement(one) == agreement(one.map, one.occlusion, 10, (64, 64))


def test_explanation_without_occlusion():
    got = npefficient.explain(noise(9, 9, 3), digits_in_int8(), measure=False, occlusion=False)
    assert got.patch is None and got.classes[0].occlusion is None is got.classes[0].minus(got.classes[1]).occlusion
    for call in (got.occlusion_map, lambda: got.agreement(got.view()), lambda: got.occlusion_scale):
        with pytest.raises(ArgumentError, match="made without occlusion: call explain with occlusion=True"):
            call()
