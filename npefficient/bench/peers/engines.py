"""Load a network into each engine: (subject, batch, threads) -> a call that returns logits (batch, classes).

Every engine computes in float32 on exactly `threads` threads and gets its input in its preferred layout, prepared in
advance: only the inference is timed.
"""
import functools
import importlib

import numpy as np

from ..subject import Subject


def npefficient(subject: Subject, batch: int, threads: int):
    from ...model.model import create_model

    model, x = create_model(checkpoint_path=subject.weights, num_threads=threads), subject.input(batch)
    return lambda: model(x)


def torch_eager(subject: Subject, batch: int, threads: int):
    torch, model, x = _torch(subject, batch, threads)

    def call():
        with torch.inference_mode():
            return model(x).numpy()

    return call


def torch_compile(subject: Subject, batch: int, threads: int):
    torch, model, x = _torch(subject, batch, threads)
    from torch._inductor import config

    config.freezing = True  # weights become constants, batch norm is folded
    compiled = torch.compile(model)

    def call():
        with torch.no_grad():  # freezing asks for it
            return compiled(x).numpy()

    return call


def _torch(subject: Subject, batch: int, threads: int):
    """timm's model with the weights of the file, channels last."""
    import torch

    from ...weights.weight_file import read_weights

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    torch.set_float32_matmul_precision("highest")
    try:
        importlib.import_module("torchvision")
    except RuntimeError:  # built for a CUDA torch: declare the missing operators, for this module's lifetime
        for name in ("nms", "qnms"):
            _operators(torch).define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import timm

    weights = read_weights(subject.weights)
    model = timm.create_model(weights.architecture.name, num_classes=weights.architecture.num_classes)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.parameters.items()})
    x = torch.from_numpy(subject.input(batch)).permute(0, 3, 1, 2)  # NCHW shape, channels last in memory
    return torch, model.eval().to(memory_format=torch.channels_last), x


@functools.cache
def _operators(torch):
    return torch.library.Library("torchvision", "FRAGMENT")


def onnxruntime(subject: Subject, batch: int, threads: int):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    file = model_file(subject, batch, "onnx")
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    x = {session.get_inputs()[0].name: _nchw(subject, batch)}
    return lambda: session.run(None, x)[0]


def openvino(subject: Subject, batch: int, threads: int):
    import openvino as ov

    model = ov.Core().compile_model(model_file(subject, batch, "onnx"), "CPU", {
        "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY"})
    request, x = model.create_infer_request(), ov.Tensor(_nchw(subject, batch))

    def call():
        request.infer([x], share_inputs=True, share_outputs=True)
        return request.get_output_tensor().data

    return call


def ncnn(subject: Subject, batch: int, threads: int):
    import ncnn as library

    from .graph import INPUT, OUTPUT

    net = library.Net()
    net.opt.num_threads = threads
    for name in dir(net.opt):
        if name.startswith(("use_fp16_", "use_bf16_")):  # the set depends on the release
            setattr(net.opt, name, False)
    file = model_file(subject, batch, "param")
    if net.load_param(file) or net.load_model(file.removesuffix("param") + "bin"):
        raise RuntimeError("ncnn refuses its model")
    array = _nchw(subject, batch)[0]
    x = library.Mat(array).clone()  # the first one does not keep the array alive

    def call():
        with net.create_extractor() as extractor:
            extractor.input(INPUT, x)
            return np.array(extractor.extract(OUTPUT)[1])[None]

    return call


def litert(subject: Subject, batch: int, threads: int):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model_file(subject, batch, "tflite"), num_threads=threads)
    interpreter.allocate_tensors()
    first, last = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    x = subject.input(batch)

    def call():
        interpreter.set_tensor(first, x)
        interpreter.invoke()
        return interpreter.get_tensor(last)

    return call


def model_file(subject: Subject, batch: int, kind: str) -> str:
    """The path of a model file of this kind; it is made before the engines start."""
    return str(subject.directory / f"{subject.name}-{batch}.{kind}")


def _nchw(subject: Subject, batch: int) -> np.ndarray:
    return np.ascontiguousarray(subject.input(batch).transpose(0, 3, 1, 2))
