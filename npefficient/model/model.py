"""`Model`: a network with its weights, its preprocessing and its class names; `create_model` makes one."""
import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast, overload

import numpy as np

from ..common.checks import word
from ..common.paths import StrPath
from ..common.text import counted, short, shown
from ..errors import ArgumentError
from ..network.layers import find_layers
from ..network.parameters import Weights, check_parameters
from ..network.quantization import QuantizedWeights, check_quantized
from ..scores import softmax, top_k
from .features import FeatureInfo, FeatureModel, feature_info, take_indices
from .inputs import checked, finite, opened
from .loading import AnyWeights, held, prepared, wanted, wanted_weights
from .timm_names import check_options
from .weight_holder import WeightHolder

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..engine.engine import Engine
    from ..network.quantized_reference import QuantizedNetwork
    from ..network.reference import Network

BACKENDS = ("engine", "reference")
PRECISIONS = ("float32", "int8")


@overload
def create_model(model_name: str | None = None, pretrained: bool = False, *, features_only: Literal[True],
                 out_indices: int | Iterable[int] | None = None, **others: Any) -> FeatureModel: ...
@overload
def create_model(model_name: str | None = None, pretrained: bool = False, *, pretrained_cfg: str | None = None,
                 pretrained_cfg_overlay: Mapping[str, Any] | None = None, checkpoint_path: StrPath | None = None,
                 num_classes: int | None = None, in_chans: int | None = None, global_pool: str | None = None,
                 features_only: Literal[False] = False, num_threads: int | None = None, backend: str = "engine",
                 precision: str | None = None, **timms: Any) -> "Model": ...
def create_model(model_name: str | None = None, pretrained: bool = False, *, pretrained_cfg: str | None = None,
                 pretrained_cfg_overlay: Mapping[str, Any] | None = None, checkpoint_path: StrPath | None = None,
                 num_classes: int | None = None, in_chans: int | None = None, global_pool: str | None = None,
                 features_only: bool = False, out_indices: int | Iterable[int] | None = None,
                 num_threads: int | None = None, backend: str = "engine", precision: str | None = None,
                 **timms: Any) -> "Model | FeatureModel":
    """Make a model by timm's name.

    model_name: "tf_efficientnet_lite0" .. "tf_efficientnet_lite4", or "lite0" .. "lite4", with or without the prefix
        "hf-hub:timm/" and the tag ".in1k"; or "local-dir:<folder>" for a folder that timm's `save_for_hf` wrote. It can
        be omitted if `checkpoint_path` is given
    pretrained: use the official ImageNet weights, downloaded on first use (see `npefficient.hub`)
    pretrained_cfg: the tag of the official weights, "in1k"
    pretrained_cfg_overlay: changes to `get_pretrained_cfg`: "file" to replace the official weights, and any of
        input_size, interpolation, mean, std, crop_pct, crop_mode
    checkpoint_path: a weight file (.h5), a checkpoint (.pth, .safetensors) or a timm hub folder to read instead. The
        file decides the number of classes, where timm wants 1000 unless `num_classes` is given; arguments must match it
    num_classes: 0 for pooled features instead of logits; a number other than the official 1000 gives a classifier with
        random weights, as in timm
    in_chans: input channels; the stem of the official weights is adapted, as in timm
    global_pool: "avg", "max", "avgmax", "catavgmax", or "" for none (with num_classes=0)
    features_only, out_indices: make a model that returns a list of feature maps instead (`features.FeatureModel`)
    num_threads: processors to use; None uses all that are available to this process
    backend: "engine" (compiled) or "reference" (plain NumPy)
    precision: "float32", or "int8" for weights and activations of 8 bits, made of the same weights: about three times
        as fast on x86 with VNNI, while the logits change by some 4 % of their deviation (`network/quantization.py`);
        None is "int8" for a file that `npefficient.quantize` wrote, else "float32"
    timms: timm's other arguments; those for training have no effect (`timm_names.NO_EFFECT`)

    If no weights are given, the model has seeded random ones with activations of ordinary size. Raises ArgumentError
    for an invalid argument, WeightsError for an unusable file, DownloadError if the download fails.
    """
    word("backend", backend, BACKENDS)
    if precision is not None:
        word("precision", precision, PRECISIONS)
    check_options("create_model", timms)
    if out_indices is not None and not features_only:
        raise ArgumentError(f"out_indices={shown(out_indices)} without features_only=True: a whole model returns "
                            "logits")
    name, place, settings = wanted(model_name, pretrained, checkpoint_path, pretrained_cfg, pretrained_cfg_overlay)
    load = functools.partial(wanted_weights, name, pretrained, place, num_classes=0 if features_only else num_classes,
                             in_chans=in_chans, global_pool=global_pool)
    if settings:
        load = functools.partial(prepared, load, settings)
    model = Model(load(), num_threads=num_threads, backend=backend, precision=precision, load=load)
    return FeatureModel(model, out_indices) if features_only else model


