"""Optimizers: SGD with momentum, TensorFlow's RMSprop and AdamW, as timm's `create_optimizer_v2` sets them up.

Letters: p parameter, g gradient, lr learning rate, wd weight decay. All arrays are float32; p has any shape. For
parameters of one dimension (biases; scale and shift of batch norm) wd is 0, as in timm's `param_groups_weight_decay`.

An update consists of elementwise additions, multiplications, divisions and square roots, each rounded once as IEEE 754
requires, in the order that is written. Numbers are computed in float64 and rounded to float32 where they meet an array.
So the same gradients give the same bits on every processor. torch fuses some multiplications with the addition after
them: its last bit may differ.
"""
import math

import numpy as np

from ..common.checks import word

OPTIMIZERS = ("sgd", "momentum", "rmsproptf", "adamw")
MOMENTUM = 0.9  # timm's default


def decays(name: str, parameter: np.ndarray) -> bool:
    """Whether weight decay applies to a parameter; name: timm's."""
    return parameter.ndim > 1 and not name.endswith(".bias")


class Optimizer:
    """Changes parameters in place, step by step.

    parameters: timm's name -> float32 array, those that are trained; the optimizer holds on to the arrays
    weight_decay: for the parameters that `decays` tells
    """

    KINDS: dict[str, float] = {}  # torch's name of each array that the state has for a parameter -> its first value

    def __init__(self, parameters: dict[str, np.ndarray], weight_decay: float = 0.0):
        self.parameters = parameters
        self.weight_decay = float(weight_decay)
        self.state = {f"{name}.{kind}": np.full_like(parameter, first)
                      for name, parameter in parameters.items() for kind, first in self.KINDS.items()}

    def step(self, gradients: dict[str, np.ndarray], lr: float) -> None:
        """Change every parameter once; gradients: name -> float32 array, of which those of other names are ignored."""
        for name, parameter in self.parameters.items():
            weight_decay = self.weight_decay if decays(name, parameter) else 0.0
            arrays = (self.state[f"{name}.{kind}"] for kind in self.KINDS)
            self.update(parameter, gradients[name], float(lr), weight_decay, *arrays)

    def update(self, p: np.ndarray, g: np.ndarray, lr: float, wd: float, *state: np.ndarray) -> None:
        """Change one parameter and its arrays of the state, in the order of KINDS, in place."""
        raise NotImplementedError


class SGD(Optimizer):
    """Stochastic gradient descent with momentum m; Nesterov's variant looks one step ahead.

        g = g + wd p
        v = m v + g
        p = p - lr (g + m v)    Nesterov (Sutskever et al. 2013), timm's "sgd"
        p = p - lr v            classical, timm's "momentum"

    Source: `torch.optim.SGD` with dampening 0.
    """

    KINDS = {"momentum_buffer": 0.0}

    def __init__(self, parameters: dict[str, np.ndarray], weight_decay: float = 0.0, momentum: float = MOMENTUM,
                 nesterov: bool = True):
        super().__init__(parameters, weight_decay)
        self.momentum, self.nesterov = float(momentum), nesterov

    def update(self, p: np.ndarray, g: np.ndarray, lr: float, wd: float, *state: np.ndarray) -> None:
        (v,) = state
        if wd:
            g = g + wd * p
        v *= self.momentum
        v += g
        p -= lr * (g + self.momentum * v if self.nesterov else v)


class RMSpropTF(Optimizer):
    """RMSprop as in TensorFlow 1: s starts at 1, eps is inside the square root, and the momentum contains lr.

        g = g + wd p
        s = s + (1 - alpha) (g^2 - s)
        v = m v + lr g / sqrt(s + eps)
        p = p - v

    Source: timm's `RMSpropTF`, with which EfficientNet is trained (Tan & Le 2019, section 5.2: alpha and m 0.9).
    """

    KINDS = {"square_avg": 1.0, "momentum_buffer": 0.0}
    ALPHA, EPS = 0.9, 1e-10

    def __init__(self, parameters: dict[str, np.ndarray], weight_decay: float = 0.0, momentum: float = MOMENTUM,
                 eps: float = EPS):
        super().__init__(parameters, weight_decay)
        self.momentum, self.eps = float(momentum), float(eps)

    def update(self, p: np.ndarray, g: np.ndarray, lr: float, wd: float, *state: np.ndarray) -> None:
        s, v = state
        if wd:
            g = g + wd * p
        s += (1.0 - self.ALPHA) * (g * g - s)
        v *= self.momentum
        v += lr * g / np.sqrt(s + self.eps)
        p -= v


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2); t counts the steps from 1.

        p = p - lr wd p
        m = m + (1 - b1) (g - m)
        s = b2 s + (1 - b2) g^2
        p = p - lr / (1 - b1^t) m / (sqrt(s) / sqrt(1 - b2^t) + eps)

    Source: `torch.optim.AdamW`. The powers are products that grow with each step: `pow` differs between C libraries.
    """

    KINDS = {"exp_avg": 0.0, "exp_avg_sq": 0.0}
    BETA1, BETA2, EPS = 0.9, 0.999, 1e-8

    def __init__(self, parameters: dict[str, np.ndarray], weight_decay: float = 0.0, eps: float = EPS):
        super().__init__(parameters, weight_decay)
        self.eps = float(eps)
        self.state |= {"beta1_power": np.ones(()), "beta2_power": np.ones(())}  # b1^t and b2^t, float64

    def step(self, gradients: dict[str, np.ndarray], lr: float) -> None:
        self.state["beta1_power"] *= self.BETA1
        self.state["beta2_power"] *= self.BETA2
        super().step(gradients, lr)

    def update(self, p: np.ndarray, g: np.ndarray, lr: float, wd: float, *state: np.ndarray) -> None:
        m, s = state
        step_size = lr / (1.0 - float(self.state["beta1_power"]))
        correction = math.sqrt(1.0 - float(self.state["beta2_power"]))
        if wd:
            p *= 1.0 - lr * wd
        m += (1.0 - self.BETA1) * (g - m)
        s *= self.BETA2
        s += (1.0 - self.BETA2) * (g * g)
        p -= step_size * m / (np.sqrt(s) / correction + self.eps)


def create_optimizer(opt: str, parameters: dict[str, np.ndarray], *, weight_decay: float = 0.0,
                     momentum: float = MOMENTUM, opt_eps: float | None = None) -> Optimizer:
    """Make one of OPTIMIZERS with timm's meaning of `--opt`, `--weight-decay`, `--momentum` and `--opt-eps`.

    parameters: timm's name -> float32 array, those that are trained, which every step changes in place
    momentum: of all but AdamW
    opt_eps: of RMSpropTF and AdamW; None is each one's own

    Raises ArgumentError for another name.
    """
    word("opt", opt, OPTIMIZERS)
    if opt == "rmsproptf":
        return RMSpropTF(parameters, weight_decay, momentum, RMSpropTF.EPS if opt_eps is None else opt_eps)
    if opt == "adamw":
        return AdamW(parameters, weight_decay, AdamW.EPS if opt_eps is None else opt_eps)
    return SGD(parameters, weight_decay, momentum, nesterov=opt == "sgd")
