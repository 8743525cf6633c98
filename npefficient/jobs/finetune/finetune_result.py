"""The result of fine-tuning."""
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...common.text import counted, plain
from ...network.parameters import Weights
from ..accuracy import describe, wilson_interval
from .linear_classifier import Trial

if TYPE_CHECKING:
    from ...model.model import Model


@dataclass(frozen=True)
class FinetuneResult:
    """A network with classes of your own, and how well it does on the photos that it was not fitted to."""

    weights: Weights  # what is written: the base network with the new classifier and labels
    labels: tuple[str, ...]
    photos: list[Path]  # those that could be read
    classes: np.ndarray  # int64 (photos,): the class of each, an index of labels
    validation: np.ndarray  # bool (photos,): the part that the measured classifier was not fitted to
    predictions: np.ndarray  # int64 (photos in the validation part,): the classes that it predicts for them
    confusion: np.ndarray  # int64 (classes, classes): their counts, a row for each right class
    trials: list[Trial]  # the penalties tried
    penalty: float  # the best of them, see `linear_classifier.fit`
    refit: bool  # whether `weights` are fitted to the validation part, too
    precision: str  # in which the classifier was fitted and measured, and should be used
    bad: list[tuple[Path, str]]  # photos that could not be read, and why
    computed: int  # photos that went through the network; the embeddings of the others were cached
    warnings: list[str]

    def __repr__(self) -> str:
        return (f"FinetuneResult({counted(len(self.labels), 'class')}, {counted(len(self.photos), 'photo')}, accuracy "
                f"{describe(self.correct, self.measured)})")

    def _repr_html_(self) -> str:
        from ...display.notebook import finetune_html

        return finetune_html(self)

    @property
    def correct(self) -> int:
        return int(self.confusion.trace())

    @property
    def measured(self) -> int:
        """Photos in the validation part."""
        return len(self.predictions)

    @property
    def accuracy(self) -> float:
        """The share of right answers on the validation part."""
        return self.correct / self.measured

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy (`accuracy.wilson_interval`)."""
        return wilson_interval(self.correct, self.measured)

    def per_class(self) -> list[dict]:
        """For each class: label, photos it was fitted to, photos measured, right answers, their share."""
        total = np.bincount(self.classes, minlength=len(self.labels))
        measured, right = self.confusion.sum(axis=1), np.diagonal(self.confusion)
        return [{"label": label, "train": int(n - m), "val": int(m), "correct": int(r), "accuracy": r / m}
                for label, n, m, r in zip(self.labels, total, measured, right)]

    def model(self, num_threads: int | None = None) -> "Model":
        """The network, ready to run."""
        from ...model.model import Model

        return Model(self.weights, num_threads=num_threads, precision=self.precision)

    def figures(self) -> dict:
        """All of it except the weights, as a dictionary for JSON."""
        return {
            "source": self.weights.source.name, "model": self.weights.architecture.name, "photos": len(self.photos),
            "train": len(self.photos) - self.measured, "val": self.measured, "correct": self.correct,
            "accuracy": self.accuracy, "interval": list(self.interval), "penalty": self.penalty, "refit": self.refit,
            "precision": self.precision, "trials": [vars(trial) for trial in self.trials], "classes": self.per_class(),
            "confusion": self.confusion.tolist(), "computed": self.computed, "warnings": self.warnings,
            "unreadable": [{"photo": plain(photo), "error": plain(error)} for photo, error in self.bad]}
