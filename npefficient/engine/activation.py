"""Where an activation lies in an arena, and how it gets out of its blocks of channels and in."""
from dataclasses import dataclass

import numpy as np

from ..kernels.layout import LANES, vectors


@dataclass(frozen=True)
class Activation:
    """One activation of a plan (`kernels/layout.py` has the layout)."""

    offset: int  # bytes
    plane: int  # bytes from one block of channels to the next
    height: int
    width: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels

    def read(self, arena: np.ndarray, out: np.ndarray) -> None:
        """Copy it to `out`, float32 (H, W, C)."""
        for inside, outside in self._parts(arena, out):
            outside[:] = inside

    def write(self, arena: np.ndarray, x: np.ndarray) -> None:
        """Put x, float32 (H, W, C), there; lanes without a channel stay as they are."""
        for inside, outside in self._parts(arena, x):
            inside[:] = outside

    def _parts(self, arena, array):
        """Pairs of views, of the same shape, of the arena and the array: all whole blocks, then the rest."""
        count, whole = vectors(self.channels), self.channels // LANES
        blocks = arena[self.offset : self.offset + count * self.plane].view(np.float32).reshape(count, -1)
        blocks = blocks[:, : self.height * self.width * LANES].reshape(count, self.height, self.width, LANES)
        blocks = blocks.transpose(1, 2, 0, 3)
        split = whole * LANES
        yield blocks[:, :, :whole], array[..., :split].reshape(self.height, self.width, whole, LANES)
        if split < self.channels:
            yield blocks[:, :, whole, : self.channels - split], array[..., split:]


def of_layer(layer, offset: int, plane: int) -> Activation:
    """The output of a layer (`architecture.LayerShape`) at an offset in the arena."""
    return Activation(offset, plane, layer.out_height, layer.out_width, layer.out_channels)
