"""The weights of a model: where they come from, how others take their place, how they are saved and sent."""
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..common.checks import whole
from ..common.paths import StrPath
from ..errors import WeightsError
from ..network.architecture import IMAGENET_CLASSES
from ..network.parameters import Weights, fingerprint
from ..weights.adapt import classifier_arrays
from .data_config import model_cfg
from .loading import adapted, held, reclassified, weights_of
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
    """What `Model` does with its weights; it makes a network of them by `_make`.

    A model keeps its network, which has them folded, and how to get them once more.
    """

    backend: str
    _wish: int | None  # num_threads as asked for
    _make: Callable[[Weights], Any]
    _network: Any
    _reference: Any

    def _take(self, weights: Weights, load: Callable[[], Weights]) -> None:
        network = self._make(weights)
        self.architecture = weights.architecture
        self.preprocessing = weights.preprocessing
        self.source = weights.source
        self.pretrained_cfg = model_cfg(weights)
        self._labels = labels_of(weights)
        self._load, self._reference, self._network = load, None, network

    def __reduce__(self) -> tuple:
        """Pickle how to get the weights, and their sha256, in about a kilobyte.

        The other side reads the same file (its path has to lead there), or makes the same random weights, and compares
        the sha256: the copy gives the same bits, or there is a WeightsError. Weights and classifiers that came as
        arrays are in the pickle: 4 bytes for each parameter, 18.6 MB for a whole Lite0.
        """
        how = {"num_threads": self._wish, "backend": self.backend}
        return _again, (type(self), self._load, _digest(self.weights()), how)

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of every class."""
        return self._labels

    @property
    def classifier(self) -> "Linear | None":
        """The last layer's arrays; None without a classifier. `set_classifier` takes others."""
        if not self.architecture.num_classes:
            return None
        parameters = self.weights().parameters
        return Linear(parameters["classifier.weight"].copy(), parameters["classifier.bias"].copy())

    def get_classifier(self) -> "Linear | None":
        """`classifier`, as timm's models have it."""
        return self.classifier

    def weights(self) -> Weights:
        """Read the weights once more, under timm's names; raises WeightsError where they have changed since."""
        weights, network = self._load(), self._network
        if self.backend == "engine":
            from ..engine.pack import pack

            same = np.array_equal(pack(weights).buffer, network.packed.buffer)
        else:
            same = all(np.array_equal(network.parameters.get(k), v) for k, v in weights.parameters.items())
        if not same:
            raise WeightsError(f"the weights of {self.source.name!r} have changed since this model was made: make "
                               "the model again")
        return weights

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all weights under timm's names, unfolded, in timm's order."""
        return {name: array.copy() for name, array in self.weights().parameters.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Take other weights, a dictionary timm's name -> array; classes, labels and preprocessing stay.

        Every name has to be there and every shape to fit, with `strict` False as well: there is nothing here that could
        train the rest. Raises ArgumentError and WeightsError as `loading.weights_of`, and leaves the model as it is
        then. Not while another thread uses the model.
        """
        made = weights_of(state_dict, self.weights())
        self._take(made, functools.partial(held, made))

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Take another classifier, with seeded random weights and no class names; 0 takes it away.

        global_pool: another pool, or None for the one there is. Not while another thread uses the model.
        """
        num_classes = whole("num_classes", num_classes, 0)
        pool = self.architecture.global_pool if global_pool is None else global_pool
        self._exchange(functools.partial(adapted, _below(self._load, adapted, reclassified), num_classes=num_classes,
                                         global_pool=pool, new_classifier=True))

    def set_classifier(self, weight: ArrayLike, bias: ArrayLike, labels: Sequence[str] | None = None) -> None:
        """Take a classifier of one's own: weight (classes, head_hidden_size), bias (classes,), a name for each class.

        They are as in a torch.nn.Linear, and as `coef_` and `intercept_` of scikit-learn for more than two classes.
        Raises ArgumentError for arrays or labels that do not fit, WeightsError for values that can lead out of float32,
        and leaves the model as it is then. Not while another thread uses the model.
        """
        layer = classifier_arrays(self.architecture, weight, bias, labels)
        self._exchange(functools.partial(reclassified, _below(self._load, reclassified), *layer))

    def _exchange(self, load: Callable[[], Weights]) -> None:
        """Take what `load` makes of the weights there are; raises WeightsError where those have changed."""
        self.weights()
        self._take(load(), load)

    def save(self, path: StrPath, force: bool = False) -> None:
        """Write a weight file (.h5); `create_model(checkpoint_path=path)` gives this model again, to the bit.

        `npefficient.export` makes a safetensors file for timm from it. Raises ArgumentError for a file that exists
        (unless `force`) and for another suffix; OSError where it can't be written.
        """
        from ..weights.weight_file import write_weights

        write_weights(path, self.weights(), force=force)


def _below(load: Any, *changes: Callable[..., Weights]) -> Any:
    """How to get weights, without these changes on top: another one on top of them would replace what they did."""
    while getattr(load, "func", None) in changes:
        load = load.args[0]
    return load


def _again(kind: type, load: Callable[[], Weights], digest: str, how: dict) -> Any:
    """The model that was pickled, with weights that have the same digest."""
    weights = load()
    if _digest(weights) != digest:
        raise WeightsError(f"the weights there are now, of {weights.source.name!r}, are not those of the model that "
                           "was pickled or copied: make the model again")
    return kind(weights, load=load, **how)


def _digest(weights: Weights) -> str:
    """sha256 over all that tells what a model answers."""
    return fingerprint(weights, (*labels_of(weights), repr(weights.preprocessing)))


def labels_of(weights: Weights) -> tuple[str, ...]:
    """The file's own labels; ImageNet's for 1000 classes; else "class 0", "class 1" .."""
    if weights.labels is not None:
        return weights.labels
    if weights.architecture.num_classes == IMAGENET_CLASSES:
        from ..labels import imagenet_labels

        return imagenet_labels()
    return tuple(f"class {i}" for i in range(weights.architecture.num_classes))
