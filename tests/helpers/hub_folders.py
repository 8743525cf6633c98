"""Folders as timm's hub has them, for tests of what is read from their config.json."""
from npefficient.network.preprocessing import Preprocessing

FULL = {"num_classes": 2, "input_size": [3, 160, 128], "interpolation": "bilinear", "crop_pct": 0.9,
        "crop_mode": "squash", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
EXPECTED = Preprocessing((160, 128), 0.9, "bilinear", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "squash")


def config(pretrained=None, **changes) -> dict:
    """A config of a lite0 with two classes."""
    return {"architecture": "tf_efficientnet_lite0", "num_classes": 2, "num_features": 1280, "global_pool": "avg",
            "label_names": ["cat", "dog"], "pretrained_cfg": FULL | (pretrained or {})} | changes
