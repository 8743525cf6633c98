"""The public loss and gradients: equal to torch's, and what is refused."""
import dataclasses
import functools

import numpy as np
import pytest
from fresh import run
from live import needs_timm, timm, torch
from small import small_model, small_weights

import npefficient
from npefficient import ArgumentError, WeightsError, loss_and_gradients

LABELS = np.array([3, 0])
NORM = pytest.mark.parametrize("train_batch_norm", [True, False], ids=["train", "frozen"])


@functools.cache
def plain_model():
    """Computes in float64."""
    return npefficient.Model(small_weights(), backend="reference")


def pictures(batch=2, rows=33, columns=47):
    return np.random.default_rng(batch).uniform(-1, 1, (batch, rows, columns, 3)).astype(np.float32)


def by_torch(model, x, smoothing, train_batch_norm):
    """loss, name -> gradient, in float64."""
    theirs = timm.create_model("tf_efficientnet_lite0", num_classes=model.num_classes).double().train()
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in model.state_dict().items()})
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train(train_batch_norm)
    expected = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x).double().permute(0, 3, 1, 2)),
                                                 torch.from_numpy(LABELS), label_smoothing=smoothing)
    expected.backward()
    return expected.item(), {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}


@needs_timm
@NORM
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradients_equal_torch(smoothing, train_batch_norm):
    """To the last bit of float32, with both in float64."""
    model, x = plain_model(), pictures()
    expected_loss, expected = by_torch(model, x, smoothing, train_batch_norm)
    loss, gradients = loss_and_gradients(model, x, LABELS, smoothing, train_batch_norm)
    assert type(loss) is float and loss == pytest.approx(expected_loss, rel=1e-12)
    assert list(gradients) == list(expected)
    for name, gradient in expected.items():
        assert gradients[name].dtype == np.float32 and gradients[name].shape == gradient.shape
        np.testing.assert_allclose(gradients[name], gradient, rtol=2**-23, atol=1e-9 * max(1, abs(gradient).max()))


@needs_timm
@NORM
def test_the_engine_is_as_close_to_torch_as_float32_allows(train_batch_norm):
    """Single activations on the other side of a corner of ReLU6 change single gradients by some percent, all together
    by far less. Without them, test_training_engine.py holds each layer to its own sums."""
    model, x = small_model(), pictures()
    expected_loss, expected = by_torch(model, x, 0.1, train_batch_norm)
    loss, gradients = loss_and_gradients(model, x, LABELS, 0.1, train_batch_norm)
    assert type(loss) is float and loss == pytest.approx(expected_loss, rel=1e-5)
    assert list(gradients) == list(expected)
    norm = sum((gradient ** 2).sum() for gradient in expected.values()) ** 0.5
    squares = 0.0
    for name, gradient in expected.items():
        assert gradients[name].dtype == np.float32 and gradients[name].shape == gradient.shape
        apart = np.linalg.norm(gradients[name] - gradient)
        assert apart <= 0.05 * max(np.linalg.norm(gradient), 1e-6 * norm), name  # some are zero but for roundings
        squares += apart ** 2
    assert squares ** 0.5 <= 1e-3 * norm


def test_a_step_against_the_gradients_lowers_the_loss():
    model, x = npefficient.Model(small_weights(seed=1), num_threads=1), pictures()
    before, gradients = loss_and_gradients(model, x, LABELS)
    square = sum(float((gradient.astype(np.float64) ** 2).sum()) for gradient in gradients.values())
    rate = 1e-3 * before / square  # expects the loss to fall by a thousandth
    state = model.state_dict()
    model.load_state_dict(state | {name: state[name] - np.float32(rate) * gradient
                                   for name, gradient in gradients.items()})
    after, _ = loss_and_gradients(model, x, LABELS)
    assert (before - after) / before == pytest.approx(1e-3, rel=0.1)


@pytest.mark.parametrize("model", [small_model, plain_model], ids=["engine", "reference"])
def test_the_model_is_not_changed_and_a_second_call_makes_no_difference(model):
    x, state = pictures(), {name: array.copy() for name, array in model().state_dict().items()}
    loss, gradients = loss_and_gradients(model(), x, LABELS)
    again_loss, again = loss_and_gradients(model(), x, LABELS.tolist())  # a list will do
    assert loss == again_loss and all((gradients[name] == again[name]).all() for name in gradients)
    for name, array in model().state_dict().items():
        np.testing.assert_array_equal(array, state[name])


def test_the_number_of_threads_makes_no_difference():
    (loss, gradients), *others = (loss_and_gradients(npefficient.Model(small_weights(), num_threads=threads),
                                                     pictures(), LABELS) for threads in (1, 2, 3))
    for other_loss, other in others:
        assert loss == other_loss and all((gradients[name] == other[name]).all() for name in gradients)


def test_training_is_imported_without_numba():
    """It may have to be compiled later, on the first call."""
    assert run("import sys, npefficient.training; print('numba' in sys.modules, 'llvmlite' in sys.modules)") == (
        "False False\n")


