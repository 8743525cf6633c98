"""EfficientNet-Lite0..4 for the CPU: timm's tf_efficientnet_lite in NumPy and Numba, without PyTorch."""
from .architecture import Architecture
from .data_config import (PretrainedCfg, create_transform, get_pretrained_cfg, resolve_data_config,
                          resolve_model_data_config)
from .errors import ArgumentError, DownloadError, ImageError, NpefficientError, WeightsError
from .features import FeatureInfo, FeatureModel
from .image import open_image, transform, transform_batch
from .labels import imagenet_labels, imagenet_synsets
from .model import Model, create_model
from .preprocessing import Preprocessing
from .scores import softmax, top_k
from .variants import list_models, list_pretrained

__version__ = "0.1.0"

__all__ = [
    "Architecture",
    "ArgumentError",
    "DownloadError",
    "Explanation",
    "FeatureInfo",
    "FeatureModel",
    "ImageError",
    "Model",
    "NpefficientError",
    "Preprocessing",
    "PretrainedCfg",
    "WeightsError",
    "create_model",
    "create_transform",
    "explain",
    "find_photos",
    "finetune",
    "get_pretrained_cfg",
    "imagenet_labels",
    "imagenet_synsets",
    "list_models",
    "list_pretrained",
    "open_image",
    "resolve_data_config",
    "resolve_model_data_config",
    "softmax",
    "stream",
    "top_k",
    "transform",
    "transform_batch",
    "validate",
]

_ON_FIRST_USE = {  # name -> module, imported when asked for
    "Explanation": "explanation", "explain": "explanation", "find_photos": "jobs.photos", "finetune": "jobs.finetuning",
    "stream": "jobs.stream", "validate": "jobs.validation",
}


def __getattr__(name: str):
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    globals()[name] = value = getattr(importlib.import_module(f".{_ON_FIRST_USE[name]}", __name__), name)
    return value
