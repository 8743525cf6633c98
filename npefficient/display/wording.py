"""Numbers, names and maps in words."""
import numpy as np

from ..common.text import short


def square(side: int) -> str:
    """3 -> "3 × 3"."""
    return f"{side} × {side}"


def pixels(shape) -> str:
    """A picture's size, width before height as photographs have it: (rows, columns, ..) -> "640 × 480"."""
    return f"{shape[1]} × {shape[0]}"


def channels(shape) -> str:
    """A feature map's size, width before height: (rows, columns, channels) -> "56 × 112 × 24"."""
    return f"{pixels(shape)} × {shape[2]}"


def millions(value: int) -> str:
    """12345678 -> "12.35 M"."""
    return f"{value / 1e6:,.2f} M" if value >= 5000 else "< 0.01 M" if value else "0"


def kib(size: int) -> str:
    """Bytes: 5_125_000 -> "5,005 KiB"."""
    return f"{size / 1024:,.0f} KiB" if size >= 512 else "< 1 KiB"


def milliseconds(seconds: float) -> str:
    """0.00766 -> "7.660 ms"."""
    return f"{1e3 * seconds:.3f} ms"


def percent(share: float) -> str:
    """0.9348 -> "93.5 %"; what is less than half of the last digit is not called 0, nor almost everything 100."""
    text = f"{share:.1%}".replace("%", " %")
    return "< 0.1 %" if share > 0 and text == "0.0 %" else "> 99.9 %" if share < 1 and text == "100.0 %" else text


def signed(value: float, digits: int = 2) -> str:
    """-1.234 -> "−1.23", with a minus sign rather than a hyphen, and none before a zero."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def times(ratio: float) -> str:
    """2.345 -> "2.35 times"."""
    return ("more than 1,000 times" if ratio > 1000 else "less than 0.001 times" if ratio < 0.001 else
            f"{ratio:.3g} times")


def says(one) -> str:
    """A class's map in words: how its values sum to the logit."""
    return f"{short(one.label)}, {percent(one.probability)}. {_sum(one, 'the bias', 'the logit')}."


def says_difference(view) -> str:
    """The map of one class minus another one in words: how its values sum to the difference of the logits."""
    one, other = short(view.one.label), short(view.other.label)
    total = _sum(view, "the difference of the biases", "the difference of the logits")
    return f"{one} minus {other}. {total}, so that {one} is {times(view.odds)} as probable as {other}."


def _sum(view, bias: str, logit: str) -> str:
    return (f"The map runs from {signed(view.map.min())} to {signed(view.map.max())}; its mean "
            f"{signed(view.map.mean(), 3)} plus {bias} {signed(view.bias, 3)} is {logit} {signed(view.logit, 3)}")


def compares(occlusion, agreement, what: str) -> str:
    """What occlusion did to the logit, or to the difference of two, and how it compares with the class activation map.
    """
    same = "lies in" if agreement.same else "does not lie in"
    alike = ("The two maps can't be correlated, as one of them is the same all over" if agreement.correlation is None
             else f"Pixel by pixel, the two maps correlate by {signed(agreement.correlation)}")
    return (f"Without one patch, {what} changes by {signed(-occlusion.max())} to {signed(-occlusion.min())}. {alike}; "
            f"the patch that costs most {same} the map's strongest cell.")


def where(one) -> str:
    """Where the strongest evidence for a class is, as alternative text of the map."""
    title = f"Class activation map of {short(one.label)}"
    return (f"{title}: the photo has no evidence for it." if one.map.max() <= 0 else
            f"{title}: the strongest evidence is at the {_place(one.map)}.")


def where_occluded(one) -> str:
    """Which patch a class misses most, as alternative text of the map of occlusion."""
    title = f"Occlusion for {short(one.label)}"
    return (f"{title}: its logit falls without none of the patches." if one.occlusion.max() <= 0 else
            f"{title}: the patch that costs most is at the {_place(one.occlusion)}.")


def _place(values) -> str:
    """The place of the largest value (rows, columns), to a third of each side."""
    rows, columns = values.shape
    row, column = np.unravel_index(values.argmax(), values.shape)
    vertical = ("top", "middle", "bottom")[int(3 * (row + 0.5) / rows)]
    horizontal = ("left", "centre", "right")[int(3 * (column + 0.5) / columns)]
    return f"{vertical} {horizontal}"


def labels(block: str) -> tuple[str, str]:
    """A block's stage and short name: "blocks.1.0" -> ("Stage 1", "1.0")."""
    alone = {"conv_stem": ("Stem", "stem"), "conv_head": ("Head", "head"), "global_pool": ("Head", "pool"),
             "classifier": ("Head", "classes")}
    number = block.removeprefix("blocks.")
    return alone.get(block) or (f"Stage {number.partition('.')[0]}", number)

