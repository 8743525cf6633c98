"""Weights in 8 bits: rounding, scales, and biases corrected for the rounding, without a single photograph.

    step[m] = max over c, i, j of |w[m, c, i, j]| / 127    w: batch norm folded in, float64
    q[m, c, i, j] = rint(w[m, c, i, j] / step[m])          int8 in -127..127, one step for each output channel

Rounding moves the mean of an output by the sum of (rounded - true weight) times the mean of the input. The batch norms
know the inputs' means, so the bias takes this error away: Nagel et al. 2019, "Data-Free Quantization Through Weight
Equalization and Bias Correction" (arXiv:1906.04721), section 4.2. What is computed with weights and biases:
`npefficient/network/quantized_reference.py`.

All of it is computed in float64 and rounded once.
"""
import math
from dataclasses import dataclass, fields

import numpy as np

from ..common.text import quoted
from ..errors import WeightsError
from .architecture import Architecture, Conv
from .folding import fold
from .overflow import INPUT
from .parameters import Source, Weights, check_parameters
from .preprocessing import Preprocessing

RELU6_STEP = 6.0 / 255.0  # of every activation after a ReLU6, which is a uint8
LARGEST_WEIGHT = 127  # -128 does not occur
LARGEST = 2.0**127  # half of float32's range, so that no rounding leads beyond it
LARGEST_STEPS = 2.0**30  # before a ReLU6, in steps of its output: half of the range of the int32 that it becomes
# The smallest normal float32. Subnormal numbers are up to 140 times as slow (measured), and no logit shows that they
# are gone: a product with one would only matter in a sum that is as small itself.
TINY = float(np.finfo(np.float32).tiny)
CLASSES_AT_ONCE = 128


@dataclass(frozen=True)
class FloatLayer:
    """A convolution that stays in float32, with its batch norm folded in: the stem, or the depthwise one after it."""

    weight: np.ndarray  # float32 (M, C, K, K); of the depthwise one, divided by RELU6_STEP
    bias: np.ndarray  # float32 (M,), divided likewise


@dataclass(frozen=True)
class QuantizedLayer:
    """A convolution, or the classifier, with 8-bit weights.

    The scale is the step of the weights, times the step of the inputs where they are uint8, divided by RELU6_STEP where
    a ReLU6 follows; the bias is then divided by it, too. So scale and bias are the last two numbers that an output
    needs.
    """

    weight: np.ndarray  # int8 (M, C, K, K); (M, C, 1, 1) for the classifier
    scale: np.ndarray  # float32 (M,), positive
    bias: np.ndarray  # float32 (M,)


@dataclass(frozen=True)
class QuantizedWeights:
    """A network in 8 bits with everything needed to use it."""

    architecture: Architecture
    float_layers: dict[str, FloatLayer]  # the two of `float_convs`, by name
    layers: dict[str, QuantizedLayer]  # every other convolution, and "classifier" unless there is none
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None
    source: Source

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """All weights, scales and biases in the order of execution, by names such as "blocks.0.0.conv_pw.scale"."""
        return {f"{name}.{what}": array for name, layer in (self.float_layers | self.layers).items()
                for what, array in vars(layer).items()}


def expected_arrays(network: Architecture) -> dict[str, tuple[type, tuple[int, ...]]]:
    """Name -> dtype and shape of each of the `QuantizedWeights.parameters` of a network."""
    floats, arrays = {conv.name for conv in float_convs(network)}, {}
    shapes = {conv.name: conv.weight_shape for conv in network.convs}
    if network.num_classes:
        shapes["classifier"] = (network.num_classes, network.head_hidden_size, 1, 1)
    for name, shape in shapes.items():
        for field in fields(FloatLayer if name in floats else QuantizedLayer):
            dtype = np.float32 if name in floats or field.name != "weight" else np.int8
            arrays[f"{name}.{field.name}"] = dtype, shape if field.name == "weight" else shape[:1]
    return arrays


def float_convs(network: Architecture) -> tuple[Conv, ...]:
    """The stem and the depthwise convolution after it, 1 to 4 % of the multiply-adds.

    The stem's output is the one activation that 8 bits are too few for: the depthwise layer after it amplifies its
    errors. Rounding it alone would move the logits of Lite1 by 5 % of their deviation, on the photographs that come
    with npefficient, and those of Lite0 by 2 %, as much as rounding all others together (notebook 9 measures it).
    """
    return network.convs[:2]


def reads_floats(conv: Conv) -> bool:
    """True if the input is a linear bottleneck, in float32: that of each block's 1x1 expansion and of the head."""
    return conv.op == "pointwise" and conv.relu6


