"""The compiled passes of training: each layer and whole networks against NumPy in float64, and the same bits always."""
import weakref

import numpy as np
import pytest
from engines import shape_id
from tolerance import assert_close
from training_passes import D, F, Watched, assert_same, before_relu6, dlogits_for, network, pictures, some_masks

from npefficient.engine import training_layers
from npefficient.engine import training_steps as steps
from npefficient.engine.training import TrainingEngine
from npefficient.kernels.layout import TRAINING, Layout
from npefficient.network.training_network import TrainingNetwork

VARIANTS = [f"lite{i}" for i in range(5)]
SSE = Layout(4, 16, training=True)
NORM = pytest.mark.parametrize("train_batch_norm", [True, False], ids=["train", "frozen"])

# How far whole networks are from float64, as a length for the tolerance. A batch norm of the batch divides by the
# deviation of few values, and so do all others after it: errors grow from layer to layer, those of the plain network in
# float32 as much. Measured are up to 130,000, and up to 5,400 with running statistics. Each single layer is held to the
# length of its own sums.
LENGTHS = {True: 200_000, False: 10_000}


def one_pass(architecture, parameters, x, masks=None, train_batch_norm=True, threads=2, layout=TRAINING, engine=None):
    """name -> logits, gradients and running statistics."""
    engine = engine or TrainingEngine(architecture, x.shape, threads, layout)
    logits = engine.forward(parameters, x, masks, train_batch_norm)
    return {"logits": logits} | engine.running | engine.backward(dlogits_for(*logits.shape))


# --- each layer ------------------------------------------------------------------------------------------------------


def watched_pass(short, shape, train_batch_norm, masks=False):
    architecture, parameters = network(short, in_chans=shape[3])
    engine = Watched(architecture, shape, 2)
    one_pass(architecture, parameters, pictures(*shape), some_masks(architecture, shape[0]) if masks else None,
             train_batch_norm, engine=engine)
    return engine


@NORM
@pytest.mark.parametrize("short", VARIANTS)
def test_each_layer(short, train_batch_norm):
    watched_pass(short, (2, 33, 47, 3), train_batch_norm)


@NORM
@pytest.mark.parametrize("short", ["lite0", "lite1"])
def test_each_layer_with_masks(short, train_batch_norm):
    watched_pass(short, (3, 33, 47, 3), train_batch_norm, masks=True)


@NORM
@pytest.mark.parametrize("shape", [(16, 1, 1, 3), (8, 1, 65, 1), (5, 70, 1, 4), (3, 33, 32, 3), (1, 64, 66, 3)],
                         ids=shape_id)
def test_each_layer_of_odd_pictures(shape, train_batch_norm):
    watched_pass("lite0", shape, train_batch_norm)


@pytest.fixture
def short_strips(monkeypatch):
    """Strips so short that pictures of some 100 pixels have several."""
    monkeypatch.setattr(training_layers, "STRIP_SIZE", 192 << 10)


def test_each_layer_in_several_strips_and_parts(short_strips):
    """Cut unevenly, in each kind of layer; and a row of pixels that is a strip of its own."""
    engine = watched_pass("lite0", (3, 163, 97, 3), True)
    for op in ("stem", "depthwise", "pointwise"):
        counts = [len(set(layer.strips[1])) for layer in engine.layers if layer.conv.op == op]
        assert max(counts) > 1, f"all strips of each {op} convolution are equal"
    assert {layer.parts for layer in engine.layers} == {2, 3}
    wide = watched_pass("lite0", (2, 5, 3100, 3), True)
    assert wide.by_name["blocks.1.0.conv_dw"].strips[0] == wide.by_name["blocks.1.0.conv_dw"].maps.height


# --- whole networks --------------------------------------------------------------------------------------------------


class SameCorners(TrainingNetwork):
    """The plain network, which clamps where the engine does: some activations in float32 are on the other side of a
    corner of ReLU6, and each one changes gradients by more than any rounding."""

    engine: TrainingEngine

    def conv_backward(self, dy, conv, kept, gradients):
        x, normalised, scale, _ = kept.layers[conv.name]
        kept.layers[conv.name] = x, normalised, scale, before_relu6(self.engine.by_name[conv.name]).astype(F)
        return super().conv_backward(dy, conv, kept, gradients)


