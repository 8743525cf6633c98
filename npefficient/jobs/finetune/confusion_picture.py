"""Draw a confusion matrix with matplotlib, straight into a file, without a window or the user's settings."""
import contextlib
from pathlib import Path

import numpy as np

from ...common.paths import replacing
from ...common.picture_files import check_picture, drawing

MANY = 100  # classes up to which every row is labelled; above, one in several
COUNTED = 2000  # non-zero cells up to which each shows its count: drawing a number takes some milliseconds
LONGEST = 28  # characters of a name


def draw_confusion(confusion: np.ndarray, labels, path, *, force: bool = False) -> list[str]:
    """Write the picture of a confusion matrix: a row for each right class, a column for each answer.

    Characters that matplotlib's font lacks are drawn in other installed fonts, and as escapes where no font has them.
    Returns the labels with characters that no font has.

    confusion: int (classes, classes). The colour of a cell is its share of its row, so that classes with few photos
    look like those with many. Raises ArgumentError for a suffix that is not a picture's, where matplotlib
    can't be imported, and where `path` exists and `force` is not set.
    """
    kind = check_picture(path)
    with drawing("finetune"):
        fonts, lacking = _fonts({letter for label in labels for letter in label})
        escapes = {ord(letter): letter.encode("unicode_escape").decode() for letter in lacking}
        figure = _figure(confusion, [_shortened(label.translate(escapes)) for label in labels], fonts)
        with replacing(Path(path), force=force) as part:
            figure.savefig(part, format=kind, dpi=150, bbox_inches="tight")
    return [label for label in labels if not lacking.isdisjoint(label)]


def _fonts(letters: set[str]) -> tuple[list[str], set[str]]:
    """(names of fonts that together have these characters, the default one first; characters that no font has)."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

    usual = FontProperties()
    names, lacking = [usual.get_name()], letters - set(map(chr, get_font(findfont(usual)).get_charmap()))
    for font in fontManager.ttflist:
        if not lacking:
            break
        if font.style != "normal" or font.weight != 400 or font.name.startswith("Last Resort"):  # it has only boxes
            continue
        with contextlib.suppress(OSError, RuntimeError):  # a damaged font of the system's
            found = {letter for letter in lacking if ord(letter) in get_font(font.fname).get_charmap()}
            names, lacking = names + [font.name] * bool(found), lacking - found
    return names, lacking


def _figure(confusion: np.ndarray, labels: list[str], fonts=None):
    from matplotlib.figure import Figure

    classes, photos = len(labels), confusion.sum(axis=1, keepdims=True)
    side = min(max(0.32 * classes, 2.5), 24.0)  # inches
    ticks = np.arange(0, classes, -(-classes // MANY))
    size = min(72 * 0.6 * side / len(ticks), 10.0)  # of letters, in points
    figure = Figure(figsize=(side + 2, side + 2))
    axes = figure.add_subplot()
    image = axes.imshow(confusion / np.maximum(photos, 1), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    for set_ticks, turned in ((axes.set_xticks, 90), (axes.set_yticks, 0)):
        set_ticks(ticks, [labels[i] for i in ticks], rotation=turned, fontsize=size, fontfamily=fonts, parse_math=False)
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