def quantize(weights: Weights) -> QuantizedWeights:
    """The network in 8 bits.

    Raises WeightsError for parameters that are not those of the architecture, that are not finite, or that can lead out
    of float32.
    """
    network, parameters = weights.architecture, weights.parameters
    check_parameters(parameters, network)
    stem, depthwise = float_convs(network)
    floats = {conv.name: FloatLayer(*(_rounded(array / step) for array in fold(conv, parameters)))
              for conv, step in ((stem, 1.0), (depthwise, RELU6_STEP))}
    layers, mean = {}, np.empty(0)
    for block in network.blocks:
        shortcut = mean
        for conv in block.convs:
            if conv != depthwise:
                layers[conv.name] = _convolution(conv, parameters, mean)
            mean = mean_output(conv, parameters)
        if block.skip:
            mean = mean + shortcut
    layers[network.head.name] = _convolution(network.head, parameters, mean)
    if network.num_classes:
        layers["classifier"] = _classifier(network, parameters, mean_output(network.head, parameters))
    made = QuantizedWeights(network, floats, layers, weights.preprocessing, weights.labels, weights.source)
    check_quantized(made)
    return made


def _convolution(conv: Conv, parameters: dict, mean) -> QuantizedLayer:
    weight, bias = fold(conv, parameters)
    steps = (1.0 if reads_floats(conv) else RELU6_STEP) / (RELU6_STEP if conv.relu6 else 1.0)
    return quantized_layer(weight, bias, mean, steps, RELU6_STEP if conv.relu6 else 1.0)


