"""An activation's place in an arena, and copying it out of and into its blocks of channels."""
from dataclasses import dataclass

import numpy as np

from ..kernels.layout import Layout
from ..kernels.memory import blocks, read_blocks, write_blocks


@dataclass(frozen=True, kw_only=True)
class Activation:
    """One activation of a plan."""

    layout: Layout
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

    def write(self, arena: np.ndarray, x: np.ndarray) -> None:
        """Copy x, float32 (H, W, C), into the arena; unused lanes are not written."""
        write_blocks(self._blocks(arena), x)

    def _blocks(self, arena):
        return blocks(arena[self.offset :], self.layout, *self.shape)


def of_layer(layer, layout: Layout, offset: int) -> Activation:
    """The output of a layer (`architecture.LayerShape`) at an offset in the arena."""
    return Activation(layout=layout, offset=offset, height=layer.out_height, width=layer.out_width,
                      channels=layer.out_channels)
