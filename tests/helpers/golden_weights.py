"""The golden weights of a variant, as the engine takes them and as it packs them."""
import functools

from make_golden import golden_parameters

from npefficient.engine.pack import pack
from npefficient.network.architecture import build
from npefficient.network.parameters import Source, Weights


@functools.cache
def weights(short, classes=1000, colours=3):
    network = build(short, classes, colours)
    values = golden_parameters(network.parameters())
    return Weights(network, values, network.variant.preprocessing, None, Source("golden", "", "random"))


@functools.cache
def packed(short, classes=1000, colours=3):
    return pack(weights(short, classes, colours))
