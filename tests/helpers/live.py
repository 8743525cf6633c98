"""timm and torch for the live comparisons, and models whose activations mean something.

`timm` and `torch` are None where they are not installed; a test that needs them carries the mark `needs_timm`.
"""
import functools

import pytest

from npefficient.bench.peers.engines import import_timm

try:
    timm, torch = import_timm()
except ModuleNotFoundError as missing:
    if missing.name not in ("torch", "torchvision", "timm"):
        raise
    torch = timm = None

needs_timm = pytest.mark.skipif(timm is None, reason="live comparison: needs torch and timm")


@functools.cache
def calibrated(variant: str, num_classes: int = 1000, in_chans: int = 3, seed: int = 0):
    """timm's model in eval mode with seeded weights and batch norm calibrated to them; logits are of order 0.5.

    With timm's fresh weights the activations fade to zero layer by layer, and a wrong network gives the same logits.
    """
    torch.manual_seed(seed)
    model = timm.create_model(f"tf_efficientnet_{variant}", num_classes=num_classes, in_chans=in_chans)
    size = model.default_cfg["input_size"][1]
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.momentum = None  # the running statistics become the plain mean over the forwards
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.uniform_(-0.5, 1.0)
    model.train()
    with torch.no_grad():
        for _ in range(2):
            noise = torch.randn(4, in_chans, size // 4, size // 4)
            model(torch.nn.functional.interpolate(noise, size=(size, size), mode="bicubic").clamp(-1, 1))
    return model.eval()


def logits(model, x):
    """timm's logits for an NHWC float32 array."""
    with torch.no_grad():
        return model(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