def test_float16_weights_have_float32_gradients():
    """A weight file may hold them."""
    weights = small_weights()
    half = {name: array.astype(np.float16) if array.ndim == 4 else array for name, array in weights.parameters.items()}
    wide = {name: array.astype(weights.parameters[name].dtype) for name, array in half.items()}
    results = [loss_and_gradients(npefficient.Model(dataclasses.replace(weights, parameters=parameters), num_threads=1),
                                  pictures(), LABELS) for parameters in (half, wide)]
    assert results[0][0] == results[1][0]
    for name, gradient in results[0][1].items():
        assert gradient.dtype == np.float32
        np.testing.assert_array_equal(gradient, results[1][1][name])


@pytest.mark.parametrize("labels, message", [
    ([3, 5], "label 5: the model has 5 classes, so labels are from 0 to 4"),
    ([-1, 0], "label -1: the model has 5 classes"),
    ([1], r"labels of shape \(1,\) for 2 pictures: they must be \(2,\)"),
    ([[1, 2]], r"labels of shape \(1, 2\)"),
    (3, r"labels of shape \(\) for 2 pictures"),
    ([1.0, 2.0], "labels of dtype float64: they must be whole numbers"),
    ([True, False], "labels of dtype bool"),
    (["cat", "dog"], "labels of dtype <U3"),
    ([[1], [1, 2]], "labels: they must be an array of whole numbers"),
    (np.ma.masked_array([1, 2], [True, False]), "labels is a masked array"),
    (None, "labels of dtype object"),
])
def test_wrong_labels_are_refused(labels, message):
    with pytest.raises(ArgumentError, match=message):
        loss_and_gradients(small_model(), pictures(), labels)


@pytest.mark.parametrize("x, message", [
    (pictures()[0], r"input of shape \(33, 47, 3\).*add the batch axis"),
    (pictures().astype(np.float64), "input of dtype float64"),
    (pictures() * np.float32(np.nan), "input with nan"),
    (pictures()[..., :2], r"input of shape \(2, 33, 47, 2\)"),
    (pictures()[:0], "a batch of 0 pictures"),
], ids=["no_batch", "float64", "nan", "channels", "empty"])
def test_wrong_pictures_are_refused(x, message):
    with pytest.raises(ArgumentError, match=message):
        loss_and_gradients(small_model(), x, LABELS)


@pytest.mark.parametrize("smoothing, shown", [(-0.1, "-0.1"), (1.5, "1.5"), (np.nan, "nan"), ("0.1", "'0.1'"),
                                              (True, "True"), (None, "None")])
def test_wrong_smoothing_is_refused(smoothing, shown):
    with pytest.raises(ArgumentError, match=f"smoothing {shown}: it must be a number from 0 to 1"):
        loss_and_gradients(small_model(), pictures(), LABELS, smoothing)


def test_models_without_a_loss_or_gradients_are_refused():
    x = pictures()
    with pytest.raises(ArgumentError, match="precision 'int8' has no gradients.*precision='float32'"):
        loss_and_gradients(npefficient.Model(small_weights(), num_threads=1, precision="int8"), x, LABELS)
    with pytest.raises(ArgumentError, match="tf_efficientnet_lite0 without a classifier has no loss"):
        loss_and_gradients(npefficient.create_model("lite0", num_classes=0, num_threads=1), x, LABELS)
    body = npefficient.create_model("lite0", features_only=True, num_threads=1)
    with pytest.raises(ArgumentError, match="model of type FeatureModel: .* without features_only"):
        loss_and_gradients(body, x, LABELS)


@needs_timm
@pytest.mark.parametrize("batch, rows, columns", [(1, 32, 32), (1, 1, 1), (1, 33, 32), (2, 1, 1)])
def test_a_single_value_per_channel_is_refused_where_torch_refuses_it(batch, rows, columns):
    x, labels = pictures(batch, rows, columns), LABELS[:batch]
    theirs = timm.create_model("tf_efficientnet_lite0", num_classes=5).train()
    try:
        theirs(torch.from_numpy(x).permute(0, 3, 1, 2))
    except ValueError as refusal:
        assert "more than 1 value per channel" in str(refusal)
        with pytest.raises(ArgumentError, match=f"one picture of {rows} x {columns} pixels: its last feature"):
            loss_and_gradients(small_model(), x, labels)
        loss_and_gradients(small_model(), x, labels, train_batch_norm=False)
    else:
        loss_and_gradients(small_model(), x, labels)


def test_gradients_beyond_float32_are_refused():
    """A stem of tiny weights, whose batch norm makes them ordinary again: each has a gradient beyond 3.4e38."""
    weights = small_weights()
    stem = {"conv_stem.weight": weights.parameters["conv_stem.weight"] * np.float32(1e-40),
            "bn1.running_mean": np.zeros(32, np.float32), "bn1.running_var": np.zeros(32, np.float32),
            "bn1.weight": np.full(32, 3e38, np.float32)}
    model = npefficient.Model(dataclasses.replace(weights, parameters=weights.parameters | stem), backend="reference")
    with pytest.raises(WeightsError, match="the gradient for 'conv_stem.weight' has .*, which float32 can't hold"):
        loss_and_gradients(model, pictures(), LABELS, train_batch_norm=False)