class Model(WeightHolder):
    """A network ready to run. Arrays are NHWC: (pictures, rows, columns, channels).

    A model can be pickled, copied, and sent to other processes (`__reduce__`).
    """

    def __init__(self, weights: AnyWeights, *, num_threads: int | None = None, backend: str = "engine",
                 precision: str | None = None, load: Callable[[], AnyWeights] | None = None):
        """load: a call that loads the same weights again; without it, they are kept beside the engine's own copy."""
        if not isinstance(weights, (Weights, QuantizedWeights)):
            raise ArgumentError(f"weights of type {type(weights).__name__}: they must be what npefficient.load_weights "
                                "returns; create_model(checkpoint_path=..) takes a file")
        self.backend, self.num_threads = word("backend", backend, BACKENDS), num_threads
        self.precision = precision_of(weights, precision)
        self._wish = num_threads  # as requested; a copy in another process resolves it there
        if backend == "engine":
            from ..engine.cpus import check_threads

            self.num_threads = check_threads(num_threads)
        if load is None:
            if isinstance(weights, QuantizedWeights):
                check_quantized(weights)
            else:
                check_parameters(weights.parameters, weights.architecture)
        self._take(weights, load or functools.partial(held, weights))

    def _make(self, weights: AnyWeights) -> "Engine | Network | QuantizedNetwork":
        network = self._in_precision(weights)
        if self.backend == "engine":
            from ..engine.engine import Engine

            return Engine(network, cast(int, self.num_threads))  # __init__ made it a number for this backend
        return plain_network(network)

    @property
    def num_classes(self) -> int:
        """The number of classes; 0 without a classifier."""
        return self.architecture.num_classes

    @property
    def num_features(self) -> int:
        """Channels of the last feature map."""
        return self.architecture.head.out_channels

    @property
    def head_hidden_size(self) -> int:
        """The number of pooled features."""
        return self.architecture.head_hidden_size

    @property
    def global_pool(self) -> str:
        """The pool before the classifier, as in `create_model`; timm has a module here."""
        return self.architecture.global_pool

    @property
    def outputs(self) -> tuple[str, ...]:
        """The layer whose output a call returns, by the name that `activations` takes; a FeatureModel has several."""
        return (self.architecture.head.bn if not self.global_pool else self.architecture.output,)

    @property
    def feature_info(self) -> FeatureInfo:
        """The five feature maps of `forward_intermediates`: their layers, channels and reductions."""
        return feature_info(self.architecture)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """float32 (N, H, W, in_chans), any N, H and W >= 1 -> logits float32 (N, num_classes).

        A model without a classifier returns pooled features (N, head_hidden_size), one without a pool the last feature
        map. Raises ArgumentError for a different shape or dtype, or values that are not finite. With the backend
        "engine", a picture's logits are the same to the last bit for any batch and any number of threads.
        """
        return finite({self.architecture.output: self._network(self._checked(x))})[self.architecture.output]

    def forward_features(self, x: np.ndarray) -> np.ndarray:
        """(N, H, W, in_chans) -> the last feature map (N, h, w, num_features), before the pool."""
        return self._outputs(x, [self.architecture.head.bn])[0]

    def forward_head(self, x: np.ndarray, pre_logits: bool = False) -> np.ndarray:
        """(N, h, w, num_features) -> logits (N, num_classes); with `pre_logits` the pooled features.

        `forward_head(forward_features(x))` equals `model(x)` to the bit.
        """
        network = self.architecture
        x = checked(x, self.num_features, "features", "they come from model.forward_features")
        if not network.global_pool:
            return x
        layer = "global_pool" if pre_logits else network.output
        return finite(self._network.head_outputs(x, [layer]))[layer]

    def forward_intermediates(self, x: np.ndarray, indices: int | Iterable[int] | None = None, norm: bool = False,
                              stop_early: bool = False, output_fmt: str = "NHWC", intermediates_only: bool = False,
                              extra_blocks: bool = False) -> Any:
        """(N, H, W, in_chans) -> (last feature map, list of feature maps), or only the list with `intermediates_only`.

        indices: which of the five maps in `feature_info` (see `features.take_indices`); with `extra_blocks`, which of
            the eight outputs of the stem and the seven stages
        stop_early: stop after the last map requested and return it as the first item, unless it is the last stage's
        norm: has no effect, as in timm: every map comes after its batch norm
        output_fmt: "NHWC", or "NCHW" for the same values in timm's order of axes
        """
        word("output_fmt", output_fmt, ("NHWC", "NCHW"))
        network = self.architecture
        stages = [stage[-1].stage for stage in network.stages]
        maps = [network.stem.bn, *stages] if extra_blocks else [feature.module for feature in network.features]
        names = [maps[i] for i in take_indices(len(maps), indices)]
        last = names[-1] if stop_early and names[-1] != stages[-1] else network.head.bn
        made = self._outputs(x, names if intermediates_only else [*names, last])
        if output_fmt == "NCHW":
            made = [features.transpose(0, 3, 1, 2) for features in made]
        return made if intermediates_only else (made[-1], made[:-1])

    def activations(self, x: np.ndarray, names: Iterable[str]) -> dict[str, np.ndarray]:
        """(N, H, W, in_chans) -> the output of each of these layers, by timm's names, such as "blocks.2.0.conv_dw".

        An output is (N, h, w, channels), or (N, channels) for "global_pool" and "classifier". The names are listed by
        `npefficient.network.layers`. Only the part of the network up to the last of the layers is run. In int8, an
        output after a ReLU6 is a multiple of 6/255, except the stem's. Raises ArgumentError for an unknown name, and in
        int8 for a convolution before its batch norm: the two are one layer there.
        """
        wanted, x = find_layers(self.architecture, names), self._checked(x)
        sources = [layer.source for layer in wanted.values() if layer.source is not None]
        made = {None: x} | (finite(self._network.outputs(x, sources)) if sources else {})
        return {name: made[layer.source] if layer.finish is None else layer.finish(self._plain(), made[layer.source])
                for name, layer in wanted.items()}

    def _outputs(self, x: np.ndarray, names: Iterable[str]) -> list[np.ndarray]:
        made = self.activations(x, names)
        return [made[name] for name in names]

    def _plain(self) -> Any:
        """The plain network with the same weights, for outputs that the engine never computes."""
        if self.backend == "reference":
            return self._network
        if self._reference is None:
            self._reference = plain_network(self._in_precision(self.stored_weights()))
        return self._reference

    def _checked(self, x: Any) -> np.ndarray:
        return checked(x, self.architecture.in_chans, "input", "model.transform makes one from a photo")

    def transform(self, image: "Image | np.ndarray | StrPath | BinaryIO | bytes") -> np.ndarray:
        """A photo -> float32 (H, W, in_chans), as in timm's evaluation transform.

        image: a PIL image, an array (H, W, 3), or a file: its path, a binary file object, or all its bytes
        """
        from ..images.image import transform

        return transform(opened(image, self.in_chans), self.preprocessing, in_chans=self.in_chans)

    def classify(self, image: "Image | np.ndarray | StrPath | BinaryIO | bytes",
                 topk: int = 5) -> list[tuple[str, float]]:
        """A photo, as for `transform` -> [(label, probability)], the most probable first.

        Warns if the classifier or the whole network has random weights.
        """
        if not self.num_classes:
            raise ArgumentError(f"{self.architecture.name} without a classifier can't name classes: create the model "
                                "without num_classes=0, or call it for its features")
        warn_of_random(self)
        values, classes = top_k(softmax(self(self.transform(image)[None]))[0], topk)
        return [(self.labels[c], float(p)) for p, c in zip(values, classes)]

    def _repr_html_(self) -> str:
        from ..display.notebook import model_html

        return model_html(self)

    def __repr__(self) -> str:
        network = self.architecture
        rows, columns = self.preprocessing.input_size
        random = self.source.random == "weights"
        weights = f"RANDOM weights ({short(self.source.name)})" if random else f"weights from {short(self.source.name)}"
        weights += ", RANDOM classifier" * (self.source.random == "classifier")
        return (f"Model({network.name}, {counted(network.num_classes, 'class')}, {rows}x{columns}x{network.in_chans}, "
                f"{weights}, {self.backend}{', int8' * (self.precision == 'int8')})")


