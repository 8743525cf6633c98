"""The folded network as an ONNX file, NCHW, for ONNX Runtime and OpenVINO."""
from pathlib import Path

import numpy as np

from ...weights.weight_file import read_weights
from .graph import INPUT, OUTPUT, nodes

OPSET, IR_VERSION = 13, 8  # old enough for every current reader


def make(weights: str, target: str, batch: int, height: int, width: int) -> None:
    """Write a weight file's network for one input shape."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    loaded = read_weights(Path(weights))
    constants = {"zero": np.float32(0), "six": np.float32(6)}
    made = []
    for node in nodes(loaded, height, width):
        out = f"{node.name}.conv" if node.relu6 else node.name
        if node.weight is not None:
            constants[f"{node.name}.weight"], constants[f"{node.name}.bias"] = node.weight, node.bias
        parameters = [f"{node.name}.weight", f"{node.name}.bias"]
        if node.op == "add":
            made.append(helper.make_node("Add", node.inputs, [out]))
        elif node.op == "pool":
            made.append(helper.make_node("GlobalAveragePool", node.inputs, ["pooled"]))
            made.append(helper.make_node("Flatten", ["pooled"], [out]))
        elif node.op == "classifier":
            made.append(helper.make_node("Gemm", [*node.inputs, *parameters], [out], transB=1))
        else:
            made.append(helper.make_node("Conv", [*node.inputs, *parameters], [out], strides=[node.stride] * 2,
                                         kernel_shape=node.weight.shape[2:], pads=node.pads, group=node.group))
        if node.relu6:
            made.append(helper.make_node("Clip", [out, "zero", "six"], [node.name]))
    network = loaded.architecture
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (
        (INPUT, (batch, network.in_chans, height, width)), (OUTPUT, (batch, network.num_classes)))]
    tensors = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(made, network.name, ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    onnx.save(model, target)
