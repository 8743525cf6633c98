"""The network in 8 bits, in plain NumPy: the definition, which anything faster has to equal to the last bit.

A product of integers has no rounding, and a sum of integers no order. What is not an integer is a float32, and every
operation on floats below is a single one of IEEE 754, rounded to nearest, ties to even, in the order of the brackets.
`fma` is rounded once. `rint` rounds to a whole number, ties to even.

    activation        kept as                      stands for
    stem              y, float32                   y
    other ReLU6       q, uint8                     q * 6/255
    linear            y, float32                   y             each block's output, with its shortcut
    pool, classifier  y, float32                   y

    stem              y = relu6(fma(x, w, .. fma(x, w, b))) over i, j, c in this order
    first depthwise   q = clamp(fma(y, w, .. fma(y, w, b))) over i, j in this order
    other depthwise   acc = sum over i, j of q[i, j] * w[i, j]
                      q = clamp(fma(acc, s, b))
    1x1 from uint8    acc = sum over c of q[c] * w[c]
                      y = fma(acc, s, b),  then + the block's input if it has a shortcut
    1x1 from float32  a = max(2^-100, max over x, c of |y[x, c]|)   each row of the map has a scale of its own
                      r[x, c] = rint(y[x, c] * (127 / a))           int8
                      acc = sum over c of r[x, c] * w[c]
                      q = clamp(fma(acc, (a * (1 / 127)) * s, b))
    classifier        the same without clamp, and the pooled features are the one pixel of a row
    average pool      (sum over pixels of q) * (6/255 / pixels)
    maximum pool      (max over pixels of q) * (6/255); "avgmax" is average * 0.5 + maximum * 0.5

    clamp(y) = rint(min(max(y, 0), 255)); to round first gives the same, as 0 and 255 are whole numbers

w, s and b are those of `npefficient/network/quantization.py`: w int8 in -127..127, and float32 in the first two layers;
s and b have the steps of the input and of the output in them, so that 255 stands for ReLU6's 6. Padding is 0.

r stays within -127..127 without a clamp: 127 / a is at most one rounding too large, and so is the product. With 2^-100
in place of 0, a row of zeros needs no case of its own, and 127 / a can't overflow.

acc fits an int32: a sum has at most 2560 products (the classifier after "catavgmax"), each at most 255 * 127, and so is
below 2^26.4. A sum of more than 518 products can exceed 2^24, and is then rounded where it becomes a float32.

Letters: N batch, H W input rows and columns, C input channels, M output channels, K kernel, Q R output rows and
columns. Arrays are NHWC.
"""
import numpy as np

from ..errors import ArgumentError
from .architecture import Conv
from .quantization import RELU6_STEP, FloatLayer, QuantizedLayer, QuantizedWeights, reads_floats
from .reference import depthwise_conv, pointwise_conv, relu6, taps

STEP = np.float32(RELU6_STEP)
LEVELS = np.float32(255)
LARGEST = np.float32(127)  # of a quantised float
SHARE = np.float32(1.0 / 127.0)  # of a float's largest value, for one step
LEAST = np.float32(2.0**-100)

# --- the layers ------------------------------------------------------------------------------------------------------


def fma(a, b, c):
    """a * b + c for float32 arrays, rounded once.

    A float64 holds the product of two float32 exactly. The sum is rounded to odd there, after which rounding once more,
    to float32, is as good as rounding once (Boldo & Melquiond 2008, doi 10.1109/TC.2007.70819).
    """
    product, c = np.multiply(a, b, dtype=np.float64), np.asarray(c, np.float64)
    total = product + c
    back = total - product
    lost = (product - (total - back)) + (c - back)  # exact: Knuth's two-sum
    even = total.view(np.int64) & 1 == 0
    return np.where((lost != 0) & even, np.nextafter(total, np.copysign(np.inf, lost)), total).astype(np.float32)


def float_conv(x, layer: FloatLayer, conv: Conv):
    """(N, H, W, C) float32 -> (N, Q, R, M) float32: a chain of multiply-adds from the bias, over the taps in order."""
    y = layer.bias
    for i, j, view in taps(x, conv.kernel, conv.stride):
        weight = layer.weight[:, :, i, j]  # (M, C), or (C, 1) if depthwise
        for c in range(weight.shape[1]):
            y = fma(view if conv.op == "depthwise" else view[..., c, None], weight[:, c], y)
    return y


def clamp(y):
    """(..) float32 -> (..) uint8: the nearest of 0..255."""
    return np.rint(np.clip(y, np.float32(0), LEVELS)).astype(np.uint8)


def sums(q, layer: QuantizedLayer, conv: Conv | None = None):
    """(N, H, W, C) -> (N, Q, R, M) float32: the integer sums of a convolution, or of the classifier, converted.

    They are computed in float64, which holds every integer below 2^53, and rounded once.
    """
    q, weight = q.astype(np.float64), layer.weight.astype(np.float64)
    depthwise = conv is not None and conv.op == "depthwise"
    return (depthwise_conv(q, weight, conv.stride) if depthwise else pointwise_conv(q, weight)).astype(np.float32)


