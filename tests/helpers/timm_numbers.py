"""Random numbers for us that are those that timm draws."""
import numpy as np


class TimmsNumbers:
    """NumPy's legacy generator, which timm draws from, under the names of the newer one."""

    def __init__(self, seed):
        state = np.random.RandomState(seed)
        self.random, self.beta, self.integers = state.rand, state.beta, state.randint
