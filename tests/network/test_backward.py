"""Every layer's gradient: against torch's autograd, against central differences, in float32, and by hand."""
import functools
from dataclasses import dataclass

import naive
import numpy as np
import pytest
from live import needs_timm, torch
from tolerance import assert_close

from npefficient.network import backward, reference
from npefficient.network.architecture import BN_EPS


def assert_exact(got, expected):
    """Fail unless float64 results differ by 1e-9 at most, relative to the largest."""
    assert got.dtype == expected.dtype == np.float64 and got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-9 * max(1.0, np.abs(expected).max())


def noise(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape)


def distinct(*shape, seed=0):
    """Values from -2 to 8, no two of which are near each other, and none near 0 or 6: away from ties and corners."""
    values = np.linspace(-2, 8, np.prod(shape) + 2)[1:-1]
    assert min(values[1] - values[0], abs(values).min(), abs(values - 6).min()) > 0.01
    return np.random.default_rng(seed).permutation(values).reshape(shape)


# --- the layers as cases ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One layer: y = forward(*arrays), gradients of all arrays = backward(dy, *arrays)."""

    forward: object
    backward: object
    torch: object  # as forward, of tensors in the same layout
    arrays: tuple
    length: int  # of its longest sum


def nchw(function):
    """A function of NCHW tensors as one of NHWC tensors."""
    return lambda x, *others: function(x.permute(0, 3, 1, 2), *others).permute(0, 2, 3, 1)


def torch_conv(x, weight, stride, groups):
    (top, bottom), (left, right) = (naive.border(size, weight.shape[-1], stride) for size in x.shape[2:])
    padded = torch.nn.functional.pad(x, (left, right, top, bottom))
    return torch.nn.functional.conv2d(padded, weight, stride=stride, groups=groups)


def dense(size, stride):
    return Case(lambda x, w: reference.dense_conv(x, w, stride),
                lambda dy, x, w: backward.dense_conv_backward(dy, x, w, stride),
                nchw(lambda x, w: torch_conv(x, w, stride, 1)),
                (noise(2, *size, 3), noise(5, 3, 3, 3)), 2 * size[0] * size[1] + 45)


def depthwise(size, kernel, stride):
    return Case(lambda x, w: reference.depthwise_conv(x, w, stride),
                lambda dy, x, w: backward.depthwise_conv_backward(dy, x, w, stride),
                nchw(lambda x, w: torch_conv(x, w, stride, 4)),
                (noise(3, *size, 4), noise(4, 1, kernel, kernel)), 3 * size[0] * size[1] + kernel**2)


def pointwise(size):
    return Case(reference.pointwise_conv, backward.pointwise_conv_backward, nchw(lambda x, w: torch_conv(x, w, 1, 1)),
                (noise(2, *size, 4), noise(6, 4, 1, 1)), 2 * size[0] * size[1] + 6)


def batch_norm(size, frozen):
    c = 4
    running = noise(c, seed=1), noise(c, seed=2) + 1.5

    def statistics(x):
        return [array.astype(x.dtype) for array in running] if frozen else backward.batch_statistics(x)

    def forward(x, weight, bias):
        return backward.normalise(x, *statistics(x))[0] * weight + bias

    def gradients(dy, x, weight, bias):
        norm_backward = backward.frozen_batch_norm_backward if frozen else backward.batch_norm_backward
        return norm_backward(dy, *backward.normalise(x, *statistics(x)), weight)

    def torchs(x, weight, bias):
        mean, var = (torch.from_numpy(array).clone() for array in running)
        return torch.nn.functional.batch_norm(x, mean, var, weight, bias, training=not frozen, eps=BN_EPS)

    return Case(forward, gradients, nchw(torchs), (noise(3, *size, c), noise(c, seed=3), noise(c, seed=4)),
                3 * size[0] * size[1])


def pool(size, how):
    def torchs(x):
        x = x.permute(0, 3, 1, 2)
        average, largest = (function(x, 1).flatten(1) for function in (torch.nn.functional.adaptive_avg_pool2d,
                                                                       torch.nn.functional.adaptive_max_pool2d))
        return {"avg": average, "max": largest, "avgmax": 0.5 * (average + largest),
                "catavgmax": torch.cat([average, largest], 1)}[how]

    return Case(lambda x: reference.global_pool(x, how), lambda dy, x: [backward.global_pool_backward(dy, x, how)],
                torchs, (distinct(2, *size, 4),), size[0] * size[1])


def masked(mask):
    return Case(lambda x: backward.drop(x, mask.astype(x.dtype)),
                lambda dy, x: [backward.drop(dy, mask.astype(dy.dtype))],
                lambda x: x * torch.from_numpy(mask), (noise(4, 2, 3, 5),), 1)


