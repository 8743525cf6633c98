"""Plans that do not start at the picture: the head, from the last feature map, and the classifier, of a whole batch."""
import numpy as np
import pytest
from engines import assert_same_bits, pixels
from golden_weights import packed
from kept_layers import check_kept, places, ran
from layouts import vectors

from npefficient.engine.plan import make_classifier_plan, make_head_plan
from npefficient.kernels.layout import FLOAT32
from npefficient.model.model import Model
from npefficient.network.architecture import GLOBAL_POOLS, build
from npefficient.network.parameters import random_weights

CLASSES = 5


@pytest.mark.parametrize("pool", [pool for pool in GLOBAL_POOLS if pool])
@pytest.mark.parametrize("keep", [["global_pool"], ["classifier"], ["global_pool", "classifier"]], ids="-".join)
def test_head_plan(keep, pool):
    network = build("lite0", CLASSES, 3, pool)
    plan = make_head_plan(network, packed("lite0"), 7, 5, 2, frozenset(keep))
    check_kept(plan)
    names = ["global_pool", "classifier"] if "classifier" in keep else ["global_pool"]
    assert [layer.name for layer in ran(plan)] == names and plan.outputs.keys() == set(keep)
    assert plan.features.shape == (7, 5, 1280) and plan.steps[0]["x"] == plan.features.offset
    apart = set(places(plan.features.offset, FLOAT32.plane_size(35), vectors(1280), 35))
    channels = {"global_pool": network.head_hidden_size, "classifier": CLASSES}
    assert {name: made.channels for name, made in plan.outputs.items()} == {name: channels[name] for name in keep}
    first = plan.steps[0]
    assert apart.isdisjoint(places(first["out"], first["out_plane"], first["vectors"], 1))


def test_classifier_plan():
    """Its input are pooled vectors of a batch, one beside the other."""
    network = build("lite0", CLASSES, 3, "catavgmax")
    plan = make_classifier_plan(network, packed("lite0"), 1, 9, 2)
    check_kept(plan)
    assert [layer.name for layer in ran(plan)] == ["classifier"] and plan.outputs["classifier"].shape == (1, 9, CLASSES)
    assert plan.features.shape == (1, 9, 2 * 1280) and plan.steps[0]["x"] == plan.features.offset


@pytest.mark.parametrize("pool", [pool for pool in GLOBAL_POOLS if pool])
@pytest.mark.parametrize("names", [["classifier"], ["global_pool", "classifier"], ["classifier", "conv_head"]],
                         ids="-".join)
def test_batch_has_the_outputs_of_its_pictures(names, pool):
    """The classifier sees all pictures of a batch at once."""
    m, x = Model(random_weights(build("lite0", CLASSES, 3, pool)), num_threads=2), pixels(5, 24, 40, 3)
    outputs = m._network.outputs(x, names)
    assert list(outputs) == names
    for name, output in outputs.items():
        apart = [m._network.outputs(x[i : i + 1], names)[name] for i in range(5)]
        assert_same_bits(output, np.concatenate(apart))
