"""The whole network in training mode: against timm with autograd, in float32, and what holds without torch."""
import functools

import numpy as np
import pytest
from live import needs_timm, timm, torch
from make_golden import golden_parameters
from timm_training import drop_by
from tolerance import LOGITS, assert_close

from npefficient.network.architecture import build
from npefficient.network.backward import cross_entropy, label_targets
from npefficient.network.parameters import random_weights
from npefficient.network.reference import Network
from npefficient.network.training_network import TrainingNetwork, random_masks

SIZE, CLASSES, SMOOTHING = (33, 47), 7, 0.1
LABELS = np.array([2, 6, 0, 2, 5, 4, 1, 3, 3, 6, 1, 0, 5, 2, 4, 6])
VARIANT = pytest.mark.parametrize("short", [f"lite{i}" for i in range(5)])
NORM = pytest.mark.parametrize("train_batch_norm", [True, False], ids=["train", "frozen"])


def assert_exact(got, expected):
    """Fail unless float64 results differ by 1e-9 at most, relative to the largest, or to 1.

    Relative to 1, as some gradients are zero: a shift before a batch norm in training mode changes nothing.
    """
    assert got.dtype == expected.dtype == np.float64 and got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-9 * max(1.0, np.abs(expected).max())


def pictures(*size, colours=3, batch=2):
    return np.random.default_rng([batch, *size]).uniform(-1, 1, (batch, *size, colours))


@functools.cache
def parameters(short, **others):
    return golden_parameters(build(short, **{"num_classes": CLASSES, **others}).parameters())


def run(short, x, train_batch_norm, dtype=np.float64, masks=None, **others):
    """loss, gradients, dx, running statistics, of a network with golden weights."""
    architecture = build(short, **{"num_classes": CLASSES, **others})
    network = TrainingNetwork(architecture, parameters(short, **others), dtype, train_batch_norm)
    logits, kept = network.forward(x.astype(dtype), masks)
    loss, dlogits = cross_entropy(logits, label_targets(LABELS[: len(x)], CLASSES, SMOOTHING, dtype))
    gradients, dx = network.backward(dlogits, kept)
    assert not kept.layers, "what a forward pass keeps is let go"
    return loss, gradients, dx, kept.running


# --- against timm ----------------------------------------------------------------------------------------------------


def run_timm(short, x, train_batch_norm, masks=None, **others):
    """The same from timm, in float64; the masks stand in for its random ones."""
    model = timm.create_model(f"tf_efficientnet_{short}", drop_path_rate=0.2, **{"num_classes": CLASSES, **others})
    state = golden_parameters({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=True)
    model = model.double().train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train(train_batch_norm)
    drop_by(model, masks or {})
    tensor = torch.from_numpy(x).requires_grad_()
    logits = model(tensor.permute(0, 3, 1, 2))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(LABELS[: len(x)]), label_smoothing=SMOOTHING)
    loss.backward()
    gradients = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    return loss.item(), gradients, tensor.grad.numpy(), {name: b.numpy() for name, b in model.named_buffers()}


def assert_equals_timm(short, x, train_batch_norm, masks=None, **others):
    loss, gradients, dx, running = run(short, x, train_batch_norm, masks=masks, **others)
    expected_loss, expected, expected_dx, buffers = run_timm(short, x, train_batch_norm, masks, **others)
    assert abs(loss - expected_loss) <= 1e-9 * expected_loss
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert_exact(gradient, expected[name])
    assert_exact(dx, expected_dx)
    assert running.keys() == (buffers.keys() if train_batch_norm else set())
    for name, got in running.items():
        if name.endswith("num_batches_tracked"):
            assert got.dtype == np.int64 and got == buffers[name] == 8
        else:
            assert_exact(got, buffers[name])
    return expected


@needs_timm
@NORM
@VARIANT
def test_gradients_equal_timm(short, train_batch_norm):
    expected = assert_equals_timm(short, pictures(*SIZE), train_batch_norm)
    assert all(abs(expected[name]).max() > 1e-3 for name in ("conv_stem.weight", "bn1.bias", "conv_head.weight")), \
        "gradients of ordinary size from the first layer to the last, or the comparison says nothing"


@needs_timm
@NORM
@pytest.mark.parametrize("short, seed", [("lite0", 1), ("lite1", 2)])
def test_gradients_with_masks_equal_timm(short, seed, train_batch_norm):
    masks = random_masks(build(short), np.random.default_rng(seed), 2, 0.8, 0.5, np.float64)
    dropped = sum(float((mask == 0).sum()) for name, mask in masks.items() if name != "classifier")
    assert 2 <= dropped <= 2 * len(masks) - 4, "some blocks are dropped and some are not"
    assert_equals_timm(short, pictures(*SIZE), train_batch_norm, masks)


