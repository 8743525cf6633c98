"""What users hold: a network with its weights, its preprocessing and its class names."""
import warnings
from pathlib import Path

import numpy as np

from . import architecture
from .errors import ArgumentError
from .parameters import Weights, random_weights
from .scores import softmax, top_k

BACKENDS = ("engine", "reference")


def create_model(name=None, pretrained=False, checkpoint_path=None, num_classes=None, in_chans=None, num_threads=None,
                 backend="engine") -> "Model":
    """Make a model by timm's name.

    name: "tf_efficientnet_lite0" .. "tf_efficientnet_lite4", or "lite0" .. "lite4"; may be left out where a weight file
        (.h5) is given, which knows it
    pretrained: fetch the official ImageNet weights on first use (see `npefficient.hub`)
    checkpoint_path: a weight file (.h5) or a checkpoint (.pth, .safetensors) to read instead
    num_classes, in_chans: what the weights must have; without weights 1000 and 3
    num_threads: processors to use; None takes all that this process may use
    backend: "engine" (compiled) or "reference" (plain NumPy)

    Without weights the model has seeded random ones whose activations are of ordinary size. Raises ArgumentError for an
    argument that breaks a rule, WeightsError for a file that can't be used, DownloadError when fetching fails.
    """
    if backend not in BACKENDS:
        raise ArgumentError(f"backend {backend!r}: it must be 'engine' or 'reference'")
    if pretrained and checkpoint_path is not None:
        raise ArgumentError(f"pretrained=True and checkpoint_path={str(checkpoint_path)!r}: give one of them")
    if name is None and checkpoint_path is None:
        raise ArgumentError("no name and no checkpoint_path: name a model (lite0 to lite4) or a weight file")
    name = None if name is None else architecture.canonical_name(name)
    if pretrained:
        from .hub import pretrained as fetch

        weights = load_weights(fetch(name))
    elif checkpoint_path is not None:
        weights = load_weights(checkpoint_path, name)
    else:
        wishes = {"num_classes": num_classes, "in_chans": in_chans}
        weights = random_weights(architecture.build(name, **{k: v for k, v in wishes.items() if v is not None}))
    _check_wish(weights, name, num_classes, in_chans)
    return Model(weights, num_threads=num_threads, backend=backend)


def load_weights(path, name: str | None = None) -> Weights:
    """Read a weight file (.h5), or a checkpoint (.pth, .safetensors) as `weights_convert` does.

    `name` settles what a checkpoint's shapes leave open; what is doubtful about a checkpoint becomes a UserWarning.
    """
    from .weights import is_hdf5, read_weights

    if is_hdf5(path):
        return read_weights(path)
    from weights_convert import load

    weights, _, doubts = load(path, variant=name)
    for doubt in doubts:
        warnings.warn(f"{str(path)!r}: {doubt}", stacklevel=3)
    return weights


def _check_wish(weights: Weights, name, num_classes, in_chans) -> None:
    network = weights.architecture
    for what, wish, found in (("name", name, network.name), ("num_classes", num_classes, network.num_classes),
                              ("in_chans", in_chans, network.in_chans)):
        if wish is not None and wish != found:
            raise ArgumentError(f"{what} {wish!r}: these weights have {found!r} ({weights.source.name}); leave {what} "
                                "out to take what they have")


class Model:
    """A network ready to run. Arrays are NHWC: (pictures, rows, columns, channels)."""

    def __init__(self, weights: Weights, *, num_threads: int | None = None, backend: str = "engine"):
        self.architecture = weights.architecture
        self.preprocessing = weights.preprocessing
        self.source = weights.source
        self.labels = _labels(weights)
        self.backend = backend
        if backend == "engine":
            from .engine.engine import Engine
            from .engine.workers import check_threads

            self.num_threads = check_threads(num_threads)
            self._forward = Engine(weights, self.num_threads)
        else:
            from .reference import Network

            self.num_threads = num_threads
            self._forward = Network(weights.architecture, weights.parameters)

    def __call__(self, x) -> np.ndarray:
        """float32 (N, H, W, in_chans), any H and W from 1 on -> logits float32 (N, num_classes).

        Raises ArgumentError for another shape or dtype, or values that are not finite. Each picture's logits are the
        same to the last bit whatever batch it sits in and however many threads compute it (backend "engine").
        """
        return self._forward(self._checked(x))

    def _checked(self, x) -> np.ndarray:
        channels = self.architecture.in_chans
        if not isinstance(x, np.ndarray):
            raise ArgumentError(f"input of type {type(x).__name__}: it must be a NumPy array (N, H, W, {channels}); "
                                "model.transform makes one from a photo")
        if x.ndim != 4 or x.shape[3] != channels or 0 in x.shape:
            hint = "add the batch axis with x[None]" if x.ndim == 3 else "NHWC: the channels come last"
            raise ArgumentError(f"input of shape {x.shape}: it must be (N, H, W, {channels}); {hint}")
        if x.dtype != np.float32:
            raise ArgumentError(f"input of dtype {x.dtype}: it must be float32, normalised; model.transform makes it "
                                "from a photo or a uint8 array, x.astype(np.float32) from other floats")
        if not np.isfinite(x).all():
            raise ArgumentError(f"input with {x[~np.isfinite(x)][0]}: every value must be finite")
        return np.ascontiguousarray(x)

    def transform(self, image) -> np.ndarray:
        """A photo (PIL image, path, or array (H, W, 3)) -> float32 (H, W, 3), as timm's evaluation transform."""
        from .image import open_image, transform

        if isinstance(image, (str, Path)):
            image = open_image(image)
        return transform(image, self.preprocessing)

    def classify(self, image, topk: int = 5) -> list[tuple[str, float]]:
        """A photo (PIL image, path, or array (H, W, 3)) -> [(label, probability)], the most probable first."""
        values, classes = top_k(softmax(self(self.transform(image)[None]))[0], topk)
        return [(self.labels[c], float(p)) for p, c in zip(values, classes)]

    def __repr__(self) -> str:
        network = self.architecture
        rows, columns = self.preprocessing.input_size
        random = self.source.kind == "random"
        weights = f"RANDOM weights ({self.source.name})" if random else f"weights from {self.source.name}"
        return (f"Model({network.name}, {network.num_classes} classes, {rows}x{columns}x{network.in_chans}, {weights}, "
                f"{self.backend})")


def _labels(weights: Weights) -> tuple[str, ...]:
    """The file's own labels; ImageNet's for 1000 classes; else "class 0", "class 1" .."""
    if weights.labels is not None:
        return weights.labels
    if weights.architecture.num_classes == architecture.IMAGENET_CLASSES:
        from .labels import imagenet_labels

        return imagenet_labels()
    return tuple(f"class {i}" for i in range(weights.architecture.num_classes))
