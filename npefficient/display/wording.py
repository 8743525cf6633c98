"""Numbers, names and maps in words."""
import numpy as np

from ..common.text import short

UNITS = ((1e9, " G"), (1e6, " M"), (1e3, " k"))


def size(shape) -> str:
    """(224, 224, 3) -> "224 × 224 × 3"."""
    return " × ".join(map(str, shape))


def pixels(shape) -> str:
    """A picture's size, width before height as photographs have it: (rows, columns, ..) -> "640 × 480"."""
    return size((shape[1], shape[0]))


def count(value: int) -> str:
    """12345678 -> "12.3 M"."""
    for unit, letter in UNITS:
        if value >= unit:
            return f"{value / unit:.3g}{letter}" if value < 999.5 * unit else f"{value / unit:,.0f}{letter}"
    return str(value)


def duration(seconds: float) -> str:
    """Milliseconds with three digits; microseconds below 0.1 ms."""
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-4 else f"{seconds * 1e6:.3g} µs"


def percent(share: float) -> str:
    """0.9348 -> "93.5 %"."""
    return f"{share:.1%}".replace("%", " %")


def signed(value: float) -> str:
    """-1.234 -> "−1.23", with a minus sign rather than a hyphen."""
    return f"{value:.2f}".replace("-", "−")


def says(one) -> str:
    """A class's map in words: how its values sum to the logit."""
    return (f"{short(one.label)}, {percent(one.probability)}. The map runs from {signed(one.map.min())} to "
            f"{signed(one.map.max())}; its mean {signed(one.map.mean())} plus the bias {signed(one.bias)} is the logit "
            f"{signed(one.logit)}.")


def where(one) -> str:
    """Where the strongest evidence for a class is, as alternative text of the map."""
    h, w = one.map.shape
    row, column = np.unravel_index(one.map.argmax(), one.map.shape)
    vertical = ("top", "middle", "bottom")[int(3 * (row + 0.5) / h)]
    horizontal = ("left", "centre", "right")[int(3 * (column + 0.5) / w)]
    if one.map.max() <= 0:
        return f"Class activation map of {short(one.label)}: the photo has no evidence for it."
    return f"Class activation map of {short(one.label)}: the strongest evidence is at the {vertical} {horizontal}."


def labels(block: str) -> tuple[str, str]:
    """A block's stage and short name: "blocks.1.0" -> ("Stage 1", "1.0")."""
    alone = {"conv_stem": ("Stem", "stem"), "conv_head": ("Head", "head"), "global_pool": ("Head", "pool"),
             "classifier": ("Head", "classes")}
    number = block.removeprefix("blocks.")
    return alone.get(block) or (f"Stage {number.partition('.')[0]}", number)

