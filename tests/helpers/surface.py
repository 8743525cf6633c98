"""timm's side of the model's surface: the outputs of its layers, and its weights as our files."""
import atexit
import contextlib
import copy
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
from live import calibrated, torch

import npefficient
import weights_convert

VARIANTS = [f"lite{i}" for i in range(5)]
NATIVE = {v: npefficient.network.variants.VARIANTS[f"tf_efficientnet_{v}"].preprocessing.input_size for v in VARIANTS}
ODD = (33, 47)
# Layers of every kind: raw convolutions, batch norms with and without an activation or a shortcut, blocks, stages ..
LAYERS = ("conv_stem", "bn1", "blocks.0.0.conv_dw", "blocks.0.0.bn2", "blocks.1.1.conv_pw", "blocks.1.1.bn1.act",
          "blocks.2.1.conv_dw", "blocks.2.1.bn3", "blocks.2.1", "blocks.3.0.conv_pwl", "blocks.3.0.bn3",
          "blocks.5.1.bn3.act", "conv_head", "bn2", *(f"blocks.{i}" for i in range(7)), "global_pool", "classifier")
# As (variant, size, backend): the plain network is slow, and has tests of its own.
CASES = [(v, size, "engine") for v in VARIANTS for size in (ODD, NATIVE[v])] + [("lite0", ODD, "reference")]


def case_id(value):
    return "x".join(map(str, value)) if isinstance(value, tuple) else None


# --- our side --------------------------------------------------------------------------------------------------------


@functools.cache
def folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="npefficient-surface-"))
    atexit.register(shutil.rmtree, made)
    return made


@functools.cache
def weight_file(variant: str) -> Path:
    """timm's calibrated weights through torch.save and `weights_convert`."""
    checkpoint = folder() / f"tf_efficientnet_{variant}.pth"
    torch.save(calibrated(variant).state_dict(), checkpoint)
    return weights_convert.convert(checkpoint).target


@functools.cache
def model(variant: str, backend: str = "engine", **options):
    return npefficient.create_model(checkpoint_path=weight_file(variant), backend=backend, num_threads=2, **options)


def pixels(batch: int, size, channels: int = 3):
    """float32 (batch, *size, channels) in -1..1, the same for the same shape."""
    return np.random.default_rng([batch, *size]).uniform(-1, 1, (batch, *size, channels)).astype(np.float32)


# --- timm's side -----------------------------------------------------------------------------------------------------


def nchw(x):
    """A tensor for timm from an array of ours."""
    return torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2)


def ours(tensor) -> np.ndarray:
    """timm's output in our layout: (N, h, w, C), or (N, C)."""
    array = tensor.detach().numpy()
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1) if array.ndim == 4 else array)


def timm_model(variant: str, num_classes: int = 1000, global_pool: str = "avg"):
    """The calibrated model with another head; its own where nothing else is asked for."""
    if (num_classes, global_pool) == (1000, "avg"):
        return calibrated(variant)
    torch.manual_seed(1)
    changed = copy.deepcopy(calibrated(variant))
    changed.reset_classifier(num_classes, global_pool)
    return changed.eval()


def call(function, *arguments, **options):
    """timm's answer, in its own layout, without gradients."""
    with torch.no_grad():
        return function(*arguments, **options)


def hooked(network, x, names) -> dict[str, np.ndarray]:
    """The outputs of timm's modules of these names for x (N, H, W, C), by forward hooks."""
    modules, made = dict(network.named_modules()), {}
    with contextlib.ExitStack() as stack:
        for name in names:
            def keep(_module, _inputs, output, name=name):
                made[name] = output.clone()  # a following activation may work in place

            stack.callback(modules[name].register_forward_hook(keep).remove)
        call(network, nchw(x))
    return {name: ours(made[name]) for name in names}


@functools.cache
def expected(variant: str, size) -> dict[str, np.ndarray]:
    """The outputs of the calibrated model's LAYERS for `pixels(1, size)`: one run of timm for all tests."""
    return hooked(calibrated(variant), pixels(1, size), LAYERS)
