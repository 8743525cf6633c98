"""An activation's place in an arena, and copying it out of and into its blocks of channels."""
from dataclasses import dataclass

import numpy as np

from ..kernels.layout import FLOAT, RELU6_STEP, Layout
from ..kernels.memory import blocks, read_blocks, write_blocks


@dataclass(frozen=True, kw_only=True)
class Activation:
    """One activation of a plan."""

    layout: Layout
    item: int  # bytes of a value: floats, or integers in steps of 6 / 255
    offset: int  # bytes
    height: int
    width: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels

    def read(self, arena: np.ndarray, out: np.ndarray) -> None:
        """Copy it to `out`, float32 (H, W, C)."""
        read_blocks(self._blocks(arena), out)
        if self.item != FLOAT:
            out *= np.float32(RELU6_STEP)

    def write(self, arena: np.ndarray, x: np.ndarray) -> None:
        """Copy x, float32 (H, W, C), into the arena; unused lanes are not written."""
        if self.item != FLOAT:
            x = np.rint(np.clip(x / np.float32(RELU6_STEP), 0, 255))
        write_blocks(self._blocks(arena), x)

    def _blocks(self, arena):
        return blocks(arena[self.offset :], self.layout, *self.shape, self.item)
