"""The tolerance allows for rounding, and for nothing else."""
import numpy as np
import pytest
from tolerance import LOGITS, assert_close, tolerance

EXPECTED = np.linspace(-3, 3, 12).reshape(3, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tolerance_accepts_rounding(dtype):
    expected = EXPECTED.astype(dtype)
    assert_close(expected, expected, 1)
    assert_close(np.nextafter(expected, dtype(9)), expected, 1)
    assert_close(expected[:0], expected[:0], 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 27, 1152])
def test_tolerance_rejects_a_little_more(dtype, length):
    expected = EXPECTED.astype(dtype)
    got, step = expected.copy(), tolerance(dtype, length, 3.0)
    got[1, 2] += 0.9 * step
    assert_close(got, expected, length)
    got[1, 2] += 0.3 * step
    with pytest.raises(AssertionError, match=r"at \(1, 2\): they differ by"):
        assert_close(got, expected, length)


@pytest.mark.parametrize("got, message", [
    pytest.param(np.where(EXPECTED > 2, np.nan, EXPECTED), "got has nan", id="nan"),
    pytest.param(np.where(EXPECTED > 2, np.inf, EXPECTED), "got has inf", id="infinity"),
    pytest.param(EXPECTED.astype(np.float32), "got dtype float32, expected float64", id="dtype"),
    pytest.param(EXPECTED.T.copy(), r"got shape \(4, 3\), expected \(3, 4\)", id="shape"),
    pytest.param(EXPECTED[None], r"got shape \(1, 3, 4\), expected \(3, 4\)", id="broadcastable_axis"),
    pytest.param(EXPECTED[:1], r"got shape \(1, 4\), expected \(3, 4\)", id="broadcastable_row"),
    pytest.param(EXPECTED[0, 0], "got float64, expected an array", id="scalar"),
    pytest.param(EXPECTED.tolist(), "got list, expected an array", id="list"),
    pytest.param(-EXPECTED, "they differ by 6, allowed", id="sign"),
    pytest.param(np.zeros((3, 4)), "they differ by 3, allowed", id="zeros"),
])
def test_tolerance_rejects(got, message):
    with pytest.raises(AssertionError, match=message):
        assert_close(got, EXPECTED, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_tolerance_rejects_a_bad_expectation(bad):
    expected = np.array([1.0, bad])
    with pytest.raises(AssertionError, match=f"expected has {bad}"):
        assert_close(np.ones(2), expected, 1)
    with pytest.raises(AssertionError, match=f"got has {bad}"):
        assert_close(expected, expected, 1)


def test_tolerance_of_logits_is_the_promised_one():
    assert tolerance(np.float32, LOGITS, 0.1) == pytest.approx(2e-5, rel=1e-3)
    assert tolerance(np.float32, LOGITS, 0.1) <= 2e-5
    assert tolerance(np.float32, LOGITS, 7.0) == pytest.approx(7 * 2e-5, rel=1e-3)


def test_tolerance_grows_with_the_length_and_the_size():
    assert tolerance(np.float32, 4, 1.0) == 2 * tolerance(np.float32, 1, 1.0)
    assert tolerance(np.float32, 1, 10.0) == 10 * tolerance(np.float32, 1, 1.0)
    assert tolerance(np.float64, 9, 1.0) < 1e-8 * tolerance(np.float32, 9, 1.0)
