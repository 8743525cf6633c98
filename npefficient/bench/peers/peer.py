"""The engines beside ours, and what each needs."""
import importlib.util
from dataclasses import dataclass

from ...errors import ArgumentError


@dataclass(frozen=True)
class Needs:
    """What an engine needs for one precision: modules, and the kind of file it reads."""

    modules: tuple[str, ...] = ()
    file: tuple[str, str] | None = None  # (module that makes it, suffix)


@dataclass(frozen=True)
class Peer:
    """One engine and the distribution it comes from."""

    engine: str  # a function of `engines`
    distribution: str
    float32: Needs = Needs()
    int8: Needs | None = None  # None: it is only compared in float32
    batches: bool = True
    trains: bool = False  # it has a function of `training_engines`, too

    def needs(self, precision: str) -> Needs | None:
        return {"float32": self.float32, "int8": self.int8}[precision]

    def obstacle(self, precision: str, batch: int) -> str | None:
        """Why this engine can't take part; None if it can."""
        needs = self.needs(precision)
        if needs is None:
            return f"compared in float32 only, not in {precision}"
        missing = [module for module in needs.modules if importlib.util.find_spec(module) is None]
        if missing:
            return f"not installed: {', '.join(missing)}"
        return f"takes one picture at a time, not {batch}" if batch > 1 and not self.batches else None


OURS = Peer("npefficient", "npefficient", int8=Needs(), trains=True)
PEERS = (
    Peer("openvino", "openvino", Needs(("openvino", "onnx"), ("onnx_file", "onnx")),
         Needs(("openvino", "onnx", "nncf"), ("openvino_int8_file", "int8.xml"))),
    Peer("litert", "ai-edge-litert", Needs(("ai_edge_litert", "flatbuffers"), ("tflite_file", "tflite")),
         Needs(("ai_edge_litert", "flatbuffers"), ("tflite_int8_file", "int8.tflite"))),
    Peer("onnxruntime", "onnxruntime", Needs(("onnxruntime", "onnx"), ("onnx_file", "onnx")),
         Needs(("onnxruntime", "onnx"), ("onnx_int8_file", "int8.onnx"))),
    Peer("ncnn", "ncnn", Needs(("ncnn",), ("ncnn_file", "param")), batches=False),
    Peer("torch_compile", "torch", Needs(("torch", "timm")), trains=True),
    Peer("torch_eager", "torch", Needs(("torch", "timm")), trains=True),
)


def choose(names: str, training: bool = False) -> list[Peer]:
    """"openvino,ncnn" or "all" -> peers; training: of those that train."""
    known = {peer.engine: peer for peer in PEERS if peer.trains or not training}
    if names == "all":
        return list(known.values())
    for name in names.split(","):
        if name not in known:
            raise ArgumentError(f"unknown peer {name!r}: known are {', '.join(known)}")
    return [known[name] for name in names.split(",")]
