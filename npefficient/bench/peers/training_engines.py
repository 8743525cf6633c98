"""A training step of each engine: (file, x, labels, threads) -> step.

x is float32 (N, H, W, 3), labels int64 (N,). `step()` does a forward pass in training mode, a backward pass and a step
of SGD with momentum, all in float32, on exactly `threads` threads. It returns the batch's mean cross-entropy from
before that step. Every step has the same batch.
"""
import numpy as np

from .engines import channels_last, timm_model

RATE, MOMENTUM = 1e-4, 0.9  # a rate at which one step changes the loss by far more than roundings do


def npefficient(file: str, x: np.ndarray, labels: np.ndarray, threads: int):
    from ...engine.training import TrainingEngine
    from ...network.backward import cross_entropy, label_targets
    from ...network.parameters import TRACKED
    from ...training.optimizers import create_optimizer
    from ...weights.weight_file import read_weights

    weights = read_weights(file)
    parameters = {name: array.copy() for name, array in weights.parameters.items()}
    trained = {name: array for name, array in parameters.items()
               if not name.endswith(("running_mean", "running_var", TRACKED))}
    optimizer = create_optimizer("momentum", trained, momentum=MOMENTUM)
    engine = TrainingEngine(weights.architecture, x.shape, threads)
    targets = label_targets(labels, weights.architecture.num_classes)

    def step() -> float:
        loss, dlogits = cross_entropy(engine.forward(parameters, x), targets)
        optimizer.step(engine.backward(dlogits), RATE)
        parameters.update(engine.running)
        return float(loss)

    return step


def torch_eager(file: str, x: np.ndarray, labels: np.ndarray, threads: int):
    torch, model = timm_model(file, threads)

    def loss(x, labels):
        return torch.nn.functional.cross_entropy(model(x), labels)

    return _torch_step(torch, model, loss, x, labels)


def torch_compile(file: str, x: np.ndarray, labels: np.ndarray, threads: int):
    torch, model = timm_model(file, threads)

    @torch.compile
    def loss(x, labels):
        return torch.nn.functional.cross_entropy(model(x), labels)

    return _torch_step(torch, model, loss, x, labels)


def _torch_step(torch, model, loss_of, x, labels):
    x, labels = channels_last(x), torch.from_numpy(labels)
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM)

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(x, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