SIZES = [(1, 1), (1, 2), (5, 4), (7, 3)]
CASES = {
    **{f"dense_s{s}_{h}x{w}": functools.partial(dense, (h, w), s) for s in (1, 2) for h, w in SIZES},
    **{f"depthwise_k{k}_s{s}_{h}x{w}": functools.partial(depthwise, (h, w), k, s)
       for k in (3, 5) for s in (1, 2) for h, w in SIZES},
    **{f"pointwise_{h}x{w}": functools.partial(pointwise, (h, w)) for h, w in SIZES},
    **{f"{'frozen_' * frozen}batch_norm_{h}x{w}": functools.partial(batch_norm, (h, w), frozen)
       for frozen in (False, True) for h, w in SIZES},
    **{f"{how}_pool_{h}x{w}": functools.partial(pool, (h, w), how)
       for how in ("avg", "max", "avgmax", "catavgmax") for h, w in SIZES},
    "relu6": lambda: Case(reference.relu6, lambda dy, x: [backward.relu6_backward(dy, reference.relu6(x))],
                          lambda x: torch.nn.functional.relu6(x), (distinct(2, 4, 5, 3),), 1),
    "dropout": lambda: masked(np.random.default_rng(0).choice([0, 2.0], (4, 2, 3, 5))),
    "drop_path": lambda: masked(np.array([0, 1.25, 0, 1.25]).reshape(4, 1, 1, 1)),
    "linear": lambda: Case(reference.linear, lambda dy, x, w, b: backward.linear_backward(dy, x, w),
                           lambda x, w, b: torch.nn.functional.linear(x, w, b),
                           (noise(3, 6), noise(4, 6), noise(4)), 6),
    "cross_entropy": lambda: Case(
        lambda x: backward.cross_entropy(x, SOFT.astype(x.dtype))[0],
        lambda dy, x: [dy * backward.cross_entropy(x, SOFT.astype(x.dtype))[1]],
        lambda x: torch.nn.functional.cross_entropy(x, torch.from_numpy(SOFT)), (9 * noise(3, 7),), 7),
}
SOFT = np.random.default_rng(1).dirichlet(np.ones(7), 3)  # targets as mixup makes them ..
SOFT[2] *= 0.7  # .. and some that do not add up to 1
ANY = pytest.mark.parametrize("make", CASES.values(), ids=CASES.keys())


@needs_timm
@ANY
def test_gradients_equal_autograd(make):
    case = make()
    tensors = [torch.from_numpy(array).requires_grad_() for array in case.arrays]
    y = case.torch(*tensors)
    dy = noise(*y.shape, seed=5)
    y.backward(torch.from_numpy(np.asarray(dy)))
    assert_exact(case.forward(*case.arrays), y.detach().numpy())
    for got, tensor in zip(case.backward(dy, *case.arrays), tensors, strict=True):
        assert_exact(got, tensor.grad.numpy())


@ANY
def test_gradients_equal_central_differences(make):
    """Each value of each array is moved up and down."""
    case, step = make(), 1e-5
    dy = noise(*case.forward(*case.arrays).shape, seed=5)
    for number, got in enumerate(case.backward(dy, *case.arrays)):
        arrays = [array.copy() for array in case.arrays]
        moved, expected = arrays[number], np.empty(arrays[number].shape)
        for at in np.ndindex(moved.shape):
            ends = []
            for sign in (1, -1):
                moved[at] = case.arrays[number][at] + sign * step
                ends.append((dy * case.forward(*arrays)).sum())
            moved[at] = case.arrays[number][at]
            expected[at] = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-7 * max(1, abs(expected).max()))


@ANY
def test_float32_gradients_are_close_to_float64(make):
    case = make()
    narrow = [array.astype(np.float32) for array in case.arrays]
    wide = [array.astype(np.float64) for array in narrow]
    dy = np.asarray(noise(*case.forward(*wide).shape, seed=5), np.float32)
    for got, expected in zip(case.backward(dy, *narrow), case.backward(dy.astype(np.float64), *wide), strict=True):
        assert_close(got, expected.astype(np.float32), case.length)


def test_assert_exact_can_fail():
    with pytest.raises(AssertionError):
        assert_exact(np.array([1.0, 100.0]), np.array([1.0 + 2e-7, 100.0]))
    with pytest.raises(AssertionError):
        assert_exact(np.ones(2, np.float32), np.ones(2))


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_relu6_stops_the_gradient_at_its_corners():
    x = np.array([-1, -0.0, 0, 1e-30, 3, np.nextafter(6, 0), 6, 7])
    got = backward.relu6_backward(np.full(8, 2.0), reference.relu6(x))
    np.testing.assert_array_equal(got, [0, 0, 0, 2, 2, 2, 0, 0])


