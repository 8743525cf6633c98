"""Batch norm folded into the convolution before it, for the engine, its peers and the plain network."""
import numpy as np

from .architecture import BN_EPS, Conv


def fold_batch_norm(conv_weight, weight, bias, mean, var):
    """(M, C, K, K) and the batch norm after it -> (M, C, K, K), (M,): one convolution with a bias, float64.

    (conv(x) - mean) / sqrt(var + eps) * weight + bias = conv(x) * scale + (bias - mean * scale); the scale of an output
    channel can be multiplied into its weights in advance, because a convolution is linear in them.
    """
    scale = weight.astype(np.float64) / np.sqrt(var.astype(np.float64) + BN_EPS)
    return conv_weight * scale[:, None, None, None], bias - mean * scale


def fold(conv: Conv, parameters: dict):
    """One convolution of the network with the batch norm after it -> weight (M, C, K, K), bias (M,), float64."""
    return fold_batch_norm(parameters[f"{conv.name}.weight"], *bn_parameters(conv, parameters))


def bn_parameters(conv: Conv, parameters: dict):
    """The weight, bias, running mean and running variance of the batch norm after a convolution, each (M,)."""
    return (parameters[f"{conv.bn}.{leaf}"] for leaf in ("weight", "bias", "running_mean", "running_var"))
