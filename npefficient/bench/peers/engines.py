"""Load a network into each engine: (file, precision, threads) -> (prepare, infer).

`prepare` turns pictures, float32 (batch, H, W, 3), into the engine's preferred layout, and `infer` that into logits,
float32 (batch, classes): only `infer` is timed. Pictures and logits are float32 with 8 bits, too, so quantising them is
a part of the time. Every engine computes on exactly `threads` threads.
"""
import functools
import importlib
import sys

import numpy as np


def npefficient(file: str, precision: str, threads: int):
    from ...model.model import create_model

    model = create_model(checkpoint_path=file, num_threads=threads, precision=precision)
    return np.asarray, model


def torch_eager(file: str, precision: str, threads: int):
    torch, model = timm_model(file, threads)
    model.eval()

    def infer(x):
        with torch.inference_mode():
            return model(x).numpy()

    return channels_last, infer


def torch_compile(file: str, precision: str, threads: int):
    torch, model = timm_model(file, threads)
    from torch._inductor import config

    config.freezing = True  # weights become constants, batch norm is folded
    compiled = torch.compile(model.eval())

    def infer(x):
        with torch.no_grad():  # freezing asks for it
            return compiled(x).numpy()

    return channels_last, infer


def timm_model(file: str, threads: int):
    """torch, and timm's model with the weights of the file, in training mode and channels last."""
    from ...weights.weight_file import read_weights

    timm, torch = import_timm()
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    torch.set_float32_matmul_precision("highest")
    weights = read_weights(file)
    model = timm.create_model(weights.architecture.name, num_classes=weights.architecture.num_classes)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.parameters.items()})
    return torch, model.to(memory_format=torch.channels_last)


def import_timm():
    """The modules `timm` and `torch`, also where torch is a CPU build and torchvision is not."""
    import torch

    try:
        importlib.import_module("torchvision")
    except RuntimeError:  # "operator torchvision::nms does not exist": declare it and its sibling, and timm imports
        for name in ("nms", "qnms"):
            _operators(torch).define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import timm

    return timm, torch


@functools.cache
def _operators(torch):
    """What declares operators of torchvision; they live as long as it does."""
    return torch.library.Library("torchvision", "FRAGMENT")


def channels_last(x):
    """A tensor of shape NCHW, channels last in memory."""
    import torch

    return torch.from_numpy(x).permute(0, 3, 1, 2)


def onnxruntime(file: str, precision: str, threads: int):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return _nchw, lambda x: session.run(None, {name: x})[0]


def openvino(file: str, precision: str, threads: int):
    ov = import_openvino()
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    if precision == "float32":
        settings["INFERENCE_PRECISION_HINT"] = "f32"  # else it may take bfloat16
    request = ov.Core().compile_model(file, "CPU", settings).create_infer_request()

    def infer(x):
        request.infer([x], share_inputs=True, share_outputs=True)
        return request.get_output_tensor().data

    return lambda x: ov.Tensor(_nchw(x)), infer


def import_openvino():
    """The module `openvino`. It and NNCF would report their use to Intel, but do without if they can't."""
    sys.modules["openvino_telemetry"] = None  # importing it fails from now on
    return importlib.import_module("openvino")


def ncnn(file: str, precision: str, threads: int):
    import ncnn as library

    from .graph import INPUT, OUTPUT

    net = library.Net()
    net.opt.num_threads = threads
    for name in dir(net.opt):
        if name.startswith(("use_fp16_", "use_bf16_")):  # the set depends on the release
            setattr(net.opt, name, False)
    if net.load_param(file) or net.load_model(file.removesuffix("param") + "bin"):
        raise RuntimeError("ncnn refuses its model")

    def prepare(x):
        array = _nchw(x)[0]
        return library.Mat(array).clone()  # the first Mat does not keep the array alive

    def infer(x):
        with net.create_extractor() as extractor:
            extractor.input(INPUT, x)
            return np.array(extractor.extract(OUTPUT)[1])[None]

    return prepare, infer


def litert(file: str, precision: str, threads: int):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=file, num_threads=threads)
    interpreter.allocate_tensors()
    first, last = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def infer(x):
        interpreter.set_tensor(first, x)
        interpreter.invoke()
        return interpreter.get_tensor(last)

    return np.asarray, infer


def _nchw(x) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
