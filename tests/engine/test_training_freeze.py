"""Passes with frozen stages: they end at the first layer that is trained, with the bits of a pass to the end."""
import pytest
from training_passes import Watched, assert_same, dlogits_for, network, pictures, some_masks

from npefficient.engine.training import TrainingEngine
from npefficient.training.freeze import trained

FREEZE = pytest.mark.parametrize("freeze", ["1", "2", "4", "8", "9", "conv_stem,blocks.3,conv_head"])


@FREEZE
def test_each_layer_with_frozen_stages(freeze):
    """Of the layers before the first that is trained there is no gradient, and of the others every one."""
    architecture, parameters = network()
    part, engine = trained(architecture, freeze), Watched(architecture, (2, 33, 47, 3), 2)
    logits = engine.forward(parameters, pictures(2, 33, 47, 3), frozen_norms=part.frozen_norms)
    gradients = engine.backward(dlogits_for(*logits.shape), part.parameters)
    names = [name for name in parameters if name.endswith((".weight", ".bias"))]
    assert gradients.keys() == set(names[names.index(part.parameters[0]):])
    assert not any(layer.dy is not None for layer in engine.layers)


@FREEZE
def test_the_gradients_of_a_pass_that_ends_early_have_the_bits_of_a_whole_one(freeze):
    architecture, parameters = network()
    part, x, found = trained(architecture, freeze), pictures(3, 163, 97, 3), []
    for threads, wanted in ((1, None), (1, part.parameters), (2, part.parameters), (3, part.parameters)):
        engine = TrainingEngine(architecture, x.shape, threads)
        for _ in range(2):
            logits = engine.forward(parameters, x, some_masks(architecture, 3), frozen_norms=part.frozen_norms)
            gradients = engine.backward(dlogits_for(*logits.shape), wanted)
            found.append({"logits": logits} | engine.running | {name: gradients[name] for name in part.parameters})
    for other in found[1:]:
        assert_same(other, found[0])
