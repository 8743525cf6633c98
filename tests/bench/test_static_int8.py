"""A peer in 8 bits with fixed ranges: its integers, and the TFLite model that holds them, computed in plain NumPy."""
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from npefficient.bench.peers import graph, static_int8, tflite_int8_file
from npefficient.bench.subject import make_subject
from npefficient.network import architecture, reference
from npefficient.network.parameters import random_weights

DTYPES = {"FLOAT32": np.float32, "INT8": np.int8, "INT32": np.int32}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    made = make_subject("lite0", tmp_path_factory.mktemp("small"), (47, 64))  # odd rows: pads differ from axis to axis
    np.save(made.calibration, made.input(2))
    return made


# --- scales and integers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("low, high", [(0.0, 6.0), (-1.0, 1.0), (-3.0, 0.0), (-0.001, 5.0), (0.0, 0.0)])
def test_a_range_is_covered_and_zero_is_exact(low, high):
    found = static_int8.affine(low, high)
    assert -128 <= found.zero <= 127 and found.scale > 0
    least, most = (found.scale * (q - found.zero) for q in (-128, 127))
    assert least <= low + found.scale / 2 and most >= high - found.scale / 2
    if high > low:
        assert most - least == pytest.approx(high - low)


def test_integers_are_the_weights_and_biases():
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(5, 7, 1, 1)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    weight[1] *= 100
    weight[3] = 0
    layer = static_int8.integers(graph.Node("pointwise", "it", ("x",), (1, 1, 5), weight, bias), 0.01)
    assert layer.weight.dtype == np.int8 and layer.bias.dtype == np.int32 and layer.weight.min() >= -127
    assert (np.abs(layer.weight).max((1, 2, 3)) == [127, 127, 127, 0, 127]).all()
    back = layer.weight * layer.scale[:, None, None, None]
    assert (np.abs(back - weight) <= layer.scale[:, None, None, None] * 0.5001).all()
    assert np.abs(layer.bias * layer.bias_scale - bias).max() <= layer.bias_scale.max() * 0.5001
    np.testing.assert_allclose(layer.bias_scale, layer.scale * 0.01, rtol=1e-6)


def test_ranges_are_those_of_every_value(small):
    """Also of what a shortcut is added to, which the network does not name."""
    weights = random_weights(architecture.build("lite0"))
    network, x = reference.Network(weights.architecture, weights.parameters), small.input(2)
    nodes = graph.nodes(weights, 47, 64)
    found = static_int8.values(network, nodes, x)
    assert set(found) == {graph.INPUT, *(node.name for node in nodes)}
    for node in nodes:
        if node.op == "add":
            conv, shortcut = node.inputs
            np.testing.assert_allclose(found[node.name], found[conv] + found[shortcut], atol=1e-5)
        if node.op == "pointwise" and not node.relu6:
            expected = found[node.inputs[0]] @ node.weight[:, :, 0, 0].T + node.bias
            np.testing.assert_allclose(found[node.name], expected, atol=1e-4)
    ranges = static_int8.calibrate(network, nodes, [x[:1], x[1:]])
    for name, y in found.items():
        expected = static_int8.affine(min(0.0, float(y.min())), max(0.0, float(y.max())))
        assert ranges[name].scale == pytest.approx(expected.scale, rel=1e-5)  # sums of one picture or two differ
        assert abs(ranges[name].zero - expected.zero) <= 1


# --- the TFLite model ------------------------------------------------------------------------------------------------


class Names:
    """An enumeration of the schema: each member is its name."""

    def __getattr__(self, name):
        return name


class Schema:
    """Stands in for LiteRT's schema: NAMET is a class of plain objects, and any other name an enumeration."""

    def __getattr__(self, name):
        if not name.endswith("T"):
            return Names()
        return type(name, (SimpleNamespace,), {"Pack": lambda self, builder: self})


class Builder:
    """Stands in for the one of flatbuffers: keeps the model, and writes nothing."""

    model = None

    def __init__(self, size):
        pass

    def Finish(self, model, identifier):
        assert identifier == b"TFL3"
        Builder.model = model

    def Output(self):
        return b""


