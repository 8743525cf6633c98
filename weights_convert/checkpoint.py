"""Read a torch or safetensors checkpoint into a state_dict of arrays, without torch and without running its code."""
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from npefficient.common.paths import StrPath
from npefficient.common.text import quoted
from npefficient.errors import WeightsError
from npefficient.network.parameters import Source

from .hub_folder import find_checkpoint
from .naming import TIMM, naming_of
from .pickle_values import Inert
from .safetensors import read_safetensors
from .source_file import SourceFile, read_source
from .state_dict import find_network, find_state, is_dict
from .timm_config import CONFIG, TimmConfig, config_beside, parse_config
from .torch_legacy import read_legacy
from .torch_zip import read_zip

TIMM_CONFIG = "timm_config"  # key in the metadata of a file that `export` wrote: the content of a config.json


@dataclass(frozen=True)
class Checkpoint:
    """A state_dict, where it came from, and the metadata found with it."""

    tensors: dict[str, np.ndarray]  # contiguous, in the machine's byte order; bfloat16 widened to float32
    source: Source
    metadata: dict[str, str]  # about the model: safetensors' metadata, or "arch" and "args.model" of a training script
    wrapper: str  # its key in the checkpoint's dictionary; "" if the whole object was the state_dict
    size: int  # bytes of the file
    warnings: tuple[str, ...] = ()  # for the user
    prefix: str = ""  # removed from the tensors' names
    config: TimmConfig | None = None  # from config.json in the same folder, else from the metadata
    naming: str = TIMM  # the project whose names the tensors had


def read_checkpoint(path: StrPath, *, key: str | None = None, prefix: str | None = None) -> Checkpoint:
    """Read a `.pth` (both formats) or `.safetensors` file, or the one in a timm hub folder.

    `key` is the entry of the checkpoint's dictionary that holds the weights ("" for the whole object), `prefix` what
    comes before all names of the network; each is found automatically if it is not given. Raises WeightsError, with
    the file's name at the start, for anything that is not an intact state_dict.
    """
    path = find_checkpoint(path)
    try:
        source = read_source(path)
        made = (_read_safetensors if source.kind == "safetensors" else _read_torch)(source, key, prefix)
        return _with_config(made, path)
    except WeightsError as error:
        raise WeightsError(f"checkpoint {str(path)!r}: {error}") from None


def _with_config(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    """Add the config; as in timm, a config.json overrides the file's own metadata."""
    metadata, warnings = dict(checkpoint.metadata), checkpoint.warnings
    own, _ = metadata.pop(TIMM_CONFIG, None), metadata.pop("source_name", None)  # names the file that was exported
    config = config_beside(path)
    if config is None and os.path.lexists(path.parent / CONFIG):
        warnings += (f"{CONFIG} beside it is not timm's (it has no 'architecture'), and is ignored",)
    if config is None and own is not None:
        config = parse_config(own.encode("utf-8", "surrogatepass"), "its metadata")
    return replace(checkpoint, metadata=metadata, config=config, warnings=warnings)


def _read_safetensors(source: SourceFile, key, prefix) -> Checkpoint:
    tensors, metadata = read_safetensors(source.data)
    if key:
        raise WeightsError(f"a safetensors file has no entries, so {quoted(key)} (--key) can't be chosen: omit it")
    if not tensors:
        raise WeightsError("it contains no tensors: save them with safetensors.torch.save_file")
    tensors, prefix, warnings = find_network(tensors, prefix)
    return Checkpoint(tensors, _origin(source), metadata, "", len(source.data), tuple(warnings), prefix,
                      naming=naming_of(tensors))


def _read_torch(source: SourceFile, key, prefix) -> Checkpoint:
    value, materialise, warnings = (read_zip if source.kind == "torch-zip" else read_legacy)(source.data)
    wrapper, state, more = find_state(value, key)
    state, prefix, others = find_network(state, prefix)
    tensors = {name: materialise(name, tensor) for name, tensor in state.items()}
    return Checkpoint(tensors, _origin(source), _model_names(value), wrapper, len(source.data),
                      (*warnings, *more, *others), prefix, naming=naming_of(tensors))


def _origin(source: SourceFile) -> Source:
    name = source.path.name.encode("utf-8", "replace").decode()  # a file name need not be valid text
    return Source(name, source.sha256, source.kind)


def _model_names(value: dict) -> dict[str, str]:
    """The model's names that timm's training script stores: 'arch', and 'model' in its arguments."""
    found = {"arch": value.get("arch")}
    args = value.get("args")
    state = args.state if type(args) is Inert else args
    if is_dict(state):
        found["args.model"] = state.get("model")
    return {name: text for name, text in found.items() if type(text) is str}