def _classifier(network: Architecture, parameters: dict, mean) -> QuantizedLayer:
    """Of a maximum no mean is known; it is no smaller than that of the average."""
    weight, bias = (parameters[f"classifier.{leaf}"] for leaf in ("weight", "bias"))
    mean = np.tile(mean, network.head_hidden_size // len(mean))
    # Some classes at a time: copies in float64 of all of them would be the largest arrays of a process.
    blocks = -(-len(bias) // CLASSES_AT_ONCE)
    layers = [quantized_layer(rows.astype(np.float64)[:, :, None, None], some.astype(np.float64), mean, 1.0, 1.0)
              for rows, some in zip(np.array_split(weight, blocks), np.array_split(bias, blocks))]
    return QuantizedLayer(*(np.concatenate(arrays) for arrays in zip(*(vars(layer).values() for layer in layers))))


def quantized_layer(weight, bias, mean, steps: float, output_step: float) -> QuantizedLayer:
    """(M, C, K, K), (M,), and the mean of each input channel (C,), or (M,) if depthwise; float64.

    steps: of the inputs, divided by those of the outputs
    """
    count = len(weight)
    step = np.abs(weight).reshape(count, -1).max(1) / LARGEST_WEIGHT
    empty = step * steps < TINY
    step = np.where(empty, 1.0, step)[:, None, None, None]
    weight = np.where(empty[:, None, None, None], 0.0, weight)
    rounded = np.rint(weight / step)
    depthwise = weight.shape[1] == 1
    error = (rounded * step - weight) * (mean[:, None, None, None] if depthwise else mean[:, None, None])
    bias = bias - _sums(error.reshape(count, -1))
    return QuantizedLayer(rounded.astype(np.int8), _rounded(step.ravel() * steps), _rounded(bias / output_step))


def _sums(rows):
    """(M, K) -> (M,): term after term. A matrix product would add in an order that depends on the processor."""
    return np.ascontiguousarray(rows.T).sum(0)


def _rounded(array) -> np.ndarray:
    """float64 -> float32, with zero for what would be subnormal; what is too large stays so, and is refused later."""
    return np.where(np.abs(array) < TINY, 0.0, np.clip(array, -LARGEST, LARGEST)).astype(np.float32)


# --- what the batch norms know ---------------------------------------------------------------------------------------


def mean_output(conv: Conv, parameters: dict) -> np.ndarray:
    """The mean of each output channel, (M,) float64, without a block's shortcut.

    A batch norm's output has mean beta and deviation |gamma|; before a ReLU6 it is taken for normal.
    """
    beta, gamma = (parameters[f"{conv.bn}.{leaf}"].astype(np.float64) for leaf in ("bias", "weight"))
    return clipped_mean(beta, np.abs(gamma)) if conv.relu6 else beta


def clipped_mean(mean, deviation) -> np.ndarray:
    """The mean of a normal variable x after ReLU6, to a multiple of 2^-20.

    6 P(x > 6) + mean P(0 < x < 6) + deviation (density(lower) - density(upper)), with 0 and 6 counted in deviations
    from the mean
    """
    lower, upper = (np.clip((bound - mean) / np.maximum(deviation, TINY), -40.0, 40.0) for bound in (0.0, 6.0))
    above_0, above_6 = (np.array([0.5 * math.erfc(z / math.sqrt(2.0)) for z in bound]) for bound in (lower, upper))
    density_0, density_6 = (np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi) for z in (lower, upper))
    found = 6.0 * above_6 + mean * (above_0 - above_6) + deviation * (density_0 - density_6)
    # exp and erfc may differ in their last bits between libraries; rounding takes that away. The bounds: for a
    # deviation beyond 1e15, the difference of densities has no correct digit.
    return np.clip(np.rint(found * 2.0**20) / 2.0**20, 0.0, 6.0)


# --- what is allowed -------------------------------------------------------------------------------------------------


def check_quantized(weights: QuantizedWeights) -> None:
    """Raise WeightsError naming a layer that is missing, unexpected or of another shape or dtype, that has a number
    which quantisation never gives, or that can exceed float32."""
    network, found, expected = weights.architecture, weights.parameters, expected_arrays(weights.architecture)
    wrong = {name.rpartition(".")[0] for name in expected.keys() ^ found.keys()}
    if wrong:
        raise WeightsError(f"these are not the quantised layers of {network.name} ({network.interface}): missing or "
                           f"unexpected {', '.join(sorted(map(quoted, wrong)))}")
    for name, array in found.items():
        _check_array(*name.rsplit(".", 1), array, *expected[name])
    for name, layer in weights.layers.items():
        if layer.weight.min() < -LARGEST_WEIGHT:
            raise WeightsError(f"layer {name!r}: a weight is {layer.weight.min()}; quantised weights are "
                               f"-{LARGEST_WEIGHT} to {LARGEST_WEIGHT}")
        if not layer.scale.min() > 0:
            raise WeightsError(f"layer {name!r}: a scale is {layer.scale.min()}; it must be positive")
    _check_range(weights)


def _check_array(layer: str, what: str, array: np.ndarray, dtype: type, shape: tuple) -> None:
    """Compare dtype and shape, and look for numbers that are not finite or subnormal."""
    if array.dtype != dtype or array.shape != shape:
        raise WeightsError(f"layer {layer!r}: its {what} is {array.dtype} {array.shape} instead of {np.dtype(dtype)} "
                           f"{shape}")
    if not np.isfinite((array.min(), array.max())).all():  # these propagate NaN, and make no copy
        raise WeightsError(f"layer {layer!r}: its {what} holds {array[~np.isfinite(array)][0]}; every number must be "
                           "finite")
    if dtype == np.float32 and (subnormal := (array != 0) & (np.abs(array) < TINY)).any():
        raise WeightsError(f"layer {layer!r}: its {what} holds {array[subnormal][0]}; quantisation rounds numbers "
                           f"below {TINY:.2g} to zero")


def _check_range(weights: QuantizedWeights) -> None:
    """Follow the largest value that each layer can give, as `check_overflow` does for the weights in float32."""
    network = weights.architecture
    for conv, largest_input in zip(float_convs(network), (INPUT, 6.0)):
        kept = weights.float_layers[conv.name]
        sums = np.abs(kept.weight.astype(np.float64)).sum((1, 2, 3)) * largest_input
        _check_largest(conv.name, (sums + np.abs(kept.bias)).max(), conv.op != "stem")
    bound = 0.0  # of the linear bottleneck
    for block in network.blocks:
        shortcut = bound
        for conv in block.convs:
            if conv.name not in weights.float_layers:
                bound = _largest_output(weights, conv.name, bound if reads_floats(conv) else None, conv.relu6)
        if block.skip:
            bound += shortcut
            _check_largest(conv.name, bound, False)
    _largest_output(weights, network.head.name, bound, True)
    if network.num_classes:
        _largest_output(weights, "classifier", 6.0, False)


def _largest_output(weights: QuantizedWeights, name: str, largest_input: float | None, steps: bool) -> float:
    """The largest output of a layer, in steps of a ReLU6 or not; without a largest input, that is a uint8."""
    layer = weights.layers[name]
    sums = np.abs(layer.weight.astype(np.int16)).sum((1, 2, 3), dtype=np.int64)
    sums = sums * (255.0 if largest_input is None else largest_input)
    outputs = sums * layer.scale.astype(np.float64) + np.abs(layer.bias.astype(np.float64))
    _check_largest(name, sums.max(), False)
    _check_largest(name, outputs.max(), steps)
    return float(outputs.max())


def _check_largest(name: str, value: float, steps: bool) -> None:
    limit, unit, kind = (LARGEST_STEPS, RELU6_STEP, "an int32 in steps of 6/255") if steps else (LARGEST, 1, "float32")
    if not value < limit:
        raise WeightsError(f"layer {name!r}: its quantised weights can give values up to {value * unit:.2g}: they must "
                           f"stay below {limit * unit:.2g}, half of what {kind} can hold; the training run that wrote "
                           "them has diverged")