def assert_whole(architecture, parameters, shape, train_batch_norm, masks=None):
    """Compare logits, gradients and running statistics with the plain network in float64."""
    x, engine = pictures(*shape), TrainingEngine(architecture, shape, 2)
    got = one_pass(architecture, parameters, x, masks, train_batch_norm, engine=engine)
    plain = SameCorners(architecture, parameters, D, train_batch_norm)
    plain.engine = engine
    logits, kept = plain.forward(x.astype(D), masks)
    gradients, _ = plain.backward(dlogits_for(*logits.shape).astype(D), kept)
    expected = {"logits": logits} | kept.running | gradients
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        if name.endswith("num_batches_tracked"):
            assert got[name].dtype == np.int64 and got[name] == array
        else:
            assert_close(got[name], array.astype(F), LENGTHS[train_batch_norm])


@pytest.mark.parametrize("short, shape, train_batch_norm", [
    ("lite0", (1, 97, 65, 3), True), ("lite1", (2, 65, 49, 3), True), ("lite2", (3, 65, 49, 3), True),
    ("lite3", (3, 65, 49, 3), True), ("lite4", (3, 65, 49, 3), True), ("lite4", (1, 65, 49, 3), False)])
def test_whole_network(short, shape, train_batch_norm):
    """The last batch norms have at least 12 values: with fewer, little but rounding may be left of their gradients."""
    assert_whole(*network(short), shape, train_batch_norm)


@NORM
@pytest.mark.parametrize("pool", ["avg", "max", "avgmax", "catavgmax"])
def test_whole_network_with_masks_and_each_pool(pool, train_batch_norm):
    architecture, parameters = network(global_pool=pool)
    assert_whole(architecture, parameters, (3, 65, 49, 3), train_batch_norm, some_masks(architecture, 3))


@NORM
@pytest.mark.parametrize("num_classes, in_chans", [(1, 1), (5, 4), (1000, 3)])
def test_whole_network_with_other_interfaces(num_classes, in_chans, train_batch_norm):
    """A number of classes is any number, which kernels are not made for."""
    assert_whole(*network("lite0", num_classes, in_chans=in_chans), (3, 65, 49, in_chans), train_batch_norm)


@NORM
def test_float16_parameters_are_their_values_in_float32(train_batch_norm):
    architecture, parameters = network()
    half = {name: array.astype(np.float16) if array.ndim else array for name, array in parameters.items()}
    wide = {name: array.astype(F) if array.ndim else array for name, array in half.items()}
    x = pictures(2, 33, 47, 3)
    got, expected = (one_pass(architecture, values, x, train_batch_norm=train_batch_norm) for values in (half, wide))
    assert_same(got, expected)


def test_a_pass_keeps_the_arrays_alive_that_its_steps_point_into():
    """A worker may still be in it when the caller, interrupted, has let them go."""
    array = np.zeros(8, F)
    kept = weakref.ref(array)
    made = steps.Pass(TRAINING, 0, [{"op": steps.PACK, "y": None, "width": 8}, {"op": steps.SUMS}])
    made.set(steps.SUMS, x=array)
    address = array.ctypes.data
    del array
    assert made.steps[["x", "y", "width"]].tolist() == [(0, 0, 8), (address, 0, 0)] and kept() is not None


# --- the same bits ---------------------------------------------------------------------------------------------------


def test_same_bits_for_any_number_of_threads_and_for_each_pass_of_an_engine(short_strips):
    architecture, parameters = network()
    x, masks = pictures(3, 163, 97, 3), some_masks(architecture, 3)
    expected = one_pass(architecture, parameters, x, masks, threads=1)
    for threads in (1, 2, 3):
        engine = TrainingEngine(architecture, x.shape, threads)
        one_pass(architecture, parameters, x[::-1].copy(), None, False, engine=engine)  # another pass before it
        made = [one_pass(architecture, parameters, x, masks, engine=engine) for _ in range(3)]
        for one in made:  # what a pass gave is still there after the next one
            assert_same(one, expected)


@NORM
def test_same_bits_with_the_vectors_of_another_processor(train_batch_norm, short_strips):
    """The shortest: 4 lanes. Strips and parts are the same, and each channel is added up in a lane of its own."""
    architecture, parameters = network()
    x, masks = pictures(3, 163, 97, 3), some_masks(architecture, 3)
    expected = one_pass(architecture, parameters, x, masks, train_batch_norm)
    assert_same(one_pass(architecture, parameters, x, masks, train_batch_norm, layout=SSE), expected)
