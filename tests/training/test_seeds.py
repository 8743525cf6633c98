"""Generators by key: those of NumPy's own spawning, the same each time, and different for each key."""
import numpy as np
import pytest

from npefficient.training.seeds import ORDER, PHOTO, epoch_order, generator, photo_generator


def state(rng):
    found = rng.bit_generator.state["state"]
    return found["key"].tolist(), found["counter"].tolist()


def test_generators_are_those_that_numpy_would_spawn():
    """SeedSequence.spawn has to make all children before the one that is wanted; a key names it."""
    expected = np.random.SeedSequence(9).spawn(PHOTO + 1)[PHOTO].spawn(3)[2].spawn(6)[5]
    assert state(photo_generator(9, 2, 5)) == state(np.random.Generator(np.random.Philox(expected)))
    assert state(generator(9, ORDER, 2)) == state(np.random.Generator(np.random.Philox(
        np.random.SeedSequence(9).spawn(ORDER + 1)[ORDER].spawn(3)[2])))


def test_every_key_has_a_generator_of_its_own():
    keys = [(seed, epoch, index) for seed in (0, 1, 2**40) for epoch in range(3) for index in range(4)]
    first = [photo_generator(*key).random(4).tolist() for key in keys]
    assert len({tuple(numbers) for numbers in first}) == len(keys)
    assert first == [photo_generator(*key).random(4).tolist() for key in keys]


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_the_order_of_an_epoch_is_a_permutation(count):
    orders = [epoch_order(3, epoch, count) for epoch in range(3)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(count)) and order.dtype == np.int64
    np.testing.assert_array_equal(orders[1], epoch_order(3, 1, count))
    if count > 2:
        assert len({tuple(order.tolist()) for order in [*orders, epoch_order(4, 0, count)]}) == 4
