"""EfficientNet-Lite0..4 for the CPU: timm's tf_efficientnet_lite in NumPy and Numba, without PyTorch."""
from .architecture import Architecture, list_models
from .errors import ArgumentError, DownloadError, ImageError, NpefficientError, WeightsError
from .image import open_image, transform, transform_batch
from .labels import imagenet_labels, imagenet_synsets
from .model import Model, create_model
from .preprocessing import Preprocessing
from .scores import softmax, top_k

__version__ = "0.1.0"

__all__ = [
    "Architecture",
    "ArgumentError",
    "DownloadError",
    "ImageError",
    "Model",
    "NpefficientError",
    "Preprocessing",
    "WeightsError",
    "create_model",
    "imagenet_labels",
    "imagenet_synsets",
    "list_models",
    "open_image",
    "softmax",
    "top_k",
    "transform",
    "transform_batch",
]
