"""The arrays of a network of three layers, small enough for many steps: convolution, batch norm, fully connected."""
import numpy as np
from live import torch

SHAPES = {"conv.weight": (4, 3, 3, 3), "bn.weight": (4,), "bn.bias": (4,), "fc.weight": (5, 4), "fc.bias": (5,)}


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """The parameters, float32, seeded."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def gradients(parameters: dict[str, np.ndarray], steps: int, seed: int = 1) -> list[dict[str, np.ndarray]]:
    """One mapping of gradients for each step, from small ones to large ones."""
    rng = np.random.default_rng(seed)
    return [{name: (rng.normal(size=array.shape) * 10.0 ** rng.uniform(-3, 1)).astype(np.float32)
             for name, array in parameters.items()} for _ in range(steps)]


def module(seed: int = 0):
    """A torch module with the same names and values."""
    made = torch.nn.ModuleDict({"conv": torch.nn.Conv2d(3, 4, 3, bias=False), "bn": torch.nn.BatchNorm2d(4),
                                "fc": torch.nn.Linear(4, 5)})
    made.load_state_dict({name: torch.from_numpy(array) for name, array in arrays(seed).items()}, strict=False)
    return made


def parameters(made) -> dict[str, np.ndarray]:
    """Copies of a module's parameters."""
    return {name: parameter.detach().numpy().copy() for name, parameter in made.named_parameters()}


def state(made) -> dict[str, np.ndarray]:
    """Copies of all arrays of a module's state_dict."""
    return {name: tensor.numpy().copy() for name, tensor in made.state_dict().items()}
