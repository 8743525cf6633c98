"""Verify the training engine's first step at a small size against the plain network in float64."""
import numpy as np

from ...common.text import counted
from ...engine.training import TrainingEngine
from ...errors import NpefficientError
from ...network.backward import cross_entropy, label_targets
from ...network.training_network import TrainingNetwork
from ...weights.weight_file import read_weights
from ..verify import LOGITS, verify

SHAPE = (4, 64, 80, 3)  # 24 values of each channel even in the last feature map
# In float32, some of a million activations fall on the wrong side of a corner of ReLU6. In deep layers, one of them is
# a noticeable share of a gradient: in lite4, gradients differ from float64 by up to 7 %, in norm. What is wrong in
# principle, such as a missing term of a batch norm, changes some gradient by its own size.
GRADIENTS = 0.1
LEAST = 0.1  # of the median gradient's norm, below which it is this that a difference is a share of: some are 0


def batch_of(shape) -> tuple[np.ndarray, np.ndarray]:
    """Pictures, float32 (N, H, W, 3), and a label for each, int64 (N,); the same in every process."""
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    return x, np.arange(len(x), dtype=np.int64) * 37 % 1000


def check(file: str, threads: list[int]) -> list[float]:
    """The largest difference of a gradient, as `compare` has it, for each number of threads; raises NpefficientError
    for a wrong loss or gradient."""
    weights, (x, labels) = read_weights(file), batch_of(SHAPE)
    network, targets = weights.architecture, label_targets(labels, weights.architecture.num_classes, dtype=np.float64)
    plain = TrainingNetwork(network, weights.parameters, np.float64)
    logits, kept = plain.forward(x.astype(np.float64))
    expected_loss, dlogits = cross_entropy(logits, targets)
    expected, _ = plain.backward(dlogits, kept)
    found = []
    for count in threads:
        what = f"npefficient, {network.variant.short_name}, training, {counted(count, 'thread')}"
        engine = TrainingEngine(network, x.shape, count)
        loss, dlogits = cross_entropy(engine.forward(weights.parameters, x).astype(np.float64), targets)
        verify(f"{what}, loss", loss, expected_loss, LOGITS)
        found.append(compare(what, engine.backward(dlogits), expected))
    return found


def compare(what: str, gradients: dict, expected: dict) -> float:
    """The largest difference of a gradient in norm, as a share of that gradient's norm or of LEAST of the median one;
    raises NpefficientError if one is missing or its difference is above GRADIENTS."""
    if gradients.keys() != expected.keys():
        raise NpefficientError(f"{what}: WRONG RESULT, gradients for other parameters; nothing is timed")
    norms = {name: float(np.linalg.norm(np.ravel(gradient))) for name, gradient in expected.items()}
    least, largest = LEAST * float(np.median(list(norms.values()))), 0.0
    for name, norm in norms.items():
        difference = float(np.linalg.norm(np.ravel(gradients[name] - expected[name]))) / max(norm, least)
        if not difference <= GRADIENTS:  # NaN compares false
            raise NpefficientError(f"{what}: WRONG RESULT, the gradient for {name!r} differs by {difference:.1%} in "
                                   f"norm where {GRADIENTS:.0%} is allowed; nothing is timed")
        largest = max(largest, difference)
    return largest
