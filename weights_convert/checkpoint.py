"""Read a checkpoint of torch or safetensors into a state_dict of arrays: no torch, and no code of the file's is run."""
from dataclasses import dataclass

import numpy as np

from npefficient.errors import WeightsError
from npefficient.parameters import Source
from npefficient.text import listed, quoted

from .pickle_values import Inert, Record
from .safetensors import read_safetensors
from .source_file import SourceFile, read_source
from .tensors import Tensor
from .torch_legacy import read_legacy
from .torch_zip import read_zip

# The order of timm/models/_helpers.py `load_state_dict`: the first two count only where they are not None.
_AVERAGES, _PLAIN = ("state_dict_ema", "model_ema"), ("state_dict", "model")
_PREFIXES = ("_orig_mod.", "module.", "_orig_mod.")  # torch.compile, data parallel, either around the other


@dataclass(frozen=True)
class Checkpoint:
    """A state_dict and where it came from."""

    tensors: dict[str, np.ndarray]  # contiguous, in the machine's byte order; bfloat16 widened to float32
    source: Source
    metadata: dict[str, str]  # what the file says about its model: safetensors' metadata, or "arch" and "args.model"
    wrapper: str  # the key of the dictionary it was taken from; "" where it was the whole object
    size: int  # bytes of the file
    remarks: tuple[str, ...] = ()  # what the user should know about the file


def read_checkpoint(path) -> Checkpoint:
    """Read a `.pth` (both forms) or `.safetensors` file.

    Raises WeightsError, which begins with the file's name, for anything that is not an intact state_dict.
    """
    try:
        source = read_source(path)
        read = _read_safetensors if source.kind == "safetensors" else _read_torch
        tensors, metadata, wrapper, remarks = read(source)
        tensors = _without_prefixes(tensors)
    except WeightsError as error:
        raise WeightsError(f"checkpoint {str(path)!r}: {error}") from None
    name = source.path.name.encode("utf-8", "replace").decode()  # file systems allow what is no text
    origin = Source(name, source.sha256, source.kind)
    return Checkpoint(tensors, origin, metadata, wrapper, len(source.data), remarks)


def _read_safetensors(source: SourceFile):
    tensors, metadata = read_safetensors(source.data)
    _check_some(tensors)
    return tensors, metadata, "", ()


def _read_torch(source: SourceFile):
    value, materialise, remarks = (read_zip if source.kind == "torch-zip" else read_legacy)(source.data)
    wrapper, state = _state_dict(value)
    tensors = {name: materialise(name, tensor) for name, tensor in state.items()}
    return tensors, _model_names(value), wrapper, remarks


def _is_dict(value) -> bool:
    return type(value) in (dict, Record)


def _state_dict(value) -> tuple[str, dict[str, Tensor]]:
    """Find the state_dict in the object of a checkpoint; returns (key it was under, name -> tensor)."""
    if not _is_dict(value):
        raise WeightsError(f"it holds {quoted(value)}, not a dictionary of tensors: save the weights with "
                           "torch.save(model.state_dict(), 'model.pth')")
    wrapper = next((key for key in _AVERAGES if value.get(key) is not None), "")
    wrapper = wrapper or next((key for key in _PLAIN if key in value), "")
    state = value[wrapper] if wrapper else value
    if not _is_dict(state):
        raise WeightsError(f"its entry {wrapper!r} is {quoted(state)}, not a dictionary of tensors: save the weights "
                           "with torch.save(model.state_dict(), 'model.pth')")
    _check_some(state)
    others = [name for name, tensor in state.items() if type(name) is not str or type(tensor) is not Tensor]
    if others:
        where = f"its entry {wrapper!r}" if wrapper else "it"
        raise WeightsError(f"{where} holds things other than named tensors: {listed(others)}; the weights are "
                           "looked for under 'state_dict_ema', 'model_ema', 'state_dict' and 'model', else in the "
                           "whole file")
    return wrapper, state


def _check_some(state):
    if not state:
        raise WeightsError("it holds no tensors at all: save the weights with "
                           "torch.save(model.state_dict(), 'model.pth')")


def _without_prefixes(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Remove what wrappers of the model put before the names, as timm does."""
    cleaned = {}
    for name, array in tensors.items():
        plain = name
        if name.startswith(_PREFIXES):
            for prefix in _PREFIXES:
                plain = plain.removeprefix(prefix)
        if plain in cleaned:
            raise WeightsError(f"the tensor {quoted(plain)} is there twice, once with a prefix "
                               f"({', '.join(_PREFIXES[:2])})")
        cleaned[plain] = array
    return cleaned


def _model_names(value: dict) -> dict[str, str]:
    """What timm's training script notes about the model: 'arch', and the 'model' of its arguments."""
    found = {"arch": value.get("arch")}
    args = value.get("args")
    state = args.state if type(args) is Inert else args
    if _is_dict(state):
        found["args.model"] = state.get("model")
    return {name: text for name, text in found.items() if type(text) is str}
