"""The moving average of a network's weights against timm's `ModelEmaV3`."""
import numpy as np
import pytest
import tiny_network
from live import needs_timm, timm, torch

from npefficient.errors import WeightsError
from npefficient.training.ema import ModelEma
from npefficient.training.states import copies, restore

UPDATES = 20


def networks(count: int) -> list[dict[str, np.ndarray]]:
    """What a network's arrays may be after each of some updates."""
    rng = np.random.default_rng(2)
    found = []
    for i in range(count):
        arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in tiny_network.SHAPES.items()}
        arrays["bn.running_mean"] = rng.normal(size=4).astype(np.float32)
        arrays["bn.running_var"] = rng.uniform(0.1, 9.0, 4).astype(np.float32)
        arrays["bn.num_batches_tracked"] = np.array(i + 1, np.int64)
        found.append(arrays)
    return found


@needs_timm
@pytest.mark.parametrize("warmup", [False, True])
@pytest.mark.parametrize("decay", [0.9998, 0.9, 0.3])
def test_update_averages_as_timm_does(decay, warmup):
    module = tiny_network.module()
    theirs = timm.utils.ModelEmaV3(module, decay=decay, use_warmup=warmup)
    ours = ModelEma(tiny_network.state(module), decay, warmup)
    for step, arrays in enumerate(networks(UPDATES), 1):
        module.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        theirs.update(module, step=step)
        ours.update(arrays, step)
        assert ours.decay_at(step) == theirs.get_decay(step)
        for name, tensor in theirs.module.state_dict().items():
            expected = tensor.numpy()
            assert ours.arrays[name].dtype == expected.dtype
            np.testing.assert_allclose(ours.arrays[name], expected, rtol=1e-6, atol=1e-6, err_msg=name)


def test_the_first_update_copies_and_later_ones_average():
    first, second, third = networks(3)
    ema = ModelEma(first, 0.75)
    ema.update(second, 1)
    assert all(np.array_equal(ema.arrays[name], second[name]) for name in second)
    ema.update(third, 2)
    np.testing.assert_allclose(ema.arrays["fc.bias"], 0.75 * second["fc.bias"] + 0.25 * third["fc.bias"], rtol=1e-6)
    assert ema.arrays["bn.num_batches_tracked"] == 3


def test_the_average_has_memory_of_its_own():
    (arrays,) = networks(1)
    ema = ModelEma(arrays, 0.5)
    saved = copies(ema.arrays)
    arrays["fc.bias"] += 1
    ema.update(arrays, 1)
    assert np.array_equal(saved["fc.bias"] + 1, ema.arrays["fc.bias"])


def test_a_restored_average_goes_on_with_the_same_bits():
    steps = networks(8)
    ema, again = ModelEma(steps[0], 0.9, True), ModelEma(steps[7], 0.9, True)
    for step, arrays in enumerate(steps, 1):
        if step == 5:
            restore(again.arrays, ema.arrays, "EMA")
        for one in (ema, again):
            one.update(arrays, step)
    assert all(again.arrays[name].tobytes() == array.tobytes() for name, array in ema.arrays.items())
    with pytest.raises(WeightsError, match="EMA: 'fc.bias' missing"):
        restore(again.arrays, {name: array for name, array in steps[0].items() if name != "fc.bias"}, "EMA")
