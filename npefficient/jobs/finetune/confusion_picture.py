"""Draw a confusion matrix with matplotlib, straight into a file: no window, no state of matplotlib's is touched."""
import os
import warnings
from pathlib import Path

import numpy as np

from ...common.paths import replacing
from ...errors import ArgumentError

MANY = 100  # classes up to which every row has its name; above, one in several
COUNTED = 2000  # cells that are not zero, up to which each shows its count: drawing a number takes some milliseconds
LONGEST = 28  # characters of a name


def check_picture(path) -> None:
    """Raise ArgumentError unless matplotlib can be imported and can write a picture of this name."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ModuleNotFoundError as missing:
        raise ArgumentError(f"drawing the confusion matrix needs matplotlib ({missing}): "
                            'python -m pip install "npefficient[finetune]"') from missing
    kinds = FigureCanvasAgg.get_supported_filetypes()
    if _kind(path) not in kinds:
        raise ArgumentError(f"picture {str(path)!r}: its name must end in .{', .'.join(sorted(kinds))}")


def draw_confusion(confusion: np.ndarray, labels, path, *, force: bool = False) -> list[str]:
    """Write the picture of a confusion matrix: a row for each right class, a column for each answer.

    Returns the labels with letters that the font lacks, which are shown as boxes: no font has every script.

    confusion: int (classes, classes). The colour of a cell is its share of its row, so that classes with few photos
    look like those with many. Raises ArgumentError as `check_picture` does, and where `path` exists and `force` is not
    set.
    """
    check_picture(path)
    figure = _figure(confusion, [_shortened(label) for label in labels])
    with replacing(Path(path), force=force) as part, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the caller is told
        figure.savefig(part, format=_kind(path), dpi=150, bbox_inches="tight")
    return _boxed(labels)


def _boxed(labels) -> list[str]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    letters = get_font(findfont(FontProperties())).get_charmap()
    return [label for label in labels if any(ord(letter) not in letters for letter in label)]


def _figure(confusion: np.ndarray, labels: list[str]):
    from matplotlib.figure import Figure

    classes, photos = len(labels), confusion.sum(axis=1, keepdims=True)
    side = min(max(0.32 * classes, 2.5), 24.0)  # inches
    ticks = np.arange(0, classes, -(-classes // MANY))
    size = min(72 * 0.6 * side / len(ticks), 10.0)  # of letters, in points
    figure = Figure(figsize=(side + 2, side + 2))
    axes = figure.add_subplot()
    image = axes.imshow(confusion / np.maximum(photos, 1), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    for set_ticks, turned in ((axes.set_xticks, 90), (axes.set_yticks, 0)):
        set_ticks(ticks, [labels[i] for i in ticks], rotation=turned, fontsize=size, parse_math=False)
    axes.set_xlabel("answer of the network")
    axes.set_ylabel("class of the photo")
    right, total = int(confusion.trace()), int(confusion.sum())
    axes.set_title(f"{right:,} of {total:,} right", fontsize=12)
    if classes <= MANY and np.count_nonzero(confusion) <= COUNTED:
        for row, column in np.argwhere(confusion):
            dark = confusion[row, column] > photos[row, 0] / 2
            axes.text(column, row, f"{confusion[row, column]}", ha="center", va="center", fontsize=0.8 * size,
                      color="white" if dark else "black")
    bar = figure.colorbar(image, ax=axes, fraction=0.3 / side, aspect=max(20.0, side / 0.2), pad=0.2 / side)
    bar.set_label("share of the class")
    return figure


def _shortened(label: str) -> str:
    return label if len(label) <= LONGEST else f"{label[:LONGEST - 1]}…"


def _kind(path) -> str:
    return os.path.splitext(path)[1].lower().removeprefix(".")
