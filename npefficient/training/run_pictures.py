"""The pictures of a training run, drawn with matplotlib: curves over the epochs, and the confusion matrix."""
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..common.paths import replacing
from ..common.picture_files import check_matplotlib, drawing
from ..common.text import listed
from ..errors import ArgumentError
from ..jobs.finetune.confusion_picture import draw_confusion
from .run_files import Epoch, RunFiles, best

TRAINING, VALIDATION = "#1b6ca8", "#d95f02"


def draw(files: RunFiles, epochs: list[Epoch], confusion: np.ndarray, labels: tuple[str, ...],
         say: Callable[[str], None]) -> tuple[Path, ...]:
    """Draw both beside the table, in place of those that are there, and return their paths.

    Where matplotlib can't be imported, there are none.

    confusion: as for `draw_confusion`, of the best weights
    say: called with what the pictures lack
    """
    try:
        check_matplotlib("plot")
    except ArgumentError as problem:
        say(f"no curves and no confusion matrix: {problem}")
        return ()
    draw_curves(epochs, files.curves)
    escaped = draw_confusion(confusion, labels, files.confusion, force=True)
    if escaped:
        say(f"warning: {files.confusion.name} has escapes for letters that no installed font has, in {listed(escaped)}")
    return files.curves, files.confusion


@drawing("plot")
def draw_curves(epochs: list[Epoch], path: Path) -> None:
    """Write a picture of the losses and the accuracy after each epoch."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, accuracy = figure.subplots(1, 2)
    numbers, top = [epoch.epoch for epoch in epochs], best(epochs)
    for values, colour, label in (([epoch.train_loss for epoch in epochs], TRAINING, "training"),
                                  ([epoch.val_loss for epoch in epochs], VALIDATION, "validation")):
        losses.plot(numbers, values, ".-", color=colour, label=label)
    losses.set(xlabel="epoch", ylabel="loss", title="Loss")
    losses.legend(frameon=False)
    accuracy.plot(numbers, [epoch.val_top1 for epoch in epochs], ".-", color=VALIDATION)
    accuracy.plot(top.epoch, top.val_top1, "o", color=VALIDATION, markersize=9, fillstyle="none")
    accuracy.set(xlabel="epoch", ylabel="top-1 on the validation part",
                 title=f"Best: {top.val_top1:.2%} after epoch {top.epoch}")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (losses, accuracy):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    with replacing(path, force=True) as part:
        figure.savefig(part, format="png", dpi=150)
