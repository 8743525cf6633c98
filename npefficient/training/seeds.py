"""The random numbers of a training run: each use has a generator of its own, which depends on nothing but its key.

The keys are those of NumPy's `SeedSequence.spawn`, https://numpy.org/doc/stable/reference/random/parallel.html: the
generators of different keys are independent, and none has to be made before another. So the same numbers come for any
number of threads, and for a run that is resumed. The bit generator is Philox (Salmon et al., "Parallel Random Numbers:
As Easy as 1, 2, 3", https://doi.org/10.1145/2063384.2063405). NumPy may change how a distribution is drawn from its
bits (NEP 19), so a run repeats its bits with the same version of NumPy.
"""
import numpy as np

ORDER, PHOTO, MIX, DROP, START = range(5)  # the first number of a key: what the generator is for


def generator(seed: int, *key: int) -> np.random.Generator:
    """The generator of a run's `seed` and a key of whole numbers, none of them negative."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


def photo_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator that draws how photo `index` of the list is augmented in an epoch."""
    return generator(seed, PHOTO, epoch, index)


def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of `count` photos in an epoch: a permutation, int64 (count,)."""
    return generator(seed, ORDER, epoch).permutation(count)
