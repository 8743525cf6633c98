"""Updates and gradients bit by bit against Python's own numbers, one operation after the other.

Python's floats are float64. Rounding the sum, product, quotient or square root of float32 numbers first to float64 and
then to float32 gives the same as rounding once, since 53 >= 2 * 24 + 2 (Figueroa 1995, doi 10.1145/221332.221334).
"""
import math
import struct

import numpy as np
import pytest

from npefficient.training.losses import cross_entropy, exp
from npefficient.training.optimizers import OPTIMIZERS, create_optimizer

STEPS, SIZE, DECAY, EPS = 20, 12, 0.05, 1e-3


def f(x: float) -> float:
    """The nearest float32."""
    return struct.unpack("f", struct.pack("f", x))[0]


def add(a, b):
    return f(a + b)


def mul(a, b):
    return f(a * b)


class Scalar:
    """One weight and its state."""

    def __init__(self, p, opt):
        self.p, self.v, self.m, self.s, self.opt, self.powers = p, 0.0, 0.0, float(opt == "rmsproptf"), opt, (1.0, 1.0)

    def step(self, g, lr):
        if self.opt == "adamw":
            return self.adamw(g, lr)
        g = add(g, mul(f(DECAY), self.p))
        if self.opt == "rmsproptf":
            self.s = add(self.s, mul(f(1.0 - 0.9), add(mul(g, g), -self.s)))
            root = f(math.sqrt(add(self.s, f(EPS))))
            self.v = add(mul(f(0.9), self.v), f(mul(f(lr), g) / root))
            self.p = add(self.p, -self.v)
            return None
        self.v = add(mul(f(0.9), self.v), g)
        direction = add(g, mul(f(0.9), self.v)) if self.opt == "sgd" else self.v
        self.p = add(self.p, -mul(f(lr), direction))
        return None

    def adamw(self, g, lr):
        self.powers = self.powers[0] * 0.9, self.powers[1] * 0.999
        self.p = mul(self.p, f(1.0 - lr * DECAY))
        self.m = add(self.m, mul(f(1.0 - 0.9), add(g, -self.m)))
        self.s = add(mul(f(0.999), self.s), mul(f(1.0 - 0.999), mul(g, g)))
        root = f(f(math.sqrt(self.s)) / f(math.sqrt(1.0 - self.powers[1])))
        change = f(mul(f(lr / (1.0 - self.powers[0])), self.m) / add(root, f(EPS)))
        self.p = add(self.p, -change)


@pytest.mark.parametrize("opt", OPTIMIZERS)
def test_an_update_is_its_formula_operation_by_operation(opt):
    rng = np.random.default_rng(11)
    p = rng.normal(size=(SIZE, 1)).astype(np.float32)
    scalars = [Scalar(float(value), opt) for value in p[:, 0]]
    optimizer = create_optimizer(opt, {"w": p}, weight_decay=DECAY, opt_eps=EPS)
    for i in range(STEPS):
        g, lr = (rng.normal(size=p.shape) * 10.0 ** (i % 4 - 2)).astype(np.float32), 0.1 * 0.9**i
        optimizer.step({"w": g}, lr)
        for scalar, value in zip(scalars, g[:, 0]):
            scalar.step(float(value), lr)
        assert p[:, 0].tolist() == [scalar.p for scalar in scalars], i


def scalar_exp(x: float) -> float:
    n = round(x * 1.4426950408889634)
    r = x - n * 0.693147180369123816490 - n * 1.90821492927058770002e-10
    power = 1.0 / math.factorial(13)
    for k in reversed(range(13)):
        power = power * r + 1.0 / math.factorial(k)
    return math.ldexp(power, n)


def test_exp_is_its_formula_operation_by_operation():
    x = -np.concatenate([np.linspace(0.0, 40.0, 4001), np.geomspace(1e-9, 740.0, 2001)])
    assert exp(x).tolist() == [scalar_exp(value) for value in x.tolist()]


def test_the_gradient_of_the_loss_is_its_formula_operation_by_operation():
    """With few classes, whose sum NumPy takes from left to right."""
    rng = np.random.default_rng(12)
    logits = (rng.normal(size=(64, 5)) * 8.0).astype(np.float32)
    targets = rng.random((64, 5)).astype(np.float32)
    _, gradient = cross_entropy(logits, targets)
    for z, y, got in zip(logits.tolist(), targets.tolist(), gradient.tolist()):
        exps = [scalar_exp(value - max(z)) for value in z]
        assert got == [f((e / sum_of(exps) * sum_of(y) - target) / 64) for e, target in zip(exps, y)]


def sum_of(values):
    """From left to right; `sum` of newer Pythons corrects its roundings."""
    total = 0.0
    for value in values:
        total += value
    return total
