"""The steps of one picture's pass, by a module's own `weights` and at its SIZE: fused as usual, and one by one."""
import numpy as np
import pytest

from npefficient.bench.steps import Steps


@pytest.fixture(scope="module")
def picture(request):
    return np.random.default_rng(0).uniform(-1, 1, (1, *request.module.SIZE, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=[(1, True), (2, True), (1, False)], ids=["fused", "two_threads", "unfused"])
def some_steps(request, weights, picture):
    return Steps(weights, picture, *request.param)


@pytest.fixture(scope="module")
def fused(weights, picture):
    return Steps(weights, picture)


@pytest.fixture(scope="module")
def unfused(weights, picture):
    return Steps(weights, picture, fused=False)
