"""The one tolerance of all numeric tests."""
import numpy as np

# The length that makes float32's tolerance 2e-5 * max(1, largest): what we promise for the logits of a whole network.
# Its last sum has 1280 terms; batch norms and clamps keep earlier errors from growing.
LOGITS = 1758


def tolerance(dtype, length: int, largest: float) -> float:
    """The error allowed to sums of `length` products in `dtype` whose largest result is `largest`.

    n roundings, each at most eps / 2 of the sum so far, err in any direction: their sum grows like sqrt(n), not like n
    (Higham & Mary 2019, doi 10.1137/18M1226312). Eight such deviations, and sums that are no larger on the way than the
    largest result, give 4 eps sqrt(n) max(1, largest).
    """
    return 4.0 * float(np.finfo(dtype).eps) * length**0.5 * max(1.0, largest)


def assert_close(got, expected, length: int) -> None:
    """Fail unless `got` has the shape and dtype of `expected` and its values within the tolerance; NaN never passes."""
    assert isinstance(got, np.ndarray), f"got {type(got).__name__}, expected an array"
    assert got.dtype == expected.dtype, f"got dtype {got.dtype}, expected {expected.dtype}"
    assert got.shape == expected.shape, f"got shape {got.shape}, expected {expected.shape}"
    for name, array in (("got", got), ("expected", expected)):
        assert np.isfinite(array).all(), f"{name} has {array[~np.isfinite(array)][0]}"
    if got.size == 0:
        return
    difference = np.abs(got.astype(np.float64) - expected)
    worst = np.unravel_index(difference.argmax(), difference.shape)
    allowed = tolerance(got.dtype, length, float(np.abs(expected).max()))
    assert difference[worst] <= allowed, (
        f"got {got[worst]!r}, expected {expected[worst]!r} at {tuple(map(int, worst))}: "
        f"they differ by {difference[worst]:.3g}, allowed {allowed:.3g}")
