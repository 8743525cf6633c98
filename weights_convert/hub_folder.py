"""Find the checkpoint in a timm hub folder.

Source: timm 1.0 `models/_hub.py` (load_state_dict_from_path).
"""
import os
from pathlib import Path

from npefficient.common.checks import path_of
from npefficient.common.text import listed
from npefficient.errors import WeightsError
from npefficient.network.variants import LOCAL

MODEL = "model.safetensors"
_NAMES = (MODEL, "pytorch_model.bin", "pytorch_model.pth", "model.pth")  # the first that exists is used
_SUFFIXES = (".safetensors", ".pth", ".pth.tar", ".bin")


def local_folder(path: Path) -> Path:
    """The folder of "local-dir:FOLDER", any other path unchanged; raises WeightsError if the folder does not exist."""
    if not str(path).startswith(LOCAL):
        return path
    folder = Path(str(path).removeprefix(LOCAL))
    if not os.path.exists(folder):
        raise WeightsError(f"{str(path)!r}: there is no folder {str(folder)!r}; {LOCAL} takes a folder that timm's "
                           f"save_for_hf or 'npefficient export' wrote, with {MODEL} and config.json in it")
    return folder


def find_checkpoint(source) -> Path:
    """Return the checkpoint file: `source` itself, or the one in it if it is a folder or "local-dir:FOLDER".

    Raises WeightsError for a folder without a checkpoint, or with several of which none has one of the hub's names.
    """
    path = local_folder(path_of("checkpoint", source))
    if not os.path.isdir(path):
        return path
    try:
        there = sorted(file.name for file in path.iterdir() if file.name.endswith(_SUFFIXES))
    except OSError as error:
        raise WeightsError(f"folder {str(path)!r}: it can't be listed ({error.strerror}); change its permissions") \
            from None
    found = [name for name in _NAMES if name in there][:1] or there
    if len(found) != 1:
        what = f"it has {len(found)} checkpoints, {listed(found)}" if found else \
            f"it is a directory, and none of its files ends in {', '.join(_SUFFIXES)}"
        raise WeightsError(f"folder {str(path)!r}: {what}: name the checkpoint file itself")
    return path / found[0]
