"""Convert the values of a checkpoint to the types that a weight file stores."""
import numpy as np

from npefficient.common.text import listed, quoted
from npefficient.errors import WeightsError
from npefficient.network.architecture import Architecture
from npefficient.network.parameters import TRACKED

_SMALLEST = float(np.finfo(np.float32).smallest_normal)  # below it float32 loses digits, and finally becomes 0


def as_stored(tensors: dict[str, np.ndarray], network: Architecture) -> tuple[dict[str, np.ndarray], list[str]]:
    """Convert batch counts to int64 and float64 to float32; returns (tensors, warnings). float32 and float16 stay.

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
        warnings.append(f"{sum(map(len, lost.values())):,} float64 values are so small that float32 rounds them to 0 "
                        f"or to fewer digits: the largest is {lost[worst].max():.3g}, in {quoted(worst)}")
    return made, warnings


def _narrow(name: str, array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    large = np.isfinite(array) & ~np.isfinite(narrow)
    if large.any():
        raise WeightsError(f"{quoted(name)} holds {array[large].flat[0]}: it is too large for float32")
    return narrow


def _with_counts(tensors: dict[str, np.ndarray], network: Architecture) -> tuple[dict[str, np.ndarray], list[str]]:
    """Convert the batch counts to int64. Inference does not use them, so missing and invalid ones become 0.

    torch < 0.4.1 wrote none; `{name: tensor.half() ..}` makes them float16, where a large count becomes infinite.
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
                if not 0 <= value < 1 << 63 or value != int(value):  # NaN fails as well
                    odd.append(name)
                    value = 0
                made[name] = np.array(int(value), np.int64)
    warnings = []
    if missing:
        warnings.append(f"{len(missing)} batch counts ({listed(missing, 1)}) are missing: they are set to 0; inference "
                        "does not use them")
    if odd:
        warnings.append(f"{len(odd)} batch counts are not whole numbers of at least 0 ({quoted(odd[0])} is "
                        f"{tensors[odd[0]].item()!r}): they are set to 0; inference does not use them")
    return made, warnings