def test_max_pool_gives_everything_to_the_first_of_several_largest():
    x = np.array([1, 5, 5, 0, 5, 2.0]).reshape(1, 2, 3, 1)
    got = backward.max_pool_backward(np.array([[7.0]]), x)
    np.testing.assert_array_equal(got.ravel(), [0, 7, 0, 0, 0, 0])


@needs_timm
@pytest.mark.parametrize("how", ["relu6", "max_pool"])
def test_corners_and_ties_are_those_of_torch(how):
    """On whole numbers, many of which are equal, or exactly at a corner."""
    x = np.random.default_rng(0).integers(-1, 8, (4, 5, 6, 3)).astype(np.float64)
    tensor = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
    y = torch.nn.functional.relu6(tensor) if how == "relu6" else torch.nn.functional.adaptive_max_pool2d(tensor, 1)
    y.sum().backward()
    got = (backward.relu6_backward(np.ones_like(x), reference.relu6(x)) if how == "relu6" else
           backward.max_pool_backward(np.ones((4, 3)), x))
    np.testing.assert_array_equal(got, tensor.grad.permute(0, 2, 3, 1).numpy())


def test_running_statistics_by_hand():
    mean, var = backward.new_running_statistics(np.array([10.0]), np.array([20.0]), np.array([30.0]), np.array([4.0]),
                                                n=5, momentum=0.25)
    np.testing.assert_array_equal([mean, var], [[15.0], [16.25]])  # 3/4 10 + 1/4 30, 3/4 20 + 1/4 4 5/4


@needs_timm
def test_running_statistics_equal_torch():
    x, old = noise(3, 5, 4, 6), (noise(6, seed=1), noise(6, seed=2) + 1.5)
    norm = torch.nn.BatchNorm2d(6, dtype=torch.float64)
    norm.running_mean[:], norm.running_var[:] = (torch.from_numpy(array) for array in old)
    norm(torch.from_numpy(x).permute(0, 3, 1, 2))
    for got, expected in zip(backward.new_running_statistics(*old, *backward.batch_statistics(x), 60),
                             (norm.running_mean, norm.running_var), strict=True):
        assert_exact(got, expected.numpy())


def test_sums_over_pixels_are_accurate_in_float32():
    """A sum in float32 from the first to the last would be wrong by some 1e-4 of the largest."""
    x = np.random.default_rng(0).uniform(0, 6, (4, 224, 224, 2)).astype(np.float32)
    exact = x.astype(np.float64).sum(axis=(0, 1, 2))
    np.testing.assert_allclose(backward.channel_sum(x), exact, rtol=2**-24)
    np.testing.assert_allclose(backward.channel_mean(x), exact / (4 * 224**2), rtol=2**-24)
    assert (abs(x.sum(axis=(0, 1, 2)) / exact - 1) > 1e-6).any(), "the plain sum is as accurate, so this shows nothing"


def test_keep_mask_keeps_the_mean():
    mask = backward.keep_mask(np.random.default_rng(0), (200, 100), 0.2)
    assert mask.dtype == np.float32 and set(np.unique(mask)) == {0, np.float32(1.25)}
    assert abs(mask.mean() - 1) < 0.02  # five standard deviations of 0.5 / sqrt(20,000)
    assert (backward.keep_mask(np.random.default_rng(0), (3, 1, 1, 1), 0.0) == 1).all()


def test_label_targets_by_hand():
    got = backward.label_targets(np.array([2, 0]), 4, 0.25, np.float64)
    np.testing.assert_array_equal(got, [[1 / 16, 1 / 16, 13 / 16, 1 / 16], [13 / 16, 1 / 16, 1 / 16, 1 / 16]])


def test_cross_entropy_by_hand():
    loss, gradient = backward.cross_entropy(np.zeros((2, 4)), np.eye(4)[[1, 3]])
    assert loss == np.log(4)
    np.testing.assert_array_equal(8 * gradient, [[1, -3, 1, 1], [1, 1, 1, -3]])


@needs_timm
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_of_labels_equals_torch(smoothing):
    logits, labels = 300 * noise(3, 7), np.array([6, 0, 3])  # logits whose exponentials are beyond float32
    tensor = torch.from_numpy(logits).requires_grad_()
    expected = torch.nn.functional.cross_entropy(tensor, torch.from_numpy(labels), label_smoothing=smoothing)
    expected.backward()
    loss, gradient = backward.cross_entropy(logits, backward.label_targets(labels, 7, smoothing, np.float64))
    assert abs(loss - expected.item()) <= 1e-9 * expected.item()
    assert_exact(gradient, tensor.grad.numpy())
