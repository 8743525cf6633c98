"""How close two float32 computations of one layer's output have to be."""
import math

import numpy as np
from tolerance import LOGITS, assert_close


def products(network) -> dict[str, int]:
    """Layer -> total number of products in the consecutive sums from the picture to its output, on the longest path."""
    total, lengths = 0, {}
    for conv in network.convs:
        total += math.prod(conv.weight_shape[1:])
        lengths[conv.name] = lengths[conv.bn] = lengths[f"{conv.bn}.act"] = total
        block = conv.name.rpartition(".")[0]
        lengths[block] = lengths[block.rpartition(".")[0]] = total
    return lengths


def assert_map(got, expected, network, name: str) -> None:
    """Fail unless two float32 computations of a layer agree, within a tolerance relative to the map's largest value.

    Both round, each product on the way once, and a batch norm enlarges the errors before it just as it enlarges the
    differences between pictures: so the tolerance is that of sums as long as the whole way, twice. Behind the pool,
    where the errors of many pixels average out, what the logits promise holds.
    """
    largest = np.abs(expected).max()
    assert largest > 0.1, f"{name}: nothing comes out of this layer, largest {largest:g}"
    length = 2 * products(network).get(name, LOGITS / 2)
    try:
        assert_close(got / largest, expected / largest, length)
    except AssertionError as error:
        raise AssertionError(f"{name}: {error}") from None