def from_uint8(q, layer: QuantizedLayer, conv: Conv):
    """(N, H, W, C) uint8 -> (N, Q, R, M) float32: a convolution after a ReLU6."""
    return fma(sums(q, layer, conv), layer.scale, layer.bias)


def quantized_rows(y):
    """(N, H, W, C) float32 -> whole numbers, (N, H, W, C), and each row's scale, (N, H, 1, 1); both float32."""
    largest = np.maximum(np.abs(y).max((-2, -1), keepdims=True), LEAST)
    return np.rint(y * (LARGEST / largest)), largest * SHARE


def from_float32(y, layer: QuantizedLayer):
    """(N, H, W, C) float32 -> (N, H, W, M) float32: a 1x1 convolution that quantises each row for itself."""
    r, scale = quantized_rows(y)
    return fma(sums(r, layer), scale * layer.scale, layer.bias)


def global_pool(q, how: str):
    """(N, H, W, C) uint8 -> (N, C) float32, or (N, 2 C) for "catavgmax": one of timm's pools."""
    total = q.sum((1, 2), dtype=np.int64).astype(np.float32)
    average = total * (STEP / np.float32(q.shape[1] * q.shape[2]))
    largest = real(q.max((1, 2)))
    return {"avg": average, "max": largest, "avgmax": average * np.float32(0.5) + largest * np.float32(0.5),
            "catavgmax": np.concatenate([average, largest], axis=1)}[how]


def real(output):
    """What an output stands for, float32: a uint8 is a multiple of 6/255."""
    return output.astype(np.float32) * STEP if output.dtype == np.uint8 else output


def kept(x):
    """The uint8 that stand for an activation after a ReLU6: the inverse of `real`. Any other float is rounded."""
    return x if x.dtype == np.uint8 else clamp(x / STEP)


# --- the network -----------------------------------------------------------------------------------------------------


class QuantizedNetwork:
    """The forward pass in 8 bits."""

    def __init__(self, weights: QuantizedWeights):
        self.architecture, self.weights = weights.architecture, weights

    def conv(self, x, conv: Conv):
        """(N, H, W, C), as it is kept or what it stands for -> (N, Q, R, M), as it is kept, without the shortcut."""
        if conv.name in self.weights.float_layers:
            y = float_conv(x, self.weights.float_layers[conv.name], conv)
            return relu6(y) if conv.op == "stem" else clamp(y)
        layer = self.weights.layers[conv.name]
        y = from_float32(x, layer) if reads_floats(conv) else from_uint8(kept(x), layer, conv)
        return clamp(y) if conv.relu6 else y

    def convolution(self, x, conv: Conv):
        """Raise ArgumentError: `reference.Network` has the convolution alone, but there is none in 8 bits."""
        raise ArgumentError(f"layer {conv.name!r} of a network in int8: convolution and batch norm are one layer "
                            f"there; ask for {conv.bn!r}, or make the model with precision='float32'")

    def layers(self, x):
        """(N, H, W, C) float32 -> yield the name and the output of every layer in order, as in `reference.Network`.

        Outputs are as they are kept, uint8 or float32; `real` gives what they stand for.
        """
        network = self.architecture
        x = self.conv(x, network.stem)
        yield network.stem.name, x
        for block in network.blocks:
            shortcut = x
            for conv in block.convs:
                x = self.conv(x, conv)
                if block.skip and conv == block.convs[-1]:
                    x = x + shortcut
                yield conv.name, x
        x = self.conv(x, network.head)
        yield network.head.name, x
        yield from self.head_layers(x)

    def head_layers(self, x):
        """The last feature map (N, H, W, C) uint8 -> the same for the layers after it."""
        if self.architecture.global_pool:
            x = global_pool(x, self.architecture.global_pool)
            yield "global_pool", x
        if self.architecture.num_classes:
            yield "classifier", self.logits(x)

    def logits(self, pooled):
        """The output of the global pool (N, C) -> (N, num_classes)."""
        return from_float32(pooled[:, None, None], self.weights.layers["classifier"])[:, 0, 0]

    def outputs(self, x, layers) -> dict:
        """(N, H, W, C) -> what the outputs of these layers stand for, by name; float32."""
        return {name: real(y) for name, y in self.layers(x) if name in layers}

    def head_outputs(self, features, layers) -> dict:
        """The last feature map (N, H, W, C), float32 -> the outputs of the global pool and the classifier."""
        return {name: y for name, y in self.head_layers(kept(features)) if name in layers}

    def __call__(self, x):
        """(N, H, W, C) float32 -> logits (N, num_classes), or what the last layer's output stands for; float32."""
        for _, output in self.layers(x):  # noqa: B007 (each replaces the one before it, and the last one stays)
            pass
        return real(output)
