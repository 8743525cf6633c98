"""EfficientNet-Lite as data: the five variants, every layer, its shape, its parameters and its cost.

Nothing here touches an array. The plain network, the engine, the weight file and the converter all read this one
description. Source: Tan & Le 2019 (arXiv:1905.11946) for the scaling rule; timm 1.0 `_gen_efficientnet_lite` and
tensorflow/tpu `efficientnet_lite_builder.py` for the Lite stages.

Letters: N batch, H W input rows and columns, C input channels, M output channels, K kernel, S stride, Q R output rows
and columns.
"""
import fnmatch
import math
import numbers
from dataclasses import dataclass, field

from .errors import ArgumentError
from .preprocessing import Preprocessing

BN_EPS = 1e-3
PADDING = "same"  # TensorFlow's: zeros, worked out per input size, the odd one goes after
IMAGENET_CLASSES = 1000
STEM_CHANNELS = 32  # neither the stem nor the head is scaled by width
HEAD_CHANNELS = 1280

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

RELEASE = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
MODEL_CARD = "timm 1.0 results-imagenet.csv"


@dataclass(frozen=True)
class Variant:
    """The scaling factors of one variant and what was published about it."""

    name: str
    width: float
    depth: float
    preprocessing: Preprocessing
    top1: float  # per cent, ImageNet-1k validation, at preprocessing.input_size
    top5: float
    file: str  # the official checkpoint; the hex digits are the first eight of its sha256
    file_size: int  # bytes

    @property
    def short_name(self) -> str:
        return self.name.removeprefix("tf_efficientnet_")

    @property
    def sha256_prefix(self) -> str:
        return self.file.rsplit("-", 1)[1].removesuffix(".pth")

    @property
    def url(self) -> str:
        return RELEASE + self.file


def _variant(short, width, depth, size, crop_pct, interpolation, top1, top5, digest, file_size):
    name = f"tf_efficientnet_{short}"
    preprocessing = Preprocessing((size, size), crop_pct, interpolation)
    return Variant(name, width, depth, preprocessing, top1, top5, f"{name}-{digest}.pth", file_size)


VARIANTS = {
    v.name: v
    for v in (
        _variant("lite0", 1.0, 1.0, 224, 0.875, "bicubic", 74.83, 92.17, "0aa007d2", 18_820_223),
        _variant("lite1", 1.0, 1.1, 240, 0.882, "bicubic", 76.67, 93.24, "bde8b488", 21_939_331),
        _variant("lite2", 1.1, 1.2, 260, 0.890, "bicubic", 77.48, 93.75, "dcccb7df", 24_658_687),
        _variant("lite3", 1.2, 1.4, 300, 0.904, "bilinear", 79.83, 94.91, "b733e338", 33_161_413),
        _variant("lite4", 1.4, 1.8, 380, 0.920, "bilinear", 81.54, 95.66, "741542c3", 52_558_819),
    )
}


