"""Blocks: their layers, costs and times add up to the network's, and the maps they show are the strongest."""
import dataclasses

import numpy as np
import pytest
from explanations import digit

from npefficient.explanation.blocks import block_of, block_views, output_names, strongest
from npefficient.explanation.times import StepTime, Times
from npefficient.network import architecture


def views(network, times=None, count=2):
    layers = network.layers(32, 32)
    activations = {name: np.zeros((1, 2, 2, 8), np.float32) for name in output_names(network).values()}
    return block_views(network, layers, activations, times, count)


@pytest.mark.parametrize("variant", ["lite0", "lite4"])
def test_blocks_add_up_to_the_network(variant):
    network = architecture.build(variant, 7)
    blocks = views(network)
    assert sum(block.params for block in blocks) == network.param_count()
    assert sum(block.macs for block in blocks) == network.macs(32, 32)
    assert [block.name for block in blocks] == ["conv_stem", *(block.name for block in network.blocks), "conv_head",
                                                "global_pool", "classifier"]
    for before, after in zip(blocks, blocks[1:]):
        assert before.output_shape == after.input_shape
    assert [block.name for block in blocks if block.skip] == [block.name for block in network.blocks if block.skip]


def test_time_counts_for_the_block_of_a_steps_last_layer():
    network = architecture.build("lite0", 7)
    names = [layer.name for layer in network.layers(32, 32)]
    joined = [tuple(names[:2]), *((name,) for name in names[2:])]
    times = Times(tuple(StepTime("", layers, 5, 10, 1.0) for layers in joined), 100.0, 9)
    stem, first, second, *rest = views(network, times)
    assert (stem.seconds, stem.share, stem.timed_with) == (None, None, "blocks.0.0")
    assert (first.seconds, first.share, first.timed_with) == (2.0, 20 / 2 / 100, "conv_stem")
    assert (second.seconds, second.timed_with) == (3.0, None)
    assert rest[-1].seconds == 1.0 and rest[-1].share == 0.1
    assert sum(block.seconds or 0 for block in (stem, first, second, *rest)) == times.seconds == len(joined)


def test_strongest_by_hand():
    activation = np.zeros((2, 3, 4), np.float32)
    activation[..., 2] = 1
    activation[0, 0, 1] = 12
    activation[..., 3] = -9
    channels, means, maps = strongest(activation, 3)
    assert channels.tolist() == [1, 2, 0] and means.tolist() == [2, 1, 0] and maps.shape == (3, 2, 3)
    np.testing.assert_array_equal(maps[0], activation[..., 1])
    assert [len(part) for part in strongest(activation, 9)] == [4, 4, 4], "no more than there are"


def test_layers_belong_to_blocks():
    assert [block_of(name) for name in ("conv_stem", "blocks.1.0.conv_dw", "blocks.10.2.conv_pwl", "classifier")] == [
        "conv_stem", "blocks.1.0", "blocks.10.2", "classifier"]


def test_pool_and_classifier_have_no_maps():
    blocks = {block.name: block for block in digit().blocks}
    for name in ("global_pool", "classifier"):
        assert blocks[name].maps.size == len(blocks[name].channels) == 0
    assert all(len(block.maps) == 6 for name, block in blocks.items() if name not in ("global_pool", "classifier"))
    assert {field.name for field in dataclasses.fields(blocks["classifier"])} >= {"seconds", "share", "maps"}
