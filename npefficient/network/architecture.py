"""EfficientNet-Lite as data: every layer of a variant, its shape, its parameters and its cost.

Nothing here touches an array. The plain network, the engine, the weight file and the converter all read this one
description. Source: Tan & Le 2019 (arXiv:1905.11946) for the scaling rule; timm 1.0 `_gen_efficientnet_lite` and
tensorflow/tpu `efficientnet_lite_builder.py` for the Lite stages.

Letters: N batch, H W input rows and columns, C input channels, M output channels, K kernel, S stride, Q R output rows
and columns.
"""
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ..common.checks import whole, word
from ..common.text import counted
from ..errors import ArgumentError
from .variants import VARIANTS, Variant, canonical_name

T = TypeVar("T")

BN_EPS = 1e-3
PADDING = "same"  # TensorFlow's zero padding, computed per input size; an odd zero goes after
IMAGENET_CLASSES = 1000
MAX_CLASSES, MAX_CHANNELS = 2**18, 2**12  # 1.3 GB of classifier; ImageNet's largest list has 21,843 classes
GLOBAL_POOLS = ("avg", "max", "avgmax", "catavgmax", "")  # "": none, the output is the last feature map
STEM_CHANNELS = 32  # neither the stem nor the head is scaled by width
HEAD_CHANNELS = 1280
FLAT = ("global_pool", "classifier")  # layers whose output has no rows and columns

# Stages of lite0: kind, repeats, kernel, stride, expansion, channels.
STAGES = (
    ("ds", 1, 3, 1, 1, 16),
    ("ir", 2, 3, 2, 6, 24),
    ("ir", 2, 5, 2, 6, 40),
    ("ir", 3, 3, 2, 6, 80),
    ("ir", 3, 5, 1, 6, 112),
    ("ir", 4, 5, 2, 6, 192),
    ("ir", 1, 3, 1, 6, 320),
)


