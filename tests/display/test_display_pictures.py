"""Heat, grey and data URIs, on small arrays by hand."""
import base64
import io

import numpy as np
import pytest
from explanations import noise
from PIL import Image

from npefficient.display.pictures import AGAINST, FOR, OPAQUE, blend, colours, data_uri, grey, heat, shrink


def test_heat_goes_from_clear_to_the_strongest_colour():
    clear, strongest = heat(np.zeros((1, 1)), 2.0, (4, 6)), heat(np.full((1, 1), 2.0), 2.0, (4, 6))
    assert clear.shape == (4, 6, 4) and clear.dtype == np.uint8 and not clear[..., 3].any()
    assert (strongest[..., :3] == FOR[1]).all() and (strongest[..., 3] == round(255 * OPAQUE)).all()
    against = heat(np.full((1, 1), -2.0), 2.0, (1, 1))
    assert tuple(against[0, 0, :3]) == AGAINST[1]
    weak = heat(np.full((1, 1), 1e-3), 2.0, (1, 1))
    assert tuple(weak[0, 0, :3]) == FOR[0]


def test_heat_lies_where_the_value_is():
    values = np.zeros((3, 3), np.float32)
    values[0, 2] = 1
    alpha = heat(values, 1.0, (30, 30))[..., 3]
    assert np.unravel_index(alpha.argmax(), alpha.shape) >= (0, 20) and alpha[:10, 20:].mean() > 5 * alpha[10:].mean()


@pytest.mark.parametrize("scale", [0.0, 1e-30])
def test_heat_of_a_map_of_zeros(scale):
    assert not heat(np.zeros((2, 2), np.float32), scale, (8, 8))[..., 3].any()


def test_heat_never_swings_over():
    values = np.float32([[0, 1], [1, 0]])
    assert heat(values, 1.0, (64, 64))[..., 3].max() <= round(255 * OPAQUE)


def test_blend_by_hand():
    photo = np.full((1, 2, 3), 100, np.uint8)
    over = np.uint8([[[200, 0, 0, 0], [200, 0, 0, 255]]])
    assert blend(photo, over).tolist() == [[[100, 100, 100], [200, 0, 0]]]
    red = np.uint8([[[255, 0, 0]]])
    assert blend(red, over[:, :1]).tolist() == [[[76, 76, 76]]], "the photo turns grey"


def test_grey_by_hand():
    assert grey(np.array([[-1.0, 0.0, 1.0]]), -1, 1).tolist() == [[0, 128, 255]]
    assert grey(np.array([[0.0, 3.0]]), -3, 9).tolist() == [[64, 128]], "on a scale that others have, too"
    assert grey(np.full((2, 2), 7.0), 7, 7).tolist() == [[0, 0], [0, 0]]


def test_colours_are_not_smoothed():
    made = colours(np.float32([[-2, 0, 2]]), 2.0)
    assert made[0, :, :3].tolist()[::2] == [list(AGAINST[1]), list(FOR[1])]
    assert made[0, :, 3].tolist() == [round(255 * OPAQUE), 0, round(255 * OPAQUE)]


@pytest.mark.parametrize("shape, most, expected", [((100, 50, 3), 20, (20, 10, 3)), ((5, 9), 20, (5, 9)),
                                                   ((1, 4000, 3), 99, (1, 99, 3)), ((1, 1, 4), 1, (1, 1, 4))], ids=str)
def test_shrink(shape, most, expected):
    assert shrink(noise(*shape), most).shape == expected


@pytest.mark.parametrize("shape, kind, exact", [
    ((7, 7), "png", True), ((48, 48), "jpeg", False), ((64, 64, 3), "png", True), ((300, 200, 3), "jpeg", False),
    ((96, 96, 4), "png", True)], ids=str)
def test_data_uri_is_the_picture(shape, kind, exact):
    pixels = np.broadcast_to(np.linspace(0, 255, shape[1]).astype(np.uint8)[:, None] if len(shape) == 3 else
                             np.linspace(0, 255, shape[1]).astype(np.uint8), shape)
    head, _, body = data_uri(pixels).partition(",")
    assert head == f"data:image/{kind};base64"
    got = np.asarray(Image.open(io.BytesIO(base64.b64decode(body, validate=True))))
    assert got.shape == shape
    assert np.abs(got.astype(int) - pixels).max() <= (0 if exact else 12)
