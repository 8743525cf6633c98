"""A TFLite flatbuffer from tensors and operators; NHWC, its 'SAME' padding is the network's own."""
from pathlib import Path

import numpy as np

SCHEMA_VERSION, IDENTIFIER = 3, b"TFL3"


class Writer:
    """Collects tensors and operators under their names, and writes them."""

    def __init__(self):
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self.numbers, self.codes = {}, []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.buffers = [schema.BufferT()]  # number 0: no data

    def value(self, name: str, shape, dtype=np.float32, scale=None, zero=None) -> None:
        """A tensor that is computed."""
        self._tensor(name, shape, dtype, scale, zero, 0)

    def constant(self, name: str, array, scale=None, channel_axis: int = 0) -> None:
        """A tensor with data; `scale`: one for each channel."""
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self.buffers.append(buffer)
        zero = None if scale is None else np.zeros(len(scale), np.int64)
        self._tensor(name, array.shape, array.dtype, scale, zero, len(self.buffers) - 1, channel_axis)

    def _tensor(self, name, shape, dtype, scale, zero, buffer, channel_axis=0):
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, list(map(int, shape)), buffer
        tensor.type = getattr(self.schema.TensorType, np.dtype(dtype).name.upper())
        if scale is not None:
            tensor.quantization = self.schema.QuantizationParametersT()
            tensor.quantization.scale = np.atleast_1d(np.asarray(scale, np.float32))
            tensor.quantization.zeroPoint = np.atleast_1d(np.asarray(zero, np.int64))
            tensor.quantization.quantizedDimension = channel_axis
        self.numbers[name] = len(self.graph.tensors)
        self.graph.tensors.append(tensor)

    def node(self, node) -> None:
        """The operator of a node, whose constants are NAME.weight, NAME.bias and NAME.axes."""
        code, options, constants = self._operator(node)
        self.operator(code, [*node.inputs, *(f"{node.name}.{suffix}" for suffix in constants)], node.name, options)

    def _operator(self, node):
        """One node -> (builtin operator, options, its constants)."""
        schema = self.schema
        ops, clamps = schema.BuiltinOperator, schema.ActivationFunctionType
        if node.op == "add":
            return ops.ADD, schema.AddOptionsT(), ()
        if node.op == "pool":
            return ops.MEAN, schema.ReducerOptionsT(), ("axes",)
        if node.op == "classifier":
            return ops.FULLY_CONNECTED, schema.FullyConnectedOptionsT(), ("weight", "bias")
        depthwise = node.op == "depthwise"
        options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
        options.padding, options.strideH, options.strideW = schema.Padding.SAME, node.stride, node.stride
        options.fusedActivationFunction = clamps.RELU6 if node.relu6 else clamps.NONE
        options.dilationHFactor = options.dilationWFactor = 1
        if depthwise:
            options.depthMultiplier = 1
        return ops.DEPTHWISE_CONV_2D if depthwise else ops.CONV_2D, options, ("weight", "bias")

    def operator(self, code: int, inputs, output: str, options) -> None:
        if code not in self.codes:
            self.codes.append(code)
        made = self.schema.OperatorT()
        made.opcodeIndex = self.codes.index(code)
        made.inputs, made.outputs = [self.numbers[name] for name in inputs], [self.numbers[output]]
        made.builtinOptions = options
        made.builtinOptionsType = getattr(self.schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.graph.operators.append(made)

    def write(self, target: str, first: str, last: str) -> None:
        """Write the model with these names as input and output."""
        import flatbuffers

        self.graph.inputs, self.graph.outputs = [self.numbers[first]], [self.numbers[last]]
        model = self.schema.ModelT()
        model.version, model.subgraphs = SCHEMA_VERSION, [self.graph]
        model.buffers, model.operatorCodes = self.buffers, []
        for code in self.codes:
            made = self.schema.OperatorCodeT()
            made.builtinCode = made.deprecatedBuiltinCode = code
            made.version = 1
            model.operatorCodes.append(made)
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        Path(target).write_bytes(builder.Output())


def shape_of(node, batch: int) -> tuple[int, ...]:
    """The shape of a node's output."""
    return (batch, *node.out_size) if node.op not in ("pool", "classifier") else (batch, node.out_size[2])


def weight_of(node, weight) -> np.ndarray:
    """A weight in TFLite's order: (M, K, K, C), (1, K, K, C) if depthwise, (M, C) for the classifier."""
    if node.op == "classifier":
        return weight
    return weight.transpose((1, 2, 3, 0) if node.op == "depthwise" else (0, 2, 3, 1))