@pytest.fixture
def tflite(monkeypatch, tmp_path, small):
    """The model that `tflite_int8_file` makes of the small network, as objects."""
    package = SimpleNamespace(schema_py_generated=Schema())
    monkeypatch.setitem(sys.modules, "ai_edge_litert", package)
    monkeypatch.setitem(sys.modules, "flatbuffers", SimpleNamespace(Builder=Builder))
    tflite_int8_file.make(str(small.weights), str(tmp_path / "m"), 2, 47, 64, str(small.calibration))
    return Builder.model


def real(q, tensor):
    form = tensor.quantization
    return form.scale[0] * (q.astype(np.float64) - form.zeroPoint[0])


def quantised(y, tensor):
    form = tensor.quantization
    return np.clip(np.rint(y / form.scale[0]) + form.zeroPoint[0], -128, 127).astype(np.int8)


def accumulate(code, q, weight, options, shape):
    """The integer sums of a convolution or the classifier; q is without its zero."""
    if code == "FULLY_CONNECTED":
        return q @ weight.T
    size, stride = weight.shape[1], options.strideH
    assert options.padding == "SAME" and options.strideW == stride
    pads = [max((out - 1) * stride + size - within, 0) for out, within in zip(shape[1:3], q.shape[1:3])]
    q = np.pad(q, ((0, 0), *((pad // 2, pad - pad // 2) for pad in pads), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(q, (size, size), (1, 2))[:, ::stride, ::stride]
    if code == "DEPTHWISE_CONV_2D":
        return np.einsum("nqrcij,ijc->nqrc", windows, weight[0])
    return np.einsum("nqrcij,mijc->nqrm", windows, weight, optimize=True)


def interpret(model, x):
    """Run the model as the specification of TFLite's 8 bits has it: integers inside, one rounding at each output."""
    graph, = model.subgraphs
    tensors, values = graph.tensors, {graph.inputs[0]: x}

    def constant(number):
        return model.buffers[tensors[number].buffer].data.view(DTYPES[tensors[number].type]).reshape(
            tensors[number].shape)

    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        numbers, out = operator.inputs, tensors[operator.outputs[0]]
        first, tensor = values[numbers[0]], tensors[numbers[0]]
        if code == "QUANTIZE":
            y = quantised(first, out)
        elif code == "DEQUANTIZE":
            y = real(first, tensor)
        elif code == "ADD":
            y = quantised(real(first, tensor) + real(values[numbers[1]], tensors[numbers[1]]), out)
        elif code == "MEAN":
            y = quantised(real(first, tensor).mean(tuple(constant(numbers[1]))), out)
        else:
            kernel, shift = (tensors[number].quantization for number in numbers[1:])
            weight, bias = map(constant, numbers[1:])
            assert weight.dtype == np.int8 and bias.dtype == np.int32
            assert weight.shape[kernel.quantizedDimension] == len(kernel.scale) == len(bias)
            np.testing.assert_allclose(shift.scale, kernel.scale * tensor.quantization.scale, rtol=1e-6)
            assert not any(kernel.zeroPoint) and not any(shift.zeroPoint)
            q = first.astype(np.float64) - tensor.quantization.zeroPoint[0]  # exact, and faster than integers
            sums = accumulate(code, q, weight.astype(np.float64), operator.builtinOptions, out.shape)
            y = (sums + bias) * shift.scale
            clamp = getattr(operator.builtinOptions, "fusedActivationFunction", "NONE")
            y = quantised(np.clip(y, 0, 6) if clamp == "RELU6" else y, out)
        assert y.shape == tuple(out.shape), code
        values[operator.outputs[0]] = y
    return values[graph.outputs[0]]


def test_the_integer_model_is_the_network(tflite, small):
    expected = small.logits(2)
    got = interpret(tflite, small.input(2))
    assert 1e-4 < np.sqrt(np.mean((got - expected) ** 2)) / expected.std() < 0.15


def test_pictures_and_logits_are_float32_and_nothing_between(tflite):
    graph, = tflite.subgraphs
    assert [graph.tensors[number].name for number in (*graph.inputs, *graph.outputs)] == ["pictures", "logits"]
    for tensor in graph.tensors:
        expected = {"pictures": "FLOAT32", "logits": "FLOAT32"}.get(tensor.name, "INT8")
        assert tensor.type == ("INT32" if tensor.name.endswith((".bias", ".axes")) else expected)
