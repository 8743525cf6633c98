"""The engine with weights of 8 bits: equal to the plain integer network, to the last bit."""
import functools

import numpy as np
import pytest
from engines import pixels
from golden_weights import weights
from int8_calls import LAYOUTS

from npefficient.engine.engine import Engine
from npefficient.kernels.layout import FLOAT32, INT8
from npefficient.network.architecture import build
from npefficient.network.parameters import random_weights
from npefficient.network.quantization import quantize
from npefficient.network.quantized_reference import QuantizedNetwork, real

each_threads = pytest.mark.parametrize("threads", [1, 2, 3])


@functools.cache
def quantized(short="lite0", classes=1000, colours=3, pool="avg"):
    if pool == "avg":
        return quantize(weights(short, classes, colours))
    return quantize(random_weights(build(short, classes, colours, pool)))


@functools.cache
def engine(threads, layout=INT8, **network):
    return Engine(quantized(**network), threads, layout)


@functools.cache
def expected(short, size, count=2, colours=3, **network):
    """Every layer's output, by name, as floats."""
    x = pixels(count, *size, colours, seed=sum(size))
    plain = QuantizedNetwork(quantized(short, colours=colours, **network))
    return x, {name: real(output) for name, output in plain.layers(x)}


@each_threads
@pytest.mark.parametrize("short, size", [
    ("lite0", (64, 47)), ("lite0", (1, 1)), ("lite0", (5, 90)), ("lite0", (224, 32)), ("lite1", (33, 40)),
    ("lite2", (47, 31)), ("lite3", (34, 33)), ("lite4", (40, 51))], ids=str)
def test_logits_equal_the_definition(short, size, threads):
    x, layers = expected(short, size)
    assert layers["classifier"].std() > 0.01
    np.testing.assert_array_equal(engine(threads, short=short)(x), layers["classifier"])


@pytest.mark.parametrize("threads", [1, 2])
def test_every_layer_equals_the_definition(threads):
    """Each kept to the end, so that no two are fused."""
    x, layers = expected("lite0", (37, 50))
    for name, output in engine(threads).outputs(x, list(layers)).items():
        np.testing.assert_array_equal(output, layers[name], err_msg=name)


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS.values() if layout != INT8], ids=str)
def test_layouts_of_other_processors_give_the_same_bits(layout):
    """Those with values of 16 bits; this processor computes with vectors as wide as it has."""
    x, layers = expected("lite0", (37, 50))
    np.testing.assert_array_equal(engine(2, layout)(x), layers["classifier"])


@pytest.mark.parametrize("pool, classes", [("max", 7), ("avgmax", 7), ("catavgmax", 10), ("catavgmax", 0), ("", 0)])
def test_other_pools(pool, classes):
    x, layers = expected("lite0", (70, 41), classes=classes, pool=pool)
    (name, output), = engine(2, classes=classes, pool=pool).outputs(x, [list(layers)[-1]]).items()
    np.testing.assert_array_equal(output, layers[name])


@pytest.mark.parametrize("colours", [1, 4])
def test_other_channels(colours):
    x, layers = expected("lite0", (33, 20), colours=colours, classes=10)
    np.testing.assert_array_equal(engine(2, colours=colours, classes=10)(x), layers["classifier"])


@each_threads
def test_head_of_features(threads):
    """The last feature map as floats, which stand for whole steps."""
    x, layers = expected("lite0", (64, 47))
    got = engine(threads).head_outputs(layers["conv_head"], ["global_pool", "classifier"])
    for name, output in got.items():
        np.testing.assert_array_equal(output, layers[name])


@each_threads
def test_batches(threads):
    x, layers = expected("lite0", (30, 21), 7)
    for count in (1, 2, 3, 7):
        got = np.concatenate([engine(threads)(x[i : i + count]) for i in range(0, 7, count)])
        np.testing.assert_array_equal(got, layers["classifier"])


def test_workers_serve_both_formats_in_turns():
    """A worker that spins for a job in one driver leaves it for a job of the other."""
    floats = Engine(weights("lite0"), 2)
    x, layers = expected("lite0", (64, 47))
    plain = floats(x[:1])
    for _ in range(200):
        np.testing.assert_array_equal(engine(2)(x[:1]), layers["classifier"][:1])
        np.testing.assert_array_equal(floats(x[:1]), plain)
    assert floats.packed.layout == FLOAT32 != engine(2).packed.layout
