"""How compiled code cuts pixels into tiles, and channels into panels."""
import functools

from .lanes import arithmetic
from .layout import Layout, tile_pixels

largest_tile = arithmetic(tile_pixels)


@arithmetic
def cut(left, largest):
    """Cut `left` > 0 pixels into as few tiles as possible, as equal as possible: (size, number of tiles of that size).

    Sizes differ by at most 1, and these are the smaller ones. A second call, for the rest, gives the larger ones.
    """
    count = (left + largest - 1) // largest
    size = left // count
    return size, count - (left - count * size)


@functools.cache
def make_panel_at(layout: Layout):
    """The function `panel_at` for one layout."""
    widest = layout.panel

    @arithmetic
    def panel_at(panel, wide_panels, vectors):
        """(first vector, vectors) of a panel: `widest` in each wide one, then 2 each, or one at the end."""
        first = widest * min(panel, wide_panels) + 2 * max(panel - wide_panels, 0)
        return first, min(widest if panel < wide_panels else 2, vectors - first)

    return panel_at
