"""What users hold: a network with its weights, its preprocessing and its class names."""
import functools
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .adapt import adapt
from .architecture import FLAT, IMAGENET_CLASSES
from .data_config import model_cfg
from .errors import ArgumentError, WeightsError
from .features import FeatureInfo, FeatureModel, feature_info, take_indices
from .layers import find_layers
from .loading import wanted_weights
from .parameters import Weights
from .scores import softmax, top_k
from .variants import canonical_name

BACKENDS = ("engine", "reference")


def create_model(name=None, pretrained=False, checkpoint_path=None, num_classes=None, in_chans=None, global_pool=None,
                 features_only=False, out_indices=None, num_threads=None, backend="engine") -> "Model | FeatureModel":
    """Make a model by timm's name.

    name: "tf_efficientnet_lite0" .. "tf_efficientnet_lite4", or "lite0" .. "lite4"; may be left out where a weight file
        (.h5) is given, which knows it
    pretrained: fetch the official ImageNet weights on first use (see `npefficient.hub`)
    checkpoint_path: a weight file (.h5) or a checkpoint (.pth, .safetensors) to read instead
    num_classes: 0 for pooled features in place of logits; another number than the official weights have brings a
        classifier with random weights, as in timm
    in_chans: input channels; the stem of official weights is adapted, as in timm
    global_pool: "avg", "max", "avgmax", "catavgmax", or "" for none (with num_classes=0)
    features_only, out_indices: a model that puts out a list of feature maps instead (`features.FeatureModel`)
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
    if out_indices is not None and not features_only:
        raise ArgumentError(f"out_indices={out_indices!r} without features_only=True: a whole model puts out logits")
    name = None if name is None else canonical_name(name)
    wishes = {"num_classes": 0 if features_only else num_classes, "in_chans": in_chans, "global_pool": global_pool}
    weights = wanted_weights(name, pretrained, checkpoint_path, **wishes)
    place = None if checkpoint_path is None else Path(checkpoint_path).absolute()  # wherever this process goes
    model = Model(weights, num_threads=num_threads, backend=backend,
                  load=functools.partial(wanted_weights, name, pretrained, place, **wishes))
    return FeatureModel(model, out_indices) if features_only else model


class Model:
    """A network ready to run. Arrays are NHWC: (pictures, rows, columns, channels)."""

    def __init__(self, weights: Weights, *, num_threads: int | None = None, backend: str = "engine",
                 load: Callable[[], Weights] | None = None):
        """load: how to get the same weights once more; without it, they are kept beside the engine's own copy."""
        self.backend, self.num_threads = backend, num_threads
        if backend == "engine":
            from .engine.workers import available_threads, check_threads

            self.num_threads = check_threads(num_threads)
            if self.num_threads > available_threads():
                warnings.warn(f"num_threads {num_threads}: more than the {available_threads()} processors that this "
                              "process may use take turns on them, which is slower; leave it out", stacklevel=3)
        self._take(weights, load or (lambda: weights))

    def _take(self, weights: Weights, load: Callable[[], Weights]) -> None:
        self.architecture = weights.architecture
        self.preprocessing = weights.preprocessing
        self.source = weights.source
        self.labels = _labels(weights)
        self.pretrained_cfg = model_cfg(weights)
        self._load, self._reference = load, None
        self._network = self._make(weights)

    def _make(self, weights: Weights):
        if self.backend == "engine":
            from .engine.engine import Engine

            return Engine(weights, self.num_threads)
        from .engine.pack import pack
        from .reference import Network

        pack(weights)  # what it refuses, neither network can compute
        return Network(weights.architecture, weights.parameters)

    @property
    def num_classes(self) -> int:
        """Classes, 0 without a classifier."""
        return self.architecture.num_classes

    @property
    def num_features(self) -> int:
        """Channels of the last feature map."""
        return self.architecture.head.out_channels

    @property
    def head_hidden_size(self) -> int:
        """Values of the pooled features."""
        return self.architecture.head_hidden_size

    @property
    def feature_info(self) -> FeatureInfo:
        """The five feature maps of `forward_intermediates`: their layers, channels and reductions."""
        return feature_info(self.architecture)

    def __call__(self, x) -> np.ndarray:
        """float32 (N, H, W, in_chans), any H and W from 1 on -> logits float32 (N, num_classes).

        Without a classifier the pooled features (N, head_hidden_size), without a pool the last feature map. Raises
        ArgumentError for another shape or dtype, or values that are not finite. Each picture's logits are the same to
        the last bit whatever batch it sits in and however many threads compute it (backend "engine").
        """
        return _finite({self.architecture.output: self._network(self._checked(x))})[self.architecture.output]

    def forward_features(self, x) -> np.ndarray:
        """(N, H, W, in_chans) -> the last feature map (N, h, w, num_features), before the pool."""
        return self._outputs(x, [self.architecture.head.bn])[0]

    def forward_head(self, x, pre_logits: bool = False) -> np.ndarray:
        """(N, h, w, num_features) -> logits (N, num_classes); with `pre_logits` the pooled features.

        `forward_head(forward_features(x))` has the bits of `model(x)`.
        """
        network = self.architecture
        x = _checked(x, self.num_features, "features", "they come from model.forward_features")
        if not network.global_pool:
            return x
        layer = "global_pool" if pre_logits else network.output
        return _finite(self._network.head_outputs(x, [layer]))[layer]

    def forward_intermediates(self, x, indices=None, norm: bool = False, stop_early: bool = False,
                              output_fmt: str = "NHWC", intermediates_only: bool = False, extra_blocks: bool = False):
        """(N, H, W, in_chans) -> (last feature map, list of feature maps), the latter alone with `intermediates_only`.

        indices: which of the five in `feature_info` (see `features.take_indices`); with `extra_blocks` of the eight
            that the stem and the seven stages put out
        stop_early: the first of the two is the last feature map asked for, where that is not the last stage's
        norm: without effect, as in timm: each map has its batch norm behind it
        output_fmt: "NHWC", the only one
        """
        if output_fmt != "NHWC":
            raise ArgumentError(f"output_fmt {output_fmt!r}: it must be 'NHWC', as all arrays are here")
        network = self.architecture
        stages = [stage[-1].name.rpartition(".")[0] for stage in network.stages]
        maps = [network.stem.bn, *stages] if extra_blocks else [feature.module for feature in network.features]
        names = [maps[i] for i in take_indices(len(maps), indices)]
        if intermediates_only:
            return self._outputs(x, names)
        last = names[-1] if stop_early and names[-1] != stages[-1] else network.head.bn
        *intermediates, final = self._outputs(x, [*names, last])
        return final, intermediates

    def activations(self, x, names) -> dict[str, np.ndarray]:
        """(N, H, W, in_chans) -> what each of these layers puts out, by timm's names, such as "blocks.2.0.conv_dw".

        (N, h, w, channels) each, (N, channels) of "global_pool" and "classifier". `layers` says which names there are;
        only the part of the network up to the last one is run. Raises ArgumentError for a name that there is not.
        """
        wanted, x = find_layers(self.architecture, names), self._checked(x)
        sources = [layer.source for layer in wanted.values() if layer.source is not None]
        made = {None: x} | (_finite(self._network.outputs(x, sources)) if sources else {})
        return {name: made[layer.source] if layer.finish is None else layer.finish(self._plain(), made[layer.source])
                for name, layer in wanted.items()}

    def _outputs(self, x, names) -> list[np.ndarray]:
        made = self.activations(x, names)
        return [made[name] for name in names]

    def _plain(self):
        """The plain network with the same weights, for what the engine never forms."""
        if self.backend == "reference":
            return self._network
        if self._reference is None:
            from .reference import Network

            self._reference = Network(self.architecture, self.weights().parameters)
        return self._reference

    def weights(self) -> Weights:
        """Read the weights once more, under timm's names; raises WeightsError where they have changed since."""
        weights, network = self._load(), self._network
        if self.backend == "engine":
            from .engine.pack import pack

            same = np.array_equal(pack(weights).buffer, network.packed.buffer)
        else:
            same = all(np.array_equal(network.parameters.get(k), v) for k, v in weights.parameters.items())
        if not same:
            raise WeightsError(f"the weights of {self.source.name!r} have changed since this model was made: make "
                               "the model again")
        return weights

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Take another classifier, with seeded random weights and no class names; 0 takes it away.

        global_pool: another pool, or None for the one there is. Not while another thread uses the model.
        """
        load = self._load
        change = functools.partial(adapt, num_classes=num_classes, global_pool=global_pool, new_classifier=True)
        self._take(change(self.weights()), lambda: change(load()))

    def eval(self) -> "Model":
        """Return the model itself: it only ever evaluates. For scripts that were written for timm."""
        return self

    def _checked(self, x) -> np.ndarray:
        return _checked(x, self.architecture.in_chans, "input", "model.transform makes one from a photo")

    def transform(self, image) -> np.ndarray:
        """A photo (PIL image, path, or array (H, W, 3)) -> float32 (H, W, 3), as timm's evaluation transform."""
        from .image import open_image, transform

        if isinstance(image, (str, Path)):
            image = open_image(image)
        return transform(image, self.preprocessing)

    def classify(self, image, topk: int = 5) -> list[tuple[str, float]]:
        """A photo (PIL image, path, or array (H, W, 3)) -> [(label, probability)], the most probable first."""
        if not self.num_classes:
            raise ArgumentError(f"{self.architecture.name} without a classifier names no classes: make the model "
                                "without num_classes=0, or call it for its features")
        values, classes = top_k(softmax(self(self.transform(image)[None]))[0], topk)
        return [(self.labels[c], float(p)) for p, c in zip(values, classes)]

    def _repr_html_(self) -> str:
        from .notebook import model_html

        return model_html(self)

    def __repr__(self) -> str:
        network = self.architecture
        rows, columns = self.preprocessing.input_size
        random = self.source.kind == "random"
        weights = f"RANDOM weights ({self.source.name})" if random else f"weights from {self.source.name}"
        return (f"Model({network.name}, {network.num_classes} classes, {rows}x{columns}x{network.in_chans}, {weights}, "
                f"{self.backend})")


