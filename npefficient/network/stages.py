"""A network stage by stage, for tables."""
from collections.abc import Iterator
from dataclasses import dataclass

from .architecture import Architecture, LayerShape

KINDS = {"ds": "depthwise separable", "ir": "inverted residual"}
POOLS = {"avg": "average", "max": "maximum", "avgmax": "average + maximum", "catavgmax": "average, maximum"}


@dataclass(frozen=True)
class Stage:
    """One row of a table: the stem, a stage of blocks, the head, the pool or the classifier."""

    name: str  # timm's
    operator: str
    kernel: int  # 0 if there is none
    stride: int
    layers: tuple[LayerShape, ...]

    @property
    def params(self) -> int:
        return sum(layer.params for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)


def by_stage(network: Architecture, layers: list[LayerShape]) -> Iterator[Stage]:
    """The stages of a network in the order of execution; layers: `network.layers` at one input size."""
    yield Stage("conv_stem", "convolution", layers[0].kernel, layers[0].stride, (layers[0],))
    for i, stage in enumerate(network.stages):
        rows = tuple(layer for layer in layers if layer.name.startswith(f"blocks.{i}."))
        operator = f"{len(stage)} x {KINDS[stage[0].kind]}"
        yield Stage(f"blocks.{i}", operator, stage[0].kernel, stage[0].stride, rows)
    for layer in layers[len(network.convs) - 1 :]:
        yield Stage(layer.name, operator_after_blocks(network, layer), layer.kernel, layer.stride, (layer,))


def operator_after_blocks(network: Architecture, layer: LayerShape) -> str:
    """The operator of the head, the pool or the classifier."""
    return {"pointwise": "convolution", "pool": f"{POOLS.get(network.global_pool)} pool",
            "classifier": "fully connected"}[layer.op]
