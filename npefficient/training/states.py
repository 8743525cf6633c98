"""Arrays by name that a run saves and restores to the bit."""
import numpy as np

from ..common.text import listed
from ..errors import WeightsError


def copies(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays, each with memory of its own."""
    return {name: array.copy() for name, array in arrays.items()}


def restore(kept: dict[str, np.ndarray], saved: dict[str, np.ndarray], what: str) -> None:
    """Copy saved arrays into those that are kept, in place; `what` messages call them, such as "optimizer state".

    Raises WeightsError, and changes nothing, unless names, shapes and dtypes are the same.
    """
    wrong = [name for name in kept if name in saved
             and (saved[name].shape, saved[name].dtype) != (kept[name].shape, kept[name].dtype)]
    for problem, names in (("missing", kept.keys() - saved.keys()), ("unexpected", saved.keys() - kept.keys()),
                           ("of another shape or dtype", wrong)):
        if names:
            raise WeightsError(f"{what}: {listed(sorted(names))} {problem}; it was saved by a run with another network "
                               "or other options: go on with those, or start anew")
    for name, array in kept.items():
        array[...] = saved[name]
