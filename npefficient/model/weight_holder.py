"""The weights of a model: loading, replacing, saving and pickling them."""
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..common.checks import whole
from ..common.paths import StrPath
from ..errors import ArgumentError, WeightsError
from ..network.architecture import IMAGENET_CLASSES
from ..network.parameters import Weights, fingerprint
from ..network.quantization import QuantizedWeights
from ..weights.adapt import classifier_arrays
from .data_config import model_cfg
from .loading import AnyWeights, adapted, file_of, held, in_precision, reclassified, weights_of
from .timm_names import TimmModule


@dataclass(frozen=True, eq=False)
class Linear:
    """The arrays of a classifier: features @ weight.T + bias."""

    weight: np.ndarray  # (out_features, in_features)
    bias: np.ndarray  # (out_features,)

    @property
    def in_features(self) -> int:
        return int(self.weight.shape[1])

    @property
    def out_features(self) -> int:
        return int(self.weight.shape[0])


class WeightHolder(TimmModule):
    """The part of `Model` that handles its weights; `_make` turns them into a network.

    A model keeps its network, which has batch norm folded in, and a call that loads the original weights again: those
    in float32, or, of a file that `npefficient.quantize` wrote, the int8 ones, from which float32 can't be recovered.
    """

    backend: str
    precision: str
    _wish: int | None  # num_threads as requested
    _make: Callable[[AnyWeights], Any]
    _network: Any
    _reference: Any

    def _take(self, weights: AnyWeights, load: Callable[[], AnyWeights]) -> None:
        network = self._make(weights)
        self.architecture = weights.architecture
        self.preprocessing = weights.preprocessing
        self.source = weights.source
        self.pretrained_cfg = model_cfg(weights)
        self._labels = labels_of(weights)
        self._load, self._reference, self._network = load, None, network

    def __reduce__(self) -> tuple:
        """Pickle the call that loads the weights, and their sha256: about a kilobyte.

        The receiver reads the same file (at the same path), or makes the same random weights, and compares the sha256:
        the copy's results are the same to the bit, or there is a WeightsError. Weights and classifiers that were given
        as arrays are part of the pickle: 4 bytes per parameter, 18.6 MB for all of Lite0.
        """
        how = {"num_threads": self._wish, "backend": self.backend, "precision": self.precision}
        return _again, (type(self), self._load, _digest(self.stored_weights()), how)

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names."""
        return self._labels

    @property
    def classifier(self) -> "Linear | None":
        """Copies of the last layer's arrays; None without a classifier. `set_classifier` replaces them."""
        if not self.architecture.num_classes:
            return None
        parameters = self.weights().parameters
        return Linear(parameters["classifier.weight"].copy(), parameters["classifier.bias"].copy())

    def get_classifier(self) -> "Linear | None":
        """`classifier`, by timm's name for it."""
        return self.classifier

    def weights(self) -> Weights:
        """Load the weights again, under timm's names, in float32 for either precision.

        Raises WeightsError if they have changed since, ArgumentError for a model of a file of int8 weights. So do all
        methods that need these weights: `state_dict`, `classifier`, and those that give the model other weights.
        """
        weights = self.stored_weights()
        if isinstance(weights, QuantizedWeights):
            raise ArgumentError(f"a model of int8 weights ({file_of(self._load, weights)}) has no float32 weights, and "
                                "they can't be recovered: create it from those that they were made from "
                                f"({self.source.name}), with precision='int8'")
        return weights

    def stored_weights(self) -> AnyWeights:
        """Load the weights again as the file has them, in float32 or int8; raises WeightsError if they have changed."""
        weights, network = self._load(), self._network
        if self.backend == "engine":
            from ..engine.pack import pack

            packed = pack(self._in_precision(weights))
            same = packed.buffer.tobytes() == network.packed.buffer.tobytes()  # bits of integers may be those of NaN
        elif self.precision == "float32":
            same = all(np.array_equal(network.parameters.get(k), v) for k, v in weights.parameters.items())
        else:
            again, before = self._in_precision(weights).parameters, network.weights.parameters
            same = all(np.array_equal(before.get(name), array) for name, array in again.items())
        if not same:
            raise WeightsError(f"the weights of {file_of(self._load, weights)!r} have changed since this model was "
                               "created: create the model again")
        return weights

    def _in_precision(self, weights: AnyWeights) -> AnyWeights:
        """The weights as the network takes them."""
        return in_precision(weights, self.precision)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all weights under timm's names, unfolded, in timm's order."""
        return {name: array.copy() for name, array in self.weights().parameters.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Replace the weights by those in a mapping of timm's names to arrays; classes, labels and preprocessing stay.

        Every name must be present and every shape must match, even with `strict` False: nothing would fill the gaps.
        Raises ArgumentError and WeightsError as `loading.weights_of`; the model is then unchanged.
        Do not call it while another thread uses the model.
        """
        made = weights_of(state_dict, self.weights())
        self._take(made, functools.partial(held, made))

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by one with seeded random weights and no class names; 0 removes it.

        global_pool: the new pool; None keeps the current one. Raises ArgumentError for a model of a file of int8
        weights, unless the classifier is removed. Do not call it while another thread uses the model.
        """
        num_classes = whole("num_classes", num_classes, 0)
        pool = self.architecture.global_pool if global_pool is None else global_pool
        self._replace(functools.partial(adapted, _below(self._load, adapted, reclassified), num_classes=num_classes,
                                        global_pool=pool), in_float32=num_classes > 0)

    def set_classifier(self, weight: ArrayLike, bias: ArrayLike, labels: Sequence[str] | None = None) -> None:
        """Replace the classifier: weight (classes, head_hidden_size), bias (classes,), and a name for each class.

        The layout is that of torch.nn.Linear, and of scikit-learn's `coef_` and `intercept_` for more than two classes.
        Raises ArgumentError for arrays or labels that do not fit, WeightsError for values that can exceed float32; the
        model is then unchanged. Do not call it while another thread uses the model.
        """
        layer = classifier_arrays(self.architecture, weight, bias, labels)
        self._replace(functools.partial(reclassified, _below(self._load, reclassified), *layer))

    def _replace(self, load: Callable[[], AnyWeights], in_float32: bool = True) -> None:
        """Use the weights that `load` returns from now on; raises WeightsError if the current ones have changed, and
        ArgumentError if the new ones take weights `in_float32` that are not there."""
        (self.weights if in_float32 else self.stored_weights)()
        self._take(load(), load)

    def save(self, path: StrPath, force: bool = False) -> None:
        """Write a weight file (.h5), from which `create_model(checkpoint_path=path)` recreates this model to the bit.

        It has the weights that the model was made from: float32 ones also with precision "int8", which `create_model`
        is then given again, and int8 ones if they come from a file of these. `npefficient.export` turns float32 into a
        safetensors file for timm. Raises ArgumentError for an existing file (unless `force`) and for a different
        suffix; OSError if it can't be written.
        """
        from ..weights.quantized_file import write_quantized
        from ..weights.weight_file import write_weights

        weights = self.stored_weights()
        if isinstance(weights, QuantizedWeights):
            write_quantized(path, weights, force=force)
        else:
            write_weights(path, weights, force=force)


def _below(load: Any, *changes: Callable[..., AnyWeights]) -> Any:
    """The call that loads the weights, without these changes, which the next change would override anyway."""
    while getattr(load, "func", None) in changes:
        load = load.args[0]
    return load


def _again(kind: type, load: Callable[[], AnyWeights], digest: str, how: dict) -> Any:
    """Recreate a pickled model; raises WeightsError unless the weights have the same digest."""
    weights = load()
    if _digest(weights) != digest:
        raise WeightsError(f"the weights of {file_of(load, weights)!r} are no longer those of the model that was "
                           "pickled or copied: create the model again")
    return kind(weights, load=load, **how)


def _digest(weights: AnyWeights) -> str:
    """sha256 over everything that determines a model's answers."""
    return fingerprint(weights, (*labels_of(weights), repr(weights.preprocessing)))


def labels_of(weights: AnyWeights) -> tuple[str, ...]:
    """The labels in the file; without any, ImageNet's for 1000 classes, else "class 0", "class 1" ..."""
    if weights.labels is not None:
        return weights.labels
    if weights.architecture.num_classes == IMAGENET_CLASSES:
        from ..labels import imagenet_labels

        return imagenet_labels()
    return tuple(f"class {i}" for i in range(weights.architecture.num_classes))
