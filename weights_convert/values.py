"""The values of a checkpoint as a weight file stores them, and what that changes."""
import numpy as np

from npefficient.common.text import listed, quoted
from npefficient.errors import WeightsError
from npefficient.network.architecture import Architecture
from npefficient.network.parameters import TRACKED

_SMALLEST = float(np.finfo(np.float32).smallest_normal)  # below it float32 has fewer digits, and at last none


def as_stored(tensors: dict[str, np.ndarray], network: Architecture) -> tuple[dict[str, np.ndarray], list[str]]:
    """Make batch counts int64 and float64 values float32; returns (tensors, warnings). float32 and float16 stay.

    Raises WeightsError for a value that is too large for float32.
    """
    made, warnings = _with_counts(tensors, network)
    lost = {}
    for name, array in made.items():
        if array.dtype == np.float64:
            made[name] = _narrow(name, array)
            small = array[(array != 0) & (array > -_SMALLEST) & (array < _SMALLEST)]
            if (small != small.astype(np.float32)).any():
                lost[name] = np.abs(small[small != small.astype(np.float32)])
    if lost:
        worst = max(lost, key=lambda name: lost[name].max())
        warnings.append(f"{sum(map(len, lost.values())):,} values of float64 are so small that float32 rounds them to "
                        f"0 or to fewer digits: the largest is {lost[worst].max():.3g}, in {quoted(worst)}")
    return made, warnings


def _narrow(name: str, array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    large = np.isfinite(array) & ~np.isfinite(narrow)
    if large.any():
        raise WeightsError(f"{quoted(name)} holds {array[large].flat[0]}: it is too large for float32")
    return narrow


def _with_counts(tensors: dict[str, np.ndarray], network: Architecture) -> tuple[dict[str, np.ndarray], list[str]]:
    """The batch counts as int64, which evaluation does not use: any one number will do, and 0 where there is none.

    torch < 0.4.1 wrote none, `{name: tensor.half() ..}` makes them float16, where a long training's count is infinite.
    """
    made, missing, odd = dict(tensors), [], []
    for name in network.parameters():
        if name.endswith(TRACKED):
            count = tensors.get(name)
            if count is None:
                missing.append(name)
                made[name] = np.array(0, np.int64)
            elif count.shape in ((), (1,)):
                value = count.item()
                if not 0 <= value < 1 << 63 or value != int(value):  # NaN fails, too
                    odd.append(name)
                    value = 0
                made[name] = np.array(int(value), np.int64)
    warnings = []
    if missing:
        warnings.append(f"{len(missing)} batch counts ({listed(missing, 1)}) are missing: they are set to 0, and "
                        "classifying does not use them")
    if odd:
        warnings.append(f"{len(odd)} batch counts are no whole numbers from 0 up ({quoted(odd[0])} is "
                        f"{tensors[odd[0]].item()!r}): they are set to 0, and classifying does not use them")
    return made, warnings
