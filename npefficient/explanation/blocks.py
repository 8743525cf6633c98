"""The network block by block: shapes, cost, time, and a photo's strongest feature maps."""
from dataclasses import dataclass

import numpy as np

from ..network.architecture import Architecture, LayerShape
from ..network.stages import KINDS, operator_after_blocks
from .times import Times


@dataclass(frozen=True, eq=False)
class BlockView:
    """A block, or a layer outside of the blocks: the stem, the head, the pool, the classifier."""

    name: str  # timm's
    operator: str
    skip: bool  # its input is added to its output
    layers: tuple[LayerShape, ...]
    channels: np.ndarray  # int64 (k,), those of the highest mean activation, highest first; none for pool, classifier
    means: np.ndarray  # float32 (k,)
    maps: np.ndarray  # float32 (k, h, w)
    seconds: float | None = None  # None if times were not measured, or are part of the next block's
    share: float | None = None  # of the core's peak
    timed_with: str | None = None  # the block whose time contains this one's, or is contained in it

    def __repr__(self) -> str:
        return f"BlockView({self.name}, {self.operator}, {self.input_shape} -> {self.output_shape})"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(rows, columns, channels)."""
        return self.layers[0].height, self.layers[0].width, self.layers[0].in_channels

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(rows, columns, channels)."""
        return self.layers[-1].out_height, self.layers[-1].out_width, self.layers[-1].out_channels

    @property
    def params(self) -> int:
        return sum(layer.params for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)


def block_of(layer: str) -> str:
    """The block of a layer: "blocks.1.0.conv_dw" -> "blocks.1.0"; a layer outside of the blocks is its own block."""
    return layer.rpartition(".")[0] if layer.startswith("blocks.") else layer


def output_names(network: Architecture) -> dict[str, str]:
    """Block -> the name of its output in `Model.activations`, for the blocks whose output is feature maps."""
    return {network.stem.name: network.stem.bn, **{block.name: block.name for block in network.blocks},
            network.head.name: network.head.bn}


def block_views(network: Architecture, layers, activations, times: Times | None, count: int) -> tuple[BlockView, ...]:
    """All blocks in the order of execution.

    layers: `network.layers` at the input's size; activations: by the names of `output_names`, (1, h, w, channels) each;
    count: feature maps per block.
    """
    own, names = {block.name: block for block in network.blocks}, output_names(network)
    grouped: dict[str, list[LayerShape]] = {}
    for layer in layers:
        grouped.setdefault(block_of(layer.name), []).append(layer)
    views = []
    for name, part in grouped.items():
        block = own.get(name)
        operator = (KINDS[block.kind] if block else "convolution" if name == network.stem.name else
                    operator_after_blocks(network, part[0]))
        maps = strongest(activations[names[name]][0] if name in names else np.empty((0, 0, 0), np.float32), count)
        views.append(BlockView(name, operator, bool(block and block.skip), tuple(part), *maps, **_time(name, times)))
    return tuple(views)


def strongest(activation: np.ndarray, count: int):
    """(h, w, channels) -> the k channels of the highest mean: indices (k,), means (k,), maps (k, h, w)."""
    means = activation.mean(axis=(0, 1)) if activation.size else np.empty(0, np.float32)
    channels = np.argsort(-means, kind="stable")[:count]
    return channels, means[channels], np.ascontiguousarray(activation[..., channels].transpose(2, 0, 1))


def _time(name: str, times: Times | None) -> dict:
    """A step's time belongs to the block of its last layer; the stem is part of the first block's step."""
    if times is None:
        return {}
    steps = [step for step in times.steps if block_of(step.layers[-1]) == name]
    joined = {block_of(layer) for step in times.steps for layer in step.layers if name in map(block_of, step.layers)}
    found = {"timed_with": min(joined - {name}, default=None)}  # a step joins at most two blocks
    return found | ({"seconds": sum(step.seconds for step in steps), "share": times.share(steps)} if steps else {})