@dataclass(frozen=True)
class Conv:
    """One convolution without bias, the batch norm after it, and whether ReLU6 follows."""

    name: str  # timm's, such as "blocks.1.0.conv_dw"
    bn: str  # timm's name of the batch norm after it
    op: str  # "stem" (dense), "depthwise" or "pointwise"
    kernel: int
    stride: int
    in_channels: int
    out_channels: int
    relu6: bool

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(M, C, K, K) as in torch; depthwise convolutions have one input channel per group."""
        per_group = 1 if self.op == "depthwise" else self.in_channels
        return self.out_channels, per_group, self.kernel, self.kernel

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns (Q, R) for an input of (H, W): ceil(size / stride) under 'SAME' padding."""
        return -(-height // self.stride), -(-width // self.stride)

    def params(self) -> int:
        """Trainable parameters: the weights, and the scale and shift of the batch norm."""
        return math.prod(self.weight_shape) + 2 * self.out_channels

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for an input of (H, W)."""
        return math.prod(self.output_size(height, width)) * math.prod(self.weight_shape)


@dataclass(frozen=True)
class Block:
    """A depthwise-separable block ("ds") or an inverted residual ("ir")."""

    name: str  # timm's, such as "blocks.1.0"
    kind: str
    kernel: int
    stride: int
    expansion: int
    in_channels: int
    out_channels: int

    @property
    def stage(self) -> str:
        """timm's name of the stage, such as "blocks.1"."""
        return self.name.rpartition(".")[0]

    @property
    def skip(self) -> bool:
        """True if the block's input is added to its output; never in the "ds" block, which changes the channels."""
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def convs(self) -> tuple[Conv, ...]:
        """(conv_dw, conv_pw) of a "ds" block, (conv_pw, conv_dw, conv_pwl) of an "ir" block; the last is linear."""
        wide = self.in_channels * self.expansion

        def conv(name: str, bn: str, op: str, c: int, m: int, relu6: bool) -> Conv:
            kernel, stride = (self.kernel, self.stride) if op == "depthwise" else (1, 1)
            return Conv(f"{self.name}.{name}", f"{self.name}.{bn}", op, kernel, stride, c, m, relu6)

        if self.kind == "ds":
            return (
                conv("conv_dw", "bn1", "depthwise", wide, wide, True),
                conv("conv_pw", "bn2", "pointwise", wide, self.out_channels, False),
            )
        return (
            conv("conv_pw", "bn1", "pointwise", self.in_channels, wide, True),
            conv("conv_dw", "bn2", "depthwise", wide, wide, True),
            conv("conv_pwl", "bn3", "pointwise", wide, self.out_channels, False),
        )


@dataclass(frozen=True)
class LayerShape:
    """One layer at one input size; (height, width, in_channels) -> (out_height, out_width, out_channels)."""

    name: str
    op: str  # a Conv's op, "pool" or "classifier"
    kernel: int
    stride: int
    height: int
    width: int
    in_channels: int
    out_height: int
    out_width: int
    out_channels: int
    params: int
    macs: int

    @property
    def activations(self) -> int:
        """Values in the layer's output."""
        return self.out_height * self.out_width * self.out_channels


@dataclass(frozen=True)
class Feature:
    """A feature map for detectors and similar heads: the output of a stage after which the resolution halves."""

    module: str  # timm's name, such as "blocks.2"
    num_chs: int
    reduction: int  # rows of the input per row of the feature map


@dataclass(frozen=True)
class Architecture:
    """One network: stem, stages of blocks, head, global pool, classifier (the last two are optional)."""

    variant: Variant
    num_classes: int  # 0: no classifier
    in_chans: int
    stem: Conv
    stages: tuple[tuple[Block, ...], ...]
    head: Conv
    global_pool: str = "avg"  # one of GLOBAL_POOLS

    def __repr__(self) -> str:
        return f"Architecture({self.name}, {self.interface}, global_pool={self.global_pool!r})"

    @property
    def interface(self) -> str:
        """Such as "10 classes, 3 input channels"."""
        return f"{counted(self.num_classes, 'class')}, {counted(self.in_chans, 'input channel')}"

    @property
    def name(self) -> str:
        return self.variant.name

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(block for stage in self.stages for block in stage)

    @property
    def convs(self) -> tuple[Conv, ...]:
        """Every convolution in the order of execution."""
        return (self.stem, *(conv for block in self.blocks for conv in block.convs), self.head)

    @property
    def features(self) -> tuple[Feature, ...]:
        """The five feature maps of timm's `features_only` models: the last one at each resolution."""
        following = [stage[0].stride for stage in self.stages[1:]] + [2]
        ends = [stage[-1] for stage, stride in zip(self.stages, following) if stride == 2]
        return tuple(Feature(block.stage, block.out_channels, 2 << i) for i, block in enumerate(ends))

    @property
    def head_hidden_size(self) -> int:
        """The number of pooled features, the classifier's input."""
        return self.head.out_channels * (2 if self.global_pool == "catavgmax" else 1)

    @property
    def output(self) -> str:
        """The name of the last layer."""
        return "classifier" if self.num_classes else "global_pool" if self.global_pool else self.head.name

    def propagate(self, x: T, conv: Callable[[Conv, T], T], add: Callable[[T, T], T]) -> T:
        """Pass a value through every convolution and shortcut in the order of execution; returns that after the head.

        conv: (convolution, value of its input) -> value of its output
        add: (value of a block's last convolution, value of the block's input) -> value of their sum
        """
        x = conv(self.stem, x)
        for block in self.blocks:
            shortcut = x
            for one in block.convs:
                x = conv(one, x)
            if block.skip:
                x = add(x, shortcut)
        return conv(self.head, x)

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every entry of timm's state_dict, in its order; `num_batches_tracked` is a 0-dim int64."""
        shapes: dict[str, tuple[int, ...]] = {}
        for conv in self.convs:
            shapes[f"{conv.name}.weight"] = conv.weight_shape
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{conv.bn}.{leaf}"] = (conv.out_channels,)
            shapes[f"{conv.bn}.num_batches_tracked"] = ()
        if self.num_classes:
            shapes["classifier.weight"] = (self.num_classes, self.head_hidden_size)
            shapes["classifier.bias"] = (self.num_classes,)
        return shapes

    def param_count(self) -> int:
        """Trainable parameters, as timm counts them (running statistics are not trained)."""
        return sum(conv.params() for conv in self.convs) + self.num_classes * (self.head_hidden_size + 1)

    def layers(self, height: int, width: int) -> list[LayerShape]:
        """Every layer in the order of execution for an input of (height, width) pixels."""
        layers = []
        for conv in self.convs:
            q, r = conv.output_size(height, width)
            layers.append(LayerShape(conv.name, conv.op, conv.kernel, conv.stride, height, width, conv.in_channels,
                                     q, r, conv.out_channels, conv.params(), conv.macs(height, width)))
            height, width = q, r
        return layers + self.head_layers(height, width)

    def head_layers(self, height: int, width: int) -> list[LayerShape]:
        """The global pool and the classifier after a last feature map of (height, width)."""
        c, m, layers = self.head_hidden_size, self.num_classes, []
        if self.global_pool:
            layers.append(LayerShape("global_pool", "pool", 0, 1, height, width, self.head.out_channels, 1, 1, c, 0, 0))
        if m:
            layers.append(LayerShape("classifier", "classifier", 1, 1, 1, 1, c, 1, 1, m, m * (c + 1), m * c))
        return layers

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates of all convolutions and the classifier for an input of (height, width) pixels."""
        return sum(layer.macs for layer in self.layers(height, width))


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one axis of `size` under TensorFlow's 'SAME' rule; they depend on the size."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def scale_width(channels: int, width: float) -> int:
    """Channels times the width factor, to the nearest multiple of 8, but never more than 10 % below."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def build(name: str, num_classes: int = IMAGENET_CLASSES, in_chans: int = 3, global_pool: str = "avg") -> Architecture:
    """Scale the stages of lite0 to one variant.

    The first and the last stage keep one block (depth does not scale them); the stem's and the head's channels are
    fixed. `num_classes` 0 omits the classifier; without a pool (`global_pool` "") it must be 0. Raises ArgumentError
    for an unknown name or pool, or a count that is too low or too high.
    """
    variant = VARIANTS[canonical_name(name)]
    num_classes = whole("num_classes", num_classes, 0, MAX_CLASSES)
    in_chans = whole("in_chans", in_chans, 1, MAX_CHANNELS)
    check_pool(global_pool, num_classes)
    stages, channels = [], STEM_CHANNELS
    for s, (kind, repeats, kernel, stride, expansion, base) in enumerate(STAGES):
        if 0 < s < len(STAGES) - 1:
            repeats = math.ceil(repeats * variant.depth)
        out, blocks = scale_width(base, variant.width), []
        for b in range(repeats):
            blocks.append(Block(f"blocks.{s}.{b}", kind, kernel, stride if b == 0 else 1, expansion, channels, out))
            channels = out
        stages.append(tuple(blocks))
    stem = Conv("conv_stem", "bn1", "stem", 3, 2, in_chans, STEM_CHANNELS, True)
    head = Conv("conv_head", "bn2", "pointwise", 1, 1, channels, HEAD_CHANNELS, True)
    return Architecture(variant, num_classes, in_chans, stem, tuple(stages), head, global_pool)


def check_pool(global_pool: str, num_classes: int) -> None:
    """Raise ArgumentError for an unknown pool, and for a classifier without one."""
    word("global_pool", global_pool, GLOBAL_POOLS)
    if not global_pool and num_classes:
        raise ArgumentError(f"global_pool '' with {num_classes} classes: a classifier needs pooled features; choose a "
                            "pool, or num_classes=0")
