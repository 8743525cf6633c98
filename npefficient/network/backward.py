"""Backpropagation in NumPy: for every layer of the network, the gradient of the loss as a formula.

Read `reference.py` first. Training moves each parameter against its gradient, the derivative of the loss L. The network
is a chain of layers, y = f(x, w), and the chain rule takes the derivative through one layer at a time, last to first:

    forward       x --[f1, w1]--> x1 --[f2, w2]--> x2 .. logits --[cross-entropy]--> L
    backward     dx <------------ dx1 <----------- dx2 .. dlogits <------------------+
                        |                 |
                       dw1               dw2

Each layer is given the upstream gradient dy, the derivative of L by its output y and of the same shape. It returns

    dx[i] = sum over all outputs o of dy[o] * (derivative of y[o] by x[i])    to the layer before; the shape of x
    dw[i] = sum over all outputs o of dy[o] * (derivative of y[o] by w[i])    to the optimizer; the shape of w

So a backward function asks of each input which outputs it reaches, and with what factor. There are five cases:

    y = x * a            one output, with the factor a              dx = dy * a                  ReLU6, dropout, pools
    y = x w^T            every output of the same pixel, by w       dx = dy w, dw = dy^T x       linear, pointwise
    y = sum over taps    one output at each tap                     the taps in reverse          convolutions
    y = f(x) + x         the sum, on two paths                      dx = (dx of f) + dy          shortcut
    y = f(x, mean(x))    its own, and all others through the mean   three terms                  batch norm

A parameter is used at every pixel of every picture, so its gradient is a sum over all of them.

The forward functions are those of `reference.py`; what training adds to them is below. A backward function takes dy and
those arrays of the forward pass that are in its formula. `training_network.py` keeps them, and runs the layers in
reverse. All functions return the dtype of their input, float32 or float64. Sums over pixels and pictures are
accumulated in float64 and rounded once: NumPy adds the rows of an array one after another, and for the 12,544 pixels of
a stem's output the roundings of float32 may add up to 12,544 * 2^-24 = 7e-4 of the sum. Matrix products stay in the
input's dtype, as BLAS adds in blocks.

Letters as in `reference.py`: N batch, H W input rows and columns, C input channels, M output channels, K kernel, S
stride, Q R output rows and columns.
"""
import numpy as np

from .architecture import BN_EPS, same_padding
from .reference import pad_same, taps

BN_MOMENTUM = 0.1  # weight of the new batch in the running statistics: torch's default, which timm's Lite models use


def pixels(x):
    """(N, H, W, C) -> (N H W, C): the rows of a matrix product."""
    return x.reshape(-1, x.shape[-1])


def channel_sum(x):
    """(.., C) -> (C,): the sum over pixels and pictures."""
    return pixels(x).sum(axis=0, dtype=np.float64).astype(x.dtype)


def channel_mean(x):
    """(.., C) -> (C,): the mean over pixels and pictures."""
    return pixels(x).mean(axis=0, dtype=np.float64).astype(x.dtype)


# --- convolutions ----------------------------------------------------------------------------------------------------


def add_taps(pieces, x, kernel: int, stride: int):
    """The reverse of `taps`: each piece (i, j, (N, Q, R, C)) is added to the pixels that tap (i, j) read of x.

    -> dx (N, H, W, C). What is added to the padding is cut off, since the zeros there are not pixels.
    """
    _, h, w, _ = x.shape
    padded = pad_same(np.zeros_like(x), kernel, stride)
    for i, j, piece in pieces:
        _, q, r, _ = piece.shape
        padded[:, i : i + (q - 1) * stride + 1 : stride, j : j + (r - 1) * stride + 1 : stride] += piece
    top, left = (same_padding(size, kernel, stride)[0] for size in (h, w))
    return padded[:, top : top + h, left : left + w]


def dense_conv_backward(dy, x, weight, stride: int):
    """dy (N, Q, R, M), x (N, H, W, C), weight (M, C, K, K) -> dx, dweight.

    y = sum over taps of view @ weight[:, :, i, j].T, so each tap is a linear layer of its view.
    """
    kernel, dweight = weight.shape[-1], np.empty_like(weight)
    for i, j, view in taps(x, kernel, stride):
        dweight[:, :, i, j] = pixels(dy).T @ pixels(view)
    pieces = ((i, j, dy @ weight[:, :, i, j]) for i, j in np.ndindex(kernel, kernel))
    return add_taps(pieces, x, kernel, stride), dweight


def depthwise_conv_backward(dy, x, weight, stride: int):
    """dy (N, Q, R, C), x (N, H, W, C), weight (C, 1, K, K) -> dx, dweight.

    y = sum over taps of view * weight[:, 0, i, j], so each tap scales its view.
    """
    kernel, dweight = weight.shape[-1], np.empty_like(weight)
    for i, j, view in taps(x, kernel, stride):
        dweight[:, 0, i, j] = channel_sum(dy * view)
    pieces = ((i, j, dy * weight[:, 0, i, j]) for i, j in np.ndindex(kernel, kernel))
    return add_taps(pieces, x, kernel, stride), dweight


def pointwise_conv_backward(dy, x, weight):
    """dy (N, H, W, M), x (N, H, W, C), weight (M, C, 1, 1) -> dx, dweight: a linear layer of every pixel."""
    return dy @ weight[:, :, 0, 0], (pixels(dy).T @ pixels(x))[:, :, None, None]


# --- batch norm ------------------------------------------------------------------------------------------------------


def batch_statistics(x):
    """(.., C) -> mean (C,), variance (C,) of the n = N H W values of each channel; the variance is that of /n."""
    mean = channel_mean(x)
    return mean, channel_mean(np.square(x - mean))


