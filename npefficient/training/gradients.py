"""The loss of a batch and its gradient for every parameter: what an optimizer takes, and what autograd gives in torch.

The formulas are in `network/backward.py`, the whole network is in `network/training_network.py`.
"""
import numbers
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from ..common.checks import plain_array
from ..common.text import counted, shown
from ..errors import ArgumentError, WeightsError
from ..model.inputs import checked, finite
from ..model.model import Model, check_model
from ..network.backward import cross_entropy, label_targets
from ..network.training_network import TrainingNetwork


def loss_and_gradients(model: Model, x: np.ndarray, labels: ArrayLike, smoothing: float = 0.0,
                       train_batch_norm: bool = True) -> tuple[float, dict[str, np.ndarray]]:
    """The mean cross-entropy of a batch, and its gradient for each parameter.

    model: a model with a classifier and with the precision "float32"; it is not changed
    x: float32 (N, H, W, in_chans), normalised as by `transform`; any N, H and W >= 1
    labels: (N,) whole numbers from 0 to num_classes - 1
    smoothing: label smoothing from 0 to 1: this share of each target is spread evenly over all classes
    train_batch_norm: normalise by the mean and variance of the batch, as torch does after `model.train()`; False: by
        the running ones, as constants, which is fine-tuning with frozen batch norm

    Returns the loss, and name -> gradient: timm's names, float32, in the parameter's shape. Weight and bias of every
    batch norm are among them, running statistics are not. There is no dropout and no stochastic depth.

    By the compiled kernels in float32, with the same bits for any number of threads; of a model with
    backend="reference", by plain NumPy in float64 and rounded to float32 at the end. In float32, and in torch's too,
    some activations close to 0 or 6 fall on the wrong side of a ReLU6's corner, which can change single gradients by
    some percent. Until the pass is over, about 5 bytes are needed for each output of each layer, in NumPy 16.

    Equals the `backward()` of torch for timm's model in float64 with `torch.nn.functional.cross_entropy`.

    Raises ArgumentError for a wrong argument, and for a single value per channel: a batch's variance needs two, so with
    `train_batch_norm` one picture of at most 32 x 32 pixels is refused. Raises WeightsError for a result that is not
    finite.
    """
    _check_model(model)
    x = checked(x, model.in_chans, "input", "model.transform makes one from a photo")
    labels = _checked_labels(labels, len(x), model.num_classes)
    if not isinstance(smoothing, numbers.Real) or isinstance(smoothing, bool) or not 0 <= smoothing <= 1:
        raise ArgumentError(f"smoothing {shown(smoothing)}: it must be a number from 0 to 1")
    if train_batch_norm:
        _check_values_per_channel(model, x)

    targets = label_targets(labels, model.num_classes, float(smoothing), np.float64)
    logits, backward = _forward(model, x, train_batch_norm)
    loss, dlogits = cross_entropy(finite({"classifier": logits.astype(np.float64)})["classifier"], targets)
    gradients = backward(dlogits)
    return float(loss), {name: _float32(name, gradients[name]) for name in model.weights().parameters
                         if name in gradients}


def _forward(model: Model, x: np.ndarray,
             train_batch_norm: bool) -> tuple[np.ndarray, Callable[[np.ndarray], dict[str, np.ndarray]]]:
    """The logits, and a call that turns their gradient into that of each parameter."""
    parameters = model.weights().parameters
    if model.backend == "engine":
        from ..engine.training import TrainingEngine

        engine = TrainingEngine(model.architecture, x.shape, cast(int, model.num_threads))
        return engine.forward(parameters, x, None, train_batch_norm), engine.backward
    network = TrainingNetwork(model.architecture, parameters, np.float64, train_batch_norm)
    logits, kept = network.forward(x.astype(np.float64))
    return logits, lambda dlogits: network.backward(dlogits, kept)[0]


def _check_model(model: Any) -> None:
    check_model(model)
    if model.precision != "float32":
        raise ArgumentError(f"a model with precision {model.precision!r} has no gradients, as its weights are whole "
                            "numbers: create it with precision='float32'")
    if not model.num_classes:
        raise ArgumentError(f"{model.architecture.name} without a classifier has no loss: create the model without "
                            "num_classes=0, or call reset_classifier")


def _checked_labels(labels: Any, batch: int, num_classes: int) -> np.ndarray:
    """(N,) int64, each from 0 to num_classes - 1."""
    if not batch:
        raise ArgumentError("a batch of 0 pictures: the mean loss needs one at least")
    if not isinstance(labels, np.ndarray):
        try:
            labels = np.asarray(labels)
        except ValueError as problem:  # lists of several lengths
            raise ArgumentError(f"labels: they must be an array of whole numbers ({problem})") from problem
    array = plain_array("labels", labels)
    if array.dtype.kind not in "iu":
        raise ArgumentError(f"labels of dtype {array.dtype}: they must be whole numbers, the class of each picture")
    if array.shape != (batch,):
        raise ArgumentError(f"labels of shape {array.shape} for {counted(batch, 'picture')}: they must be ({batch},), "
                            "one class for each picture")
    wrong = array[(array < 0) | (array >= num_classes)]
    if wrong.size:
        raise ArgumentError(f"label {wrong[0]}: the model has {counted(num_classes, 'class')}, so labels are from 0 to "
                            f"{num_classes - 1}")
    return array.astype(np.int64)


def _check_values_per_channel(model: Model, x: np.ndarray) -> None:
    """Torch refuses this case too; the last feature map is the smallest."""
    batch, height, width, _ = x.shape
    head = next(layer for layer in model.architecture.layers(height, width)
                if layer.name == model.architecture.head.name)
    if batch * head.out_height * head.out_width == 1:
        raise ArgumentError(f"one picture of {height} x {width} pixels: its last feature map is 1 x 1, and one value "
                            "has no variance for a batch norm; give several pictures or a larger one, or "
                            "train_batch_norm=False")


def _float32(name: str, gradient: np.ndarray) -> np.ndarray:
    largest = max(abs(float(gradient.max())), abs(float(gradient.min())))
    if not largest <= float(np.finfo(np.float32).max):  # or NaN
        raise WeightsError(f"the gradient for {name!r} has {largest:.3g}, which float32 can't hold: these weights were "
                           "not trained on such pictures, or the input is far out of range")
    return gradient.astype(np.float32)
