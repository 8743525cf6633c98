"""Clipped gradients against timm's."""
import numpy as np
import pytest
import tiny_network
from live import needs_timm, torch

from npefficient.errors import ArgumentError
from npefficient.training.clipping import CLIP_MODES, clip_gradients, global_norm


def renamed(arrays):
    """With the fully connected layer as the classifier, which "agc" leaves out."""
    return {name.replace("fc.", "classifier."): array for name, array in arrays.items()}


@needs_timm
@pytest.mark.parametrize("limit", [1e-3, 0.3, 1e3])
@pytest.mark.parametrize("mode", CLIP_MODES)
def test_gradients_are_clipped_as_by_timm(mode, limit):
    from timm.utils import dispatch_clip_grad

    parameters = renamed(tiny_network.arrays())
    for gradients in map(renamed, tiny_network.gradients(tiny_network.arrays(), 5)):
        tensors = {name: torch.nn.Parameter(torch.from_numpy(array)) for name, array in parameters.items()}
        for name, tensor in tensors.items():
            tensor.grad = torch.from_numpy(gradients[name].copy())
        body = [tensor for name, tensor in tensors.items() if mode != "agc" or "classifier" not in name]
        dispatch_clip_grad(body, limit, mode)
        clip_gradients(gradients, parameters, limit, mode)
        for name, tensor in tensors.items():
            np.testing.assert_allclose(gradients[name], tensor.grad.numpy(), rtol=1e-6, err_msg=name)


def test_the_norm_is_that_of_all_gradients_together():
    gradients = {"a": np.full((2, 2), 3.0, np.float32), "b": np.full(4, 4.0, np.float32)}
    assert global_norm(gradients) == 10.0
    clip_gradients(gradients, {}, 5.0)
    np.testing.assert_allclose(gradients["a"], 1.5, rtol=1e-6)
    np.testing.assert_allclose(gradients["b"], 2.0, rtol=1e-6)


def test_small_gradients_keep_their_bits():
    for mode in CLIP_MODES:
        gradients = tiny_network.gradients(tiny_network.arrays(), 1)[0]
        before = {name: array.tobytes() for name, array in gradients.items()}
        clip_gradients(gradients, tiny_network.arrays(), 1e9, mode)
        assert {name: array.tobytes() for name, array in gradients.items()} == before


def test_an_unknown_mode_is_refused():
    with pytest.raises(ArgumentError, match="clip-mode 'max': it must be one of 'norm', 'value', 'agc'"):
        clip_gradients({}, {}, 1.0, "max")
