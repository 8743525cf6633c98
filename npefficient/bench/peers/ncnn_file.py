"""The folded network as ncnn's pair of files: the graph as text (.param), the weights in order (.bin).

Each line of the graph: kind, name, number of inputs and outputs, their names, then key=value. A convolution's weights
start with four zero bytes (stored as plain float32), biases do not. A value that two layers read goes through a Split.
Source: ncnn's wiki, "param and model file structure", and `src/layer/convolution.cpp` for the keys.
"""
from collections import Counter
from pathlib import Path

import numpy as np

from ...weights.weight_file import read_weights
from .graph import INPUT, nodes

MAGIC = "7767517"
RAW = np.zeros(1, "<u4").tobytes()


def make(weights: str, target: str, batch: int, height: int, width: int) -> None:
    """Write `target` (.param) and the .bin beside it; ncnn takes one picture at a time, so `batch` is ignored."""
    made = nodes(read_weights(Path(weights)), height, width)
    readers = Counter(name for node in made for name in node.inputs)
    left = {name: [f"{name}.{i}" for i in range(count)] for name, count in readers.items() if count > 1}
    lines, blobs = [f"Input {INPUT} 0 1 {INPUT}"], 1
    for node in made:
        inputs = [left[name].pop(0) if name in left else name for name in node.inputs]
        lines.append(f"{_kind(node)} {node.name} {len(inputs)} 1 {' '.join(inputs)} {node.name} {_keys(node)}".strip())
        blobs += 1
        if node.name in left:
            copies = left[node.name]
            lines.append(f"Split {node.name}.split 1 {len(copies)} {node.name} {' '.join(copies)}")
            blobs += len(copies)
    Path(target).write_text("\n".join([MAGIC, f"{len(lines)} {blobs}", *lines]) + "\n")
    with Path(target).with_suffix(".bin").open("wb") as file:
        for node in made:
            if node.weight is not None:
                file.write(RAW + node.weight.astype("<f4").tobytes() + node.bias.astype("<f4").tobytes())


def _kind(node) -> str:
    return {"add": "BinaryOp", "pool": "Pooling", "classifier": "InnerProduct",
            "depthwise": "ConvolutionDepthWise"}.get(node.op, "Convolution")


def _keys(node) -> str:
    if node.op == "add":
        return "0=0"
    if node.op == "pool":
        return "0=1 4=1"  # average, over everything
    if node.op == "classifier":
        return f"0={node.out_size[2]} 1=1 2={node.weight.size}"
    top, left, bottom, right = node.pads
    clamp = " 9=3 -23310=2,0.0,6.0" if node.relu6 else ""
    groups = f" 7={node.group}" if node.op == "depthwise" else ""
    return (f"0={node.out_size[2]} 1={node.weight.shape[2]} 3={node.stride} 4={left} 14={top} 15={right} 16={bottom} "
            f"5=1 6={node.weight.size}{groups}{clamp}")
