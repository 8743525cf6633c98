"""Folders of timm's hub, for tests of what is taken from their config.json."""
import json

import pytest

import checkpoints as by_hand
from npefficient.network.preprocessing import Preprocessing

FULL = {"num_classes": 2, "input_size": [3, 160, 128], "interpolation": "bilinear", "crop_pct": 0.9,
        "crop_mode": "squash", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
EXPECTED = Preprocessing((160, 128), 0.9, "bilinear", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "squash")


def config(pretrained=None, **changes) -> dict:
    """A config of a lite0 with two classes."""
    return {"architecture": "tf_efficientnet_lite0", "num_classes": 2, "num_features": 1280, "global_pool": "avg",
            "label_names": ["cat", "dog"], "pretrained_cfg": FULL | (pretrained or {})} | changes


@pytest.fixture(scope="session")
def raw():
    return by_hand.save(by_hand.network(), "safetensors")


@pytest.fixture
def folder(tmp_path, raw):
    """A folder of the hub: save(what) writes its config.json, returns the folder."""
    def save(what):
        path = tmp_path / "hub"
        path.mkdir(exist_ok=True)
        (path / "model.safetensors").write_bytes(raw)
        if what is not None:
            (path / "config.json").write_bytes(what if isinstance(what, bytes) else json.dumps(what).encode())
        return path
    return save