@dataclass(frozen=True)
class Conv:
    """One convolution without bias, the batch norm behind it, and whether ReLU6 follows."""

    name: str  # timm's, such as "blocks.1.0.conv_dw"
    bn: str  # timm's name of the batch norm behind it
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
    def skip(self) -> bool:
        """True where the block's input is added to its output (timm gives the "ds" block no second repeat)."""
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def convs(self) -> tuple[Conv, ...]:
        """(conv_dw, conv_pw) of a "ds" block, (conv_pw, conv_dw, conv_pwl) of an "ir" block; the last is linear."""
        wide = self.in_channels * self.expansion

        def conv(name, bn, op, c, m, relu6):
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
class Architecture:
    """One network: stem, stages of blocks, head, average pool, classifier."""

    variant: Variant
    num_classes: int
    in_chans: int
    stem: Conv
    stages: tuple[tuple[Block, ...], ...]
    head: Conv = field(repr=False)

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

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every entry of timm's state_dict, in its order; `num_batches_tracked` is a 0-dim int64."""
        shapes = {}

        def add(conv):
            shapes[f"{conv.name}.weight"] = conv.weight_shape
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{conv.bn}.{leaf}"] = (conv.out_channels,)
            shapes[f"{conv.bn}.num_batches_tracked"] = ()

        for conv in self.convs:
            add(conv)
        shapes["classifier.weight"] = (self.num_classes, HEAD_CHANNELS)
        shapes["classifier.bias"] = (self.num_classes,)
        return shapes

    def param_count(self) -> int:
        """Trainable parameters, as timm counts them (running statistics are not trained)."""
        return sum(conv.params() for conv in self.convs) + self.num_classes * (HEAD_CHANNELS + 1)

    def layers(self, height: int, width: int) -> list[LayerShape]:
        """Every layer in the order of execution for an input of (height, width) pixels."""
        layers = []
        for conv in self.convs:
            q, r = conv.output_size(height, width)
            layers.append(LayerShape(conv.name, conv.op, conv.kernel, conv.stride, height, width, conv.in_channels,
                                     q, r, conv.out_channels, conv.params(), conv.macs(height, width)))
            height, width = q, r
        c, m = HEAD_CHANNELS, self.num_classes
        layers.append(LayerShape("global_pool", "pool", 0, 1, height, width, c, 1, 1, c, 0, 0))
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


def canonical_name(name: str) -> str:
    """Return the full name for "lite0", "tf_efficientnet_lite0" or timm's "tf_efficientnet_lite0.in1k".

    Raises ArgumentError for any other name, with the nearest known one.
    """
    known = {**{n: n for n in VARIANTS}, **{v.short_name: n for n, v in VARIANTS.items()}}
    plain = str(name).removesuffix(".in1k")
    if plain in known:
        return known[plain]
    port = f"tf_{plain.split('.')[0]}"  # without the tag of a training, such as ".ra_in1k"
    if port in known:
        raise ArgumentError(
            f"model {name!r} is timm's own training of this network, with symmetric padding and another normalisation; "
            f"only the TensorFlow port is known here: use {port!r}"
        )
    import difflib  # takes longer to import than the rest of this file

    nearest = difflib.get_close_matches(plain.lower(), known, n=1, cutoff=0.0)[0]
    raise ArgumentError(f"unknown model {name!r}: known are lite0 to lite4 (did you mean {nearest!r}?)")


def list_models(pattern: str = "*") -> list[str]:
    """Full names of the variants that match a shell-style pattern, such as "*lite[0-2]"; sorted as in timm."""
    return sorted(variant.name for variant in VARIANTS.values()
                  if any(fnmatch.fnmatch(name, pattern) for name in (variant.name, variant.short_name)))


def build(name: str, num_classes: int = IMAGENET_CLASSES, in_chans: int = 3) -> Architecture:
    """Scale the stages of lite0 to one variant.

    First and last stage keep one block (depth does not scale them); the stem's and the head's channels are fixed.
    Raises ArgumentError for an unknown name or a count below 1.
    """
    variant = VARIANTS[canonical_name(name)]
    for what, count in (("num_classes", num_classes), ("in_chans", in_chans)):
        if isinstance(count, bool) or not isinstance(count, numbers.Integral) or count < 1:
            raise ArgumentError(f"{what} {count!r}: it must be a whole number of at least 1")
    stages, channels = [], STEM_CHANNELS
    for s, (kind, repeats, kernel, stride, expansion, base) in enumerate(STAGES):
        if 0 < s < len(STAGES) - 1:
            repeats = math.ceil(repeats * variant.depth)
        out, blocks = scale_width(base, variant.width), []
        for b in range(repeats):
            blocks.append(Block(f"blocks.{s}.{b}", kind, kernel, stride if b == 0 else 1, expansion, channels, out))
            channels = out
        stages.append(tuple(blocks))
    stem = Conv("conv_stem", "bn1", "stem", 3, 2, int(in_chans), STEM_CHANNELS, True)
    head = Conv("conv_head", "bn2", "pointwise", 1, 1, channels, HEAD_CHANNELS, True)
    return Architecture(variant, int(num_classes), int(in_chans), stem, tuple(stages), head)
