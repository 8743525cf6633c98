"""The layers of a network by timm's names, and how to compute the output of each.

    conv_stem, conv_head, blocks.2.0.conv_dw ..   a convolution alone, before its batch norm
    bn1, bn2, blocks.2.0.bn2 ..                   a batch norm with its activation; also "blocks.2.0.bn2.act"
    blocks.2.0, blocks.2                          a block, with its shortcut; a stage: its last block
    global_pool, classifier

The engine computes the outputs of whole layers (`architecture.layers`): a convolution with its batch norm, activation
and shortcut. The plain network computes what is inside a layer, from the engine's output of the layer before it. In
int8 there is no convolution alone (`quantized_reference.QuantizedNetwork.convolution`).
"""
import functools
from collections.abc import Callable
from dataclasses import dataclass

from ..common.checks import is_list
from ..common.text import meant, shown
from ..errors import ArgumentError
from .architecture import Architecture

__all__ = ["Layer", "named_layers"]


@dataclass(frozen=True)
class Layer:
    """How to get one output: the layer that the engine computes, and what the plain network does with its output."""

    source: str | None  # by the name of `architecture.layers`; None for the network's input
    finish: Callable | None = None  # (plain network, source's output) -> output; None: the source's output as it is


@functools.lru_cache(maxsize=16)  # called for every photo of a stream
def named_layers(network: Architecture) -> dict[str, Layer]:
    """Every name that `find_layers` knows."""
    layers = {}

    def add(conv, before, shortcut=False):
        layers[conv.name] = Layer(before, lambda plain, x: plain.convolution(x, conv))
        whole = Layer(before, lambda plain, x: plain.conv(x, conv)) if shortcut else Layer(conv.name)
        layers[conv.bn] = layers[f"{conv.bn}.act"] = whole

    before = network.stem.name
    add(network.stem, None)
    for block in network.blocks:
        for conv in block.convs:
            add(conv, before, shortcut=block.skip and conv == block.convs[-1])
            before = conv.name
        layers[block.name] = layers[block.stage] = Layer(before)
    add(network.head, before)
    if network.global_pool:
        layers["global_pool"] = Layer("global_pool")
    if network.num_classes:
        layers["classifier"] = Layer("classifier")
    return layers


def find_layers(network: Architecture, names) -> dict[str, Layer]:
    """The layers of these names, in this order; raises ArgumentError for an unknown name."""
    if not is_list(names):
        example = names if isinstance(names, str) else network.head.bn
        raise ArgumentError(f"layers {shown(names)}: give a list of names, such as [{example!r}]")
    names, known = list(names), named_layers(network)
    for name in names:
        if not isinstance(name, str) or name not in known:
            near = meant(name, known) if isinstance(name, str) else ""
            raise ArgumentError(f"layer {shown(name)}: {network.name} has no layer of this name{near}; "
                                "npefficient.network.layers.named_layers lists them all")
    return {name: known[name] for name in names}
