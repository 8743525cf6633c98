"""The folded network as a TFLite flatbuffer, NHWC, for LiteRT; its 'SAME' padding is the network's own."""
from pathlib import Path

import numpy as np

from ...weights.weight_file import read_weights
from .graph import INPUT, nodes

SCHEMA_VERSION, IDENTIFIER = 3, b"TFL3"


def make(weights: str, target: str, batch: int, height: int, width: int) -> None:
    """Write a weight file's network for one input shape."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    loaded = read_weights(Path(weights))
    writer = _Writer(schema)
    writer.tensor(INPUT, (batch, height, width, loaded.architecture.in_chans))
    for node in nodes(loaded, height, width):
        shape = (batch, *node.out_size) if node.op not in ("pool", "classifier") else (batch, node.out_size[2])
        writer.tensor(node.name, shape)
        inputs, operator, options = _operator(schema, node)
        for suffix, array in inputs.items():
            writer.tensor(f"{node.name}.{suffix}", array.shape, array)
        writer.operator(operator, [*node.inputs, *(f"{node.name}.{suffix}" for suffix in inputs)], node.name, options)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(writer.model(INPUT, node.name).Pack(builder), IDENTIFIER)
    Path(target).write_bytes(builder.Output())


def _operator(schema, node):
    """One node -> (constant inputs by name, builtin operator, options)."""
    ops = schema.BuiltinOperator
    clamp = schema.ActivationFunctionType.RELU6 if node.relu6 else schema.ActivationFunctionType.NONE
    if node.op == "add":
        return {}, ops.ADD, schema.AddOptionsT()
    if node.op == "pool":
        return {"axes": np.array([1, 2], np.int32)}, ops.MEAN, schema.ReducerOptionsT()
    if node.op == "classifier":
        return {"weight": node.weight, "bias": node.bias}, ops.FULLY_CONNECTED, schema.FullyConnectedOptionsT()
    depthwise = node.op == "depthwise"
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    options.padding, options.fusedActivationFunction = schema.Padding.SAME, clamp
    options.strideH = options.strideW = node.stride
    options.dilationHFactor = options.dilationWFactor = 1
    if depthwise:
        options.depthMultiplier = 1
    weight = node.weight.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1))  # (1, K, K, C) or (M, K, K, C)
    return ({"weight": weight, "bias": node.bias}, ops.DEPTHWISE_CONV_2D if depthwise else ops.CONV_2D, options)


class _Writer:
    """Collects tensors and operators under their names."""

    def __init__(self, schema):
        self.schema = schema
        self.numbers, self.codes = {}, []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.buffers = [schema.BufferT()]  # number 0: no data

    def tensor(self, name: str, shape, array=None) -> None:
        tensor, kinds = self.schema.TensorT(), self.schema.TensorType
        tensor.name, tensor.shape, tensor.buffer = name, list(map(int, shape)), 0
        tensor.type = kinds.INT32 if array is not None and array.dtype == np.int32 else kinds.FLOAT32
        if array is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.numbers[name] = len(self.graph.tensors)
        self.graph.tensors.append(tensor)

    def operator(self, code: int, inputs, output: str, options) -> None:
        if code not in self.codes:
            self.codes.append(code)
        made = self.schema.OperatorT()
        made.opcodeIndex = self.codes.index(code)
        made.inputs, made.outputs = [self.numbers[name] for name in inputs], [self.numbers[output]]
        made.builtinOptions = options
        made.builtinOptionsType = getattr(self.schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.graph.operators.append(made)

    def model(self, first: str, last: str):
        self.graph.inputs, self.graph.outputs = [self.numbers[first]], [self.numbers[last]]
        model = self.schema.ModelT()
        model.version, model.subgraphs = SCHEMA_VERSION, [self.graph]
        model.buffers, model.operatorCodes = self.buffers, []
        for code in self.codes:
            made = self.schema.OperatorCodeT()
            made.builtinCode = made.deprecatedBuiltinCode = code
            made.version = 1
            model.operatorCodes.append(made)
        return model
