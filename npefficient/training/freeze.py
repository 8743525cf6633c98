"""Which parameters are trained: all, or those after the first stages, or those outside of batch norms.

The first stages see edges and textures, which photos of other classes have too. A frozen stage keeps its weights and
its batch norms, as after timm's `freeze(model, [stage, ..])`.

A frozen batch norm keeps scale, shift and running statistics, and normalises by these, not by those of the batch. The
statistics of a few photos at a time are noisy, and where the photos differ from those before, running ones move to
theirs within an epoch, while the weights hardly move. Frozen everywhere, as after timm's `freeze_batch_norm_2d(model)`,
the network starts as the one that was trained before, and each picture is computed as if it were alone.
"""
from dataclasses import dataclass

from ..common.text import meant, quoted
from ..errors import ArgumentError
from ..network.architecture import STAGES, Architecture

# What can be frozen, in the order of execution, under timm's names; the stem and the head include their batch norm.
FREEZABLE = ("conv_stem", *(f"blocks.{i}" for i in range(len(STAGES))), "conv_head")
NONE = "0"


@dataclass(frozen=True)
class Trained:
    """What a run changes and what it leaves."""

    parameters: tuple[str, ...]  # timm's names of what gradients are needed for, in the order of the network
    frozen_norms: tuple[str, ...]  # timm's names of the batch norms that use their running statistics, and keep them


def frozen_stages(freeze: str) -> tuple[str, ...]:
    """The stages that `--freeze` names: a number of the first ones ("3"), or their names ("conv_stem,blocks.0").

    Raises ArgumentError for a number that is too high, and for a name that is not in FREEZABLE.
    """
    names = [name.strip() for name in freeze.split(",")]
    if len(names) == 1 and names[0].isascii() and names[0].isdigit():
        if len(names[0]) > 3 or int(names[0]) > len(FREEZABLE):
            raise ArgumentError(f"freeze {quoted(freeze)}: there are {len(FREEZABLE)} stages; give a number from 0 to "
                                f"{len(FREEZABLE)}")
        return FREEZABLE[: int(names[0])]
    for name in names:
        if name not in FREEZABLE:
            raise ArgumentError(f"freeze {quoted(name)}: it must be a number of the first stages, or names of stages "
                                f"with commas between them, of {', '.join(FREEZABLE)}{meant(name, FREEZABLE)}")
    return tuple(name for name in FREEZABLE if name in names)


def trained(network: Architecture, freeze: str = NONE, freeze_bn: bool = False) -> Trained:
    """The parameters of a network that are trained.

    freeze: the stages that are not, as for `frozen_stages`
    freeze_bn: no batch norm is, of the other stages either
    """
    stages = frozen_stages(freeze)
    frozen = [conv for conv in network.convs if _stage(conv.name) in stages]
    norms = [conv.bn for conv in (network.convs if freeze_bn else frozen)]
    left_out = {f"{conv.name}.weight" for conv in frozen} | {
        f"{norm}.{leaf}" for norm in norms for leaf in ("weight", "bias")}
    return Trained(tuple(name for name in network.parameters() if _is_parameter(name) and name not in left_out),
                   tuple(norms))


def _stage(name: str) -> str:
    """The stage of a convolution: "blocks.1" of "blocks.1.0.conv_dw"."""
    return ".".join(name.split(".")[:2])


def _is_parameter(name: str) -> bool:
    """False for the statistics of batch norm, which no gradient changes."""
    return name.rpartition(".")[2] in ("weight", "bias")
