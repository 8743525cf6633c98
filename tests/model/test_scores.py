"""Softmax and top-k."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from live import needs_timm, torch
from tolerance import assert_close

from npefficient.errors import ArgumentError
from npefficient.scores import softmax, top_k

DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
THIRD = 1 / 3


@DTYPE
@pytest.mark.parametrize("logits, expected", [
    pytest.param([0, 0, 0, 0], [0.25] * 4, id="equal"),
    pytest.param([7], [1], id="one_class"),
    pytest.param([np.log(1), np.log(2), np.log(5)], [0.125, 0.25, 0.625], id="logarithms"),
    pytest.param([1e4, 1e4, -1e4], [0.5, 0.5, 0], id="large_does_not_overflow"),
    pytest.param([3e38, 3e38, 3e38], [THIRD] * 3, id="largest_of_float32"),
    pytest.param([-1e4, -1e4, -1e4], [THIRD] * 3, id="all_very_negative"),
    pytest.param([0, -np.inf], [1, 0], id="impossible_class"),
    pytest.param([[0, 0], [np.log(3), 0]], [[0.5, 0.5], [0.75, 0.25]], id="batch"),
])
def test_softmax(logits, expected, dtype):
    assert_close(softmax(np.array(logits, dtype)), np.array(expected, dtype), 2)


def test_softmax_large_differences_keep_their_order():
    got = softmax(np.float32([-200.0, 0.0, 88.0]))
    assert got.dtype == np.float32 and got[0] == 0 and 0 < got[1] < 1e-37 and got[2] == 1


def test_softmax_leaves_its_input_alone():
    logits = np.float32([[1, 2], [3, 4]])
    softmax(logits)
    np.testing.assert_array_equal(logits, np.float32([[1, 2], [3, 4]]))


finite = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=6),
                    elements=st.floats(-(2.0**100), 2.0**100, width=32))


@given(finite)
def test_softmax_is_a_distribution(logits):
    got = softmax(logits)
    assert (got >= 0).all() and (got <= 1).all()
    assert_close(got.sum(axis=-1, keepdims=True), np.ones((*logits.shape[:-1], 1), np.float32), 6)
    assert np.take_along_axis(got, logits.argmax(axis=-1)[..., None], -1).min() >= 1 / logits.shape[-1] * 0.999


@needs_timm
def test_softmax_and_top_k_equal_torch():
    logits = np.random.default_rng(0).normal(0, 3, (5, 1000)).astype(np.float32)
    expected = torch.from_numpy(logits).softmax(-1)
    assert_close(softmax(logits), expected.numpy(), 1000)
    values, classes = expected.topk(5)
    np.testing.assert_array_equal(top_k(logits, 5)[1], classes.numpy())
    np.testing.assert_array_equal(top_k(expected.numpy(), 5)[0], values.numpy())


@pytest.mark.parametrize("scores, k, values, classes", [
    pytest.param([3, 1, 2], 2, [3, 2], [0, 2], id="plain"),
    pytest.param([1, 5, 5, 1, 5], 4, [5, 5, 5, 1], [1, 2, 4, 0], id="ties_lower_class_first"),
    pytest.param([0.0, -0.0], 2, [0, 0], [0, 1], id="tie_of_zeros"),
    pytest.param([2, 2, 2], 1, [2], [0], id="all_equal"),
    pytest.param([1, 2], 5, [2, 1], [1, 0], id="more_than_there_are"),
    pytest.param([4], 1, [4], [0], id="one_class"),
    pytest.param([-np.inf, np.inf, 0], 3, [np.inf, 0, -np.inf], [1, 2, 0], id="infinities"),
    pytest.param([3e38, -3e38, 1e-45], 3, [3e38, 1e-45, -3e38], [0, 2, 1], id="extremes"),
    pytest.param([0, np.nan, 1], 2, [np.nan, 1], [1, 2], id="nan_first_as_in_torch"),
    pytest.param([[1, 2, 3], [3, 2, 1]], 2, [[3, 2], [3, 2]], [[2, 1], [0, 1]], id="batch"),
])
def test_top_k(scores, k, values, classes):
    got = top_k(np.float32(scores), k)
    np.testing.assert_array_equal(got[0], np.float32(values))
    np.testing.assert_array_equal(got[1], classes)
    assert got[0].dtype == np.float32 and got[1].dtype == np.int64 and got[0].shape == np.shape(values)


def test_top_k_gives_five_unless_told():
    assert top_k(np.arange(10.0))[1].tolist() == [9, 8, 7, 6, 5]
    assert top_k(np.arange(10.0), np.int64(1))[1].tolist() == [9]


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_], ids=lambda d: d.__name__)
def test_top_k_of_whole_numbers(dtype):
    scores = np.array([0, 1, 0, 1], dtype)
    assert top_k(scores, 3)[1].tolist() == [1, 3, 0]
    assert top_k(scores, 3)[0].dtype == dtype
    assert top_k(scores.tolist(), 3)[1].tolist() == [1, 3, 0]


@given(finite, st.integers(1, 8))
def test_top_k_equals_sorting(scores, k):
    values, classes = top_k(scores, k)
    for index in np.ndindex(scores.shape[:-1]):
        expected = sorted(range(scores.shape[-1]), key=lambda c: (-scores[index][c], c))[:k]
        assert classes[index].tolist() == expected
        assert values[index].tolist() == scores[index][expected].tolist()


@pytest.mark.parametrize("k", [0, -1, 2.0, True, "5", None, np.float64(3)], ids=repr)
def test_top_k_refuses(k):
    with pytest.raises(ArgumentError, match="it must be a whole number of at least 1") as caught:
        top_k(np.arange(3.0), k)
    shown = k.item() if isinstance(k, np.generic) else k
    assert str(caught.value) == f"k {shown!r}: it must be a whole number of at least 1"
