"""EfficientNet-Lite0..4 for the CPU: timm's tf_efficientnet_lite in NumPy and Numba, without PyTorch."""
from typing import TYPE_CHECKING, Any

from .common import starting as _starting  # noqa: F401 (first: an interrupt of what follows ends a command quietly)
from .common.version import __version__ as __version__
from .errors import ArgumentError, DownloadError, ImageError, MissingError, NpefficientError, WeightsError
from .images.image import open_image, transform, transform_batch
from .labels import imagenet_labels, imagenet_synsets
from .model.data_config import (
    PretrainedCfg,
    create_transform,
    get_pretrained_cfg,
    resolve_data_config,
    resolve_model_data_config,
)
from .model.features import FeatureInfo, FeatureModel
from .model.loading import load_weights
from .model.model import Model, create_model
from .network.architecture import Architecture
from .network.preprocessing import Preprocessing
from .network.variants import is_model, is_model_pretrained, list_models, list_pretrained
from .scores import softmax, top_k

if TYPE_CHECKING:  # imported when asked for, as _ON_FIRST_USE says
    from weights_convert.convert import convert
    from weights_convert.export import export

    from .explanation import Explanation, explain
    from .jobs.distributed import Classifier
    from .jobs.finetune.finetuning import finetune
    from .jobs.photo_paths import find_photos
    from .jobs.quantizing import quantize
    from .jobs.stream import stream
    from .jobs.validate.validation import validate
    from .training import loss_and_gradients
    from .training.train import train

__all__ = [
    "Architecture",
    "ArgumentError",
    "Classifier",
    "DownloadError",
    "Explanation",
    "FeatureInfo",
    "FeatureModel",
    "ImageError",
    "MissingError",
    "Model",
    "NpefficientError",
    "Preprocessing",
    "PretrainedCfg",
    "WeightsError",
    "convert",
    "create_model",
    "create_transform",
    "explain",
    "export",
    "find_photos",
    "finetune",
    "get_pretrained_cfg",
    "imagenet_labels",
    "imagenet_synsets",
    "is_model",
    "is_model_pretrained",
    "list_models",
    "list_pretrained",
    "load_weights",
    "loss_and_gradients",
    "open_image",
    "quantize",
    "resolve_data_config",
    "resolve_model_data_config",
    "softmax",
    "stream",
    "top_k",
    "train",
    "transform",
    "transform_batch",
    "validate",
]

_ON_FIRST_USE = {  # name -> module, imported when asked for
    "Classifier": ".jobs.distributed", "Explanation": ".explanation", "convert": "weights_convert",
    "explain": ".explanation", "export": "weights_convert", "find_photos": ".jobs.photo_paths",
    "finetune": ".jobs.finetune.finetuning", "loss_and_gradients": ".training", "quantize": ".jobs.quantizing",
    "stream": ".jobs.stream", "train": ".training.train",
    "validate": ".jobs.validate.validation",
}


def __getattr__(name: str) -> Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    globals()[name] = value = getattr(importlib.import_module(_ON_FIRST_USE[name], __name__), name)
    return value
