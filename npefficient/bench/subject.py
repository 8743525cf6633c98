"""What is measured: a variant at one size, a file of random weights, an input, and the plain network's logits for it.
"""
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..network.architecture import build
from ..network.parameters import Weights, random_weights
from ..network.quantization import QuantizedWeights, quantize
from ..network.quantized_reference import QuantizedNetwork
from ..network.reference import Network
from ..weights.weight_file import read_weights, write_weights

DISTINCT = 2  # pictures that the plain network computes; a larger batch repeats them


@dataclass(frozen=True)
class Subject:
    """Files in one directory, so that other processes can load them."""

    name: str
    height: int
    width: int
    directory: Path

    @property
    def weights(self) -> Path:
        return self.directory / f"{self.name}.h5"

    def read(self, precision: str) -> Weights | QuantizedWeights:
        """The weights in this precision."""
        weights = read_weights(self.weights)
        return quantize(weights) if precision == "int8" else weights

    @property
    def calibration(self) -> Path:
        """float32 (N, H, W, 3): pictures that the ranges of activations are taken from; only peers in 8 bits need it.
        """
        return self._file("calibration")

    def input(self, batch: int) -> np.ndarray:
        """float32 (batch, H, W, 3)."""
        return self._batch("input", batch)

    def logits(self, batch: int, precision: str = "float32") -> np.ndarray:
        """The plain network's logits for this input: float32 (batch, 1000)."""
        return self._batch(f"{precision}-logits", batch)

    def _batch(self, what: str, batch: int) -> np.ndarray:
        pictures = np.load(self._file(what))
        return np.ascontiguousarray(pictures[np.arange(batch) % len(pictures)])

    def _file(self, what: str) -> Path:
        return self.directory / f"{self.name}-{self.height}x{self.width}-{what}.npy"

    def macs(self) -> int:
        """Multiply-accumulates for one picture."""
        return build(self.name).macs(self.height, self.width)

    @property
    def title(self) -> str:
        return f"{self.name} {self.height}x{self.width}"

    def titled(self, precision: str) -> str:
        """The title of figures in this precision."""
        return self.title if precision == "float32" else f"{self.title} {precision}"


def make_subject(name: str, directory, size: tuple[int, int] | None = None, precisions=("float32",)) -> Subject:
    """Write weights, input and expected logits of one variant, by default at its own size."""
    weights = random_weights(build(name))
    height, width = size or weights.preprocessing.input_size
    x = np.random.default_rng(0).uniform(-1, 1, (DISTINCT, height, width, 3)).astype(np.float32)
    return write_subject(directory, weights, x, precisions)


def write_subject(directory, weights: Weights, x: np.ndarray, precisions=("float32",)) -> Subject:
    """Write these weights, this input (N, H, W, 3) and the logits expected for it."""
    subject = Subject(weights.architecture.variant.short_name, *x.shape[1:3], Path(directory))
    write_weights(subject.weights, weights)
    np.save(subject._file("input"), x)
    for precision in precisions:
        network = (QuantizedNetwork(quantize(weights)) if precision == "int8" else
                   Network(weights.architecture, weights.parameters))
        np.save(subject._file(f"{precision}-logits"), network(x))
    return subject