@needs_timm
@NORM
@pytest.mark.parametrize("pool", ["max", "avgmax", "catavgmax"])
def test_gradients_with_other_pools_equal_timm(pool, train_batch_norm):
    assert_equals_timm("lite0", pictures(*SIZE), train_batch_norm, global_pool=pool)


@needs_timm
@NORM
@pytest.mark.parametrize("size, colours, batch", [((1, 1), 3, 16), ((2, 5), 1, 16), ((64, 17), 4, 3)])
def test_gradients_of_odd_pictures_equal_timm(size, colours, batch, train_batch_norm):
    """Several values per channel in the last layers: of two, float64's own roundings grow from layer to layer."""
    x = pictures(*size, colours=colours, batch=batch)
    assert_equals_timm("lite0", x, train_batch_norm, in_chans=colours)


@needs_timm
def test_random_masks_have_the_rates_of_timm():
    model = timm.create_model("tf_efficientnet_lite2", drop_path_rate=0.2)
    blocks = {name.removesuffix(".drop_path"): module.drop_prob for name, module in model.named_modules()
              if type(module).__name__ == "DropPath"}
    expected = {name: rate for name, rate in blocks.items() if model.get_submodule(name).has_skip}

    class Keeps:
        """Random numbers that drop nothing, so that each mask tells its rate."""

        def random(self, shape):
            return np.full(shape, 0.999)

    masks = random_masks(build("lite2"), Keeps(), 3, 0.2, 0.5, np.float64)
    assert masks.pop("classifier").tolist() == np.full((3, 1280), 2.0).tolist()
    assert masks.keys() == expected.keys()
    for name, mask in masks.items():
        np.testing.assert_allclose(mask, np.full((3, 1, 1, 1), 1 / (1 - expected[name])), rtol=1e-12)


# --- float32 ---------------------------------------------------------------------------------------------------------


@NORM
@VARIANT
def test_float32_backward_pass_is_close_to_float64(short, train_batch_norm):
    """From the same forward pass: in one of its own, a float32 activation may be on the other side of a corner."""
    network = build(short, CLASSES)
    wide, narrow = (TrainingNetwork(network, parameters(short), dtype, train_batch_norm)
                    for dtype in (np.float64, np.float32))
    x = np.float32(pictures(*SIZE, batch=4))
    logits, kept = wide.forward(x.astype(np.float64))
    dlogits = cross_entropy(logits, label_targets(LABELS[: len(x)], CLASSES, SMOOTHING, np.float64))[1]
    rounded = type(kept)({name: tuple(map(np.float32, arrays)) if isinstance(arrays, tuple) else np.float32(arrays)
                          for name, arrays in kept.layers.items()})
    expected, expected_dx = wide.backward(dlogits, kept)
    got, dx = narrow.backward(np.float32(dlogits), rounded)
    assert_close(dx, np.float32(expected_dx), LOGITS)
    for name, gradient in got.items():
        assert_close(gradient, np.float32(expected[name]), LOGITS)


def nearest_corner(network, kept):
    """The smallest distance of any input of a ReLU6 from 0 or 6."""
    distances = []
    for conv in network.architecture.convs:
        if conv.relu6:
            _, normalised, _, _ = kept.layers[conv.name]
            x = normalised * network.parameters[f"{conv.bn}.weight"] + network.parameters[f"{conv.bn}.bias"]
            distances += [abs(x).min(), abs(x - 6).min()]
    return min(distances)


def test_float32_pass_is_close_to_float64():
    """With frozen batch norms, and pictures whose activations are farther from a corner than rounding moves them."""
    x = np.float32(pictures(9, 13, batch=3))
    network = TrainingNetwork(build("lite0", CLASSES), parameters("lite0"), np.float64, train_batch_norm=False)
    assert nearest_corner(network, network.forward(x.astype(np.float64))[1]) > 3e-5
    loss, expected, expected_dx, _ = run("lite0", x, False)
    got_loss, gradients, dx, _ = run("lite0", x, False, np.float32)
    assert_close(np.array(got_loss), np.array(loss, np.float32), LOGITS)
    assert_close(dx, np.float32(expected_dx), LOGITS)
    for name, gradient in gradients.items():
        assert_close(gradient, np.float32(expected[name]), LOGITS)


def test_float32_running_statistics_are_close_to_float64():
    x = np.float32(pictures(*SIZE, batch=4))
    expected, got = (run("lite0", x, True, dtype)[3] for dtype in (np.float64, np.float32))
    assert got.keys() == expected.keys()
    for name, statistic in got.items():
        if not name.endswith("num_batches_tracked"):
            assert_close(statistic, np.float32(expected[name]), LOGITS)