def _checked(x, channels: int, what: str, origin: str) -> np.ndarray:
    """A contiguous float32 array (N, H, W, channels); `what` and `origin` tell a user whose array is none."""
    if not isinstance(x, np.ndarray):
        raise ArgumentError(f"{what} of type {type(x).__name__}: it must be a NumPy array (N, H, W, {channels}); "
                            f"{origin}")
    if x.ndim != 4 or x.shape[3] != channels or 0 in x.shape:
        hint = "add the batch axis with x[None]" if x.ndim == 3 else "NHWC: the channels come last"
        raise ArgumentError(f"{what} of shape {x.shape}: it must be (N, H, W, {channels}); {hint}")
    if x.dtype != np.float32:
        raise ArgumentError(f"{what} of dtype {x.dtype}: it must be float32, normalised; model.transform makes it "
                            "from a photo or a uint8 array, x.astype(np.float32) from other floats")
    if not np.isfinite(x).all():
        raise ArgumentError(f"{what} with {x[~np.isfinite(x)][0]}: every value must be finite")
    return np.ascontiguousarray(x)


def _finite(made: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What layers have put out; raises WeightsError where pooled features or logits are no numbers."""
    for name in [name for name in FLAT if name in made]:
        wrong = made[name][~np.isfinite(made[name])]
        if wrong.size:
            raise WeightsError(f"{name!r} puts out {wrong[0]}: the weights are not those of a network that was trained "
                               "on such pictures, or the input is far out of its range")
    return made


def _labels(weights: Weights) -> tuple[str, ...]:
    """The file's own labels; ImageNet's for 1000 classes; else "class 0", "class 1" .."""
    if weights.labels is not None:
        return weights.labels
    if weights.architecture.num_classes == IMAGENET_CLASSES:
        from .labels import imagenet_labels

        return imagenet_labels()
    return tuple(f"class {i}" for i in range(weights.architecture.num_classes))
