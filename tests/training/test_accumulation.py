"""The gradient of an update from several parts against torch's, with the loss divided as in timm's train.py."""
import numpy as np
import pytest
from live import needs_timm, torch

from npefficient.training.accumulation import accumulate, parts_of_updates


@needs_timm
@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_parts_of_one_size_give_the_gradient_of_the_whole_batch(parts):
    rng = np.random.default_rng(8)
    x, classes = rng.normal(size=(parts, 4, 6)).astype(np.float32), rng.integers(3, size=(parts, 4))
    layer = torch.nn.Linear(6, 3)

    def gradients(pictures, right):
        layer.zero_grad()
        torch.nn.functional.cross_entropy(layer(torch.from_numpy(pictures)), torch.from_numpy(right)).backward()
        return {name: parameter.grad.numpy().copy() for name, parameter in layer.named_parameters()}

    total = {}
    for pictures, right in zip(x, classes):
        accumulate(total, gradients(pictures, right), parts)
    for name, expected in gradients(x.reshape(-1, 6), classes.ravel()).items():
        assert total[name].dtype == np.float32
        np.testing.assert_allclose(total[name], expected, rtol=1e-5, atol=1e-7)


def test_parts_are_averaged_and_stay_as_they_are():
    parts, total = [{"w": np.float32([value])} for value in (3.0, 6.0, 9.0)], {}
    for part in parts:
        accumulate(total, part, 3)
    assert total["w"] == pytest.approx(6.0, rel=1e-6)
    assert [float(part["w"][0]) for part in parts] == [3, 6, 9]


def test_the_last_update_takes_what_is_left():
    assert parts_of_updates(7, 3) == [3, 3, 1]
    assert parts_of_updates(6, 3) == [3, 3]
    assert parts_of_updates(2, 5) == [2]