# --- what holds without torch ----------------------------------------------------------------------------------------


@NORM
def test_gradients_equal_the_slope_of_the_loss(train_batch_norm):
    """Along a random direction of the picture, and of parameters from the first layer to the last."""
    architecture, x, rng, step = build("lite0", CLASSES), pictures(*SIZE, batch=4), np.random.default_rng(0), 1e-8
    values = {name: array.astype(np.float64) for name, array in random_weights(architecture).parameters.items()}
    targets = label_targets(LABELS[: len(x)], CLASSES, SMOOTHING, np.float64)

    def forward(values, x):
        network = TrainingNetwork(architecture, values, np.float64, train_batch_norm)
        logits, kept = network.forward(x)
        return *cross_entropy(logits, targets), network, kept

    _, dlogits, network, kept = forward(values, x)
    gradients, dx = network.backward(dlogits, kept)
    directions = {name: rng.uniform(-1, 1, values[name].shape)
                  for name in ("conv_stem.weight", "blocks.2.1.conv_dw.weight", "blocks.5.3.bn3.weight",
                               "blocks.6.0.bn2.bias", "conv_head.weight", "bn2.bias", "classifier.weight")}
    slopes = {name: (gradients[name] * direction).sum() for name, direction in directions.items()}
    for name, direction in directions.items():
        above, below = (forward(values | {name: values[name] + sign * step * direction}, x)[0] for sign in (1, -1))
        assert slopes[name] == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-6)
    direction = rng.uniform(-1, 1, x.shape)
    above, below = (forward(values, x + sign * step * direction)[0] for sign in (1, -1))
    assert (dx * direction).sum() == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-6)
    assert max(map(abs, slopes.values())) > 0.01


def test_forward_with_frozen_batch_norms_is_that_of_the_plain_network():
    x = pictures(9, 13)
    network = TrainingNetwork(build("lite1", CLASSES), parameters("lite1"), np.float64, train_batch_norm=False)
    logits, kept = network.forward(x)
    assert_exact(logits, Network(build("lite1", CLASSES), parameters("lite1"), np.float64)(x))
    assert kept.running == {}


@NORM
@pytest.mark.parametrize("pool", ["avg", ""], ids=["features", "map"])
def test_network_without_a_classifier(pool, train_batch_norm):
    """The gradient of the sum of its output: that of the whole network with a classifier of ones."""
    architecture, x = build("lite0", 0, global_pool=pool), pictures(33, 47)
    network = TrainingNetwork(architecture, parameters("lite0"), np.float64, train_batch_norm)
    output, kept = network.forward(x)
    assert output.shape == ((2, 1280) if pool else (2, 2, 2, 1280))
    gradients, dx = network.backward(np.full(output.shape, 1.0 if pool else 0.25), kept)
    ones = {"classifier.weight": np.ones((1, 1280)), "classifier.bias": np.zeros(1)}
    whole = TrainingNetwork(build("lite0", 1), parameters("lite0") | ones, np.float64, train_batch_norm)
    expected, expected_dx = whole.backward(np.ones((2, 1)), whole.forward(x)[1])
    assert expected.keys() - gradients.keys() == ones.keys()
    for name, gradient in gradients.items():
        assert_exact(gradient, expected[name])
    assert_exact(dx, expected_dx)


def test_frozen_batch_norms_keep_pictures_apart():
    x = pictures(17, 18, batch=3)
    network = TrainingNetwork(build("lite0", CLASSES), parameters("lite0"), np.float64, train_batch_norm=False)
    dy = np.random.default_rng(0).uniform(-1, 1, (3, CLASSES))

    def gradients(pictures):
        return network.backward(dy[pictures], network.forward(x[pictures])[1])

    together, dx = gradients(slice(None))
    alone = [gradients([n]) for n in range(3)]
    for name, gradient in together.items():
        assert_exact(gradient, sum(one[name] for one, _ in alone))
    assert_exact(dx, np.concatenate([one for _, one in alone]))


@NORM
def test_a_pass_changes_neither_parameters_nor_pictures(train_batch_norm):
    x, before = pictures(17, 18), {name: array.copy() for name, array in parameters("lite0").items()}
    copy = x.copy()
    first, second = run("lite0", x, train_batch_norm), run("lite0", x, train_batch_norm)
    np.testing.assert_array_equal(x, copy)
    for name, array in before.items():
        np.testing.assert_array_equal(parameters("lite0")[name], array)
    assert first[0] == second[0] and all((first[1][name] == second[1][name]).all() for name in first[1])