def normalise(x, mean, var):
    """(.., C) -> normalised (.., C), of mean 0 and variance 1 if mean and var are those of x, and the scale (C,)."""
    scale = 1 / np.sqrt(var + x.dtype.type(BN_EPS))
    return (x - mean) * scale, scale


def batch_norm_backward(dy, normalised, scale, weight):
    """dy (.., C) -> dx, dweight, dbias of y = normalised * weight + bias with the batch's own mean and variance.

    Each x reaches its own y, and all y of its channel through the mean and through the variance. These are the three
    terms, in this order:

        dx = weight * scale * (dy - mean(dy) - normalised * mean(dy * normalised))

    The last two take from dy what would shift or scale all x of a channel, which y (but for eps) does not notice.
    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), section 3, simplified.
    """
    n, dweight, dbias = len(pixels(dy)), channel_sum(dy * normalised), channel_sum(dy)
    return weight * scale * (dy - dbias / n - normalised * (dweight / n)), dweight, dbias


def frozen_batch_norm_backward(dy, normalised, scale, weight):
    """dy (.., C) -> dx, dweight, dbias of y = normalised * weight + bias with constant mean and variance."""
    return weight * scale * dy, channel_sum(dy * normalised), channel_sum(dy)


def new_running_statistics(running_mean, running_var, mean, var, n: int, momentum: float = BN_MOMENTUM):
    """Four vectors (C,) -> the running mean and variance (C,) after a batch with n > 1 values per channel.

    As in torch, the running variance takes the unbiased variance (/(n - 1)), while the batch is normalised by /n.
    """
    keep = 1 - momentum
    return keep * running_mean + momentum * mean, keep * running_var + momentum * var * (n / (n - 1))


# --- activation, pools, dropout --------------------------------------------------------------------------------------


def relu6_backward(dy, y):
    """dy (..), y (..) = relu6(x) -> dx: dy where y follows x, and 0 where it is clamped.

    At the corners, x = 0 and x = 6, the gradient is 0, as in torch.
    """
    return dy * ((y > 0) & (y < 6))


def average_pool_backward(dy, x):
    """dy (N, C), x (N, H, W, C) -> dx: every pixel has the same share."""
    _, h, w, _ = x.shape
    return np.broadcast_to((dy / (h * w))[:, None, None], x.shape)


def max_pool_backward(dy, x):
    """dy (N, C), x (N, H, W, C) -> dx: all of dy goes to the largest pixel.

    Of several, it is the first in reading order, as in torch's `adaptive_max_pool2d`, which timm uses in these models.
    """
    n, h, w, c = x.shape
    dx = np.zeros((n, h * w, c), dy.dtype)
    largest = x.reshape(n, h * w, c).argmax(axis=1)
    np.put_along_axis(dx, largest[:, None], dy[:, None], axis=1)
    return dx.reshape(x.shape)


def global_pool_backward(dy, x, how: str):
    """dy (N, C), or (N, 2 C) for "catavgmax", x (N, H, W, C) -> dx: one of timm's pools."""
    if how == "avg":
        return average_pool_backward(dy, x)
    if how == "max":
        return max_pool_backward(dy, x)
    average, largest = (dy / 2, dy / 2) if how == "avgmax" else np.split(dy, 2, axis=1)
    return average_pool_backward(average, x) + max_pool_backward(largest, x)


def drop(x, mask):
    """x (N, ..), mask -> (N, ..): dropout with a mask (N, C), stochastic depth with (N, 1, 1, 1); see `keep_mask`.

    It is its own backward function: dx = drop(dy, mask).
    """
    return x * mask


def keep_mask(rng: np.random.Generator, shape, rate: float, dtype=np.float32):
    """A mask for `drop`: each value is 0 with probability `rate`, else 1 / (1 - rate), so that the mean stays the same.

    Source: dropout, Srivastava et al. 2014; stochastic depth, Huang et al. 2016 (arXiv:1603.09382), scaled as in timm's
    `drop_path`.
    """
    return ((rng.random(shape) >= rate) / (1 - rate)).astype(dtype)


# --- classifier and loss ---------------------------------------------------------------------------------------------


def linear_backward(dy, x, weight):
    """dy (N, M), x (N, C), weight (M, C) -> dx (N, C), dweight (M, C), dbias (M,)."""
    return dy @ weight, dy.T @ x, channel_sum(dy)


def label_targets(labels, num_classes: int, smoothing: float = 0.0, dtype=np.float32):
    """labels (N,) whole numbers -> (N, M): 1 - smoothing for the label's class, and `smoothing` shared by all M.

    Source: Szegedy et al. 2016 (arXiv:1512.00567), section 7; as in torch's `label_smoothing` and timm's mixup.
    """
    low = smoothing / num_classes
    targets = np.full((len(labels), num_classes), low, dtype)
    targets[np.arange(len(labels)), labels] = 1.0 - smoothing + low
    return targets


def cross_entropy(logits, targets) -> tuple:
    """logits (N, M), targets (N, M) -> the mean loss of the batch, and dlogits (N, M).

    targets: for each picture a distribution over the classes: `label_targets`, or a mixture of them (mixup).

        loss = -(mean over pictures) (sum over classes) targets * log(softmax(logits))
        dlogits = (softmax(logits) * (sum over classes) targets - targets) / N

    A distribution's sum is 1. As in torch, targets with another sum are allowed.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)  # no exponential is then larger than 1
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -(targets * log_softmax).sum(axis=1).mean()
    return loss, (np.exp(log_softmax) * targets.sum(axis=1, keepdims=True) - targets) / len(logits)