def check_model(model: Any) -> None:
    """Raise ArgumentError unless it is a Model."""
    if not isinstance(model, Model):
        raise ArgumentError(f"model of type {type(model).__name__}: it must be what npefficient.create_model returns "
                            "without features_only")


def warn_of_random(model: Model) -> None:
    """Warn if the classifier or the whole network has random weights."""
    if model.source.random:
        warnings.warn(f"{model!r}: random weights can't tell classes apart; use trained ones (pretrained=True, "
                      "checkpoint_path=..), or see set_classifier and npefficient.finetune", stacklevel=3)


def precision_of(weights: AnyWeights, wish: str | None) -> str:
    """The precision to compute in; None stands for that of the weights."""
    own = "int8" if isinstance(weights, QuantizedWeights) else "float32"
    if wish is not None and word("precision", wish, PRECISIONS) == "float32" != own:
        raise ArgumentError(f"precision {wish!r}: these weights are int8, and float32 can't be recovered from them; "
                            f"use those that they were made from ({weights.source.name}), or precision='int8'")
    return own if wish is None else wish


def plain_network(weights: AnyWeights) -> "Network | QuantizedNetwork":
    """The network in plain NumPy."""
    if isinstance(weights, Weights):
        from ..network.reference import Network

        return Network(weights.architecture, weights.parameters)
    from ..network.quantized_reference import QuantizedNetwork

    return QuantizedNetwork(weights)
