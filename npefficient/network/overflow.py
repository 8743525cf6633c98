"""Find finite weights that can overflow float32 inside the network."""
import math
import operator

import numpy as np

from ..errors import WeightsError
from .architecture import BN_EPS, Architecture, Conv

LARGEST = float(np.finfo(np.float32).max)
INPUT = 255.0  # the largest value of a picture that is not normalised; normalised ones stay within 3


def check_overflow(parameters: dict[str, np.ndarray], network: Architecture) -> None:
    """Raise WeightsError naming the first layer that can exceed float32, with its batch norm folded or not.

    The test uses a bound: a sum of n products is at most n times the largest weight times the largest input.
    """
    bound = network.propagate(INPUT, lambda conv, bound: _after(conv, parameters, bound), operator.add)
    if network.num_classes:
        weight, bias = (_largest(parameters[f"classifier.{leaf}"]) for leaf in ("weight", "bias"))
        _check("'classifier'", weight * bound * network.head_hidden_size + bias)


def _after(conv: Conv, parameters, bound: float) -> float:
    """The largest output of a convolution and its batch norm, for inputs of at most `bound`."""
    scale, shift, mean = (np.abs(parameters[f"{conv.bn}.{leaf}"].astype(np.float64))
                          for leaf in ("weight", "bias", "running_mean"))
    std = np.sqrt(parameters[f"{conv.bn}.running_var"].astype(np.float64) + BN_EPS)
    products = math.prod(conv.weight_shape[1:]) * max(bound, 1.0)  # at least 1: the folded weights must fit as well
    sums = products * _largest(parameters[f"{conv.name}.weight"], axis=(1, 2, 3)) + mean
    out = sums / std * scale + shift
    _check(f"{conv.name!r} with its batch norm {conv.bn!r}", np.max([sums, sums / std, out]))
    largest = float(out.max())
    return min(largest, 6.0) if conv.relu6 else largest


def largest_magnitude(array: np.ndarray, axis=None):
    """The largest absolute values along `axis`, in the array's dtype, which is float16 or float32; NaN beats infinity.

    Without their sign, the bits of floats are in the order of their values. As a whole number with a sign, the largest
    is that of the positive values; without one, that of the negative values, whose first bit is set. NumPy takes much
    longer for the minimum and maximum of float16, which processors do not compare, and nothing is copied here.
    """
    unsigned, signed = (array.view(f"{kind}{array.itemsize}").max(axis) for kind in "ui")
    magnitude = unsigned.dtype.type((1 << 8 * array.itemsize - 1) - 1)
    return np.maximum(unsigned & magnitude, signed.view(unsigned.dtype) & magnitude).view(array.dtype)


def _largest(array: np.ndarray, axis=None):
    return largest_magnitude(array, axis).astype(np.float64)


def _check(layer: str, value: float) -> None:
    if not value < LARGEST:
        raise WeightsError(f"layer {layer}: its weights can give values up to {value:.2g}, which float32 can't hold; "
                           "the training run that wrote them has diverged")
