"""The files of a training run, beside its output OUT.h5.

    OUT.h5                 the best weights so far, those with the highest accuracy on the validation part
    OUT-last.h5            the weights after the last epoch
    OUT.csv                a line for each epoch
    OUT-curves.png         the same as curves, and
    OUT-confusion.png      the confusion matrix of the best weights, both with matplotlib alone
    .OUT.h5.state.npz      what a resumed run needs; it is deleted when the run has ended

The state is NumPy's format without pickles, in a zip with checksums: arrays of the learner, the place in the run, the
lines of the table, and the settings as JSON. Each file but the table is replaced as a whole: after a crash there is the
old one or the new one. The table is locked while a run writes it, so that no other run has the same output.
"""
import csv
import io
import json
import os
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..common.paths import StrPath, check_target, replacing
from ..errors import ArgumentError, WeightsError
from ..jobs.output.journal import Journal
from ..jobs.output.own_file import open_own
from ..jobs.output.settings import check_settings
from ..weights.weight_file import weight_target

ANEW = "begin anew with --force (force=True)"


@dataclass(frozen=True)
class Epoch:
    """A line of the table."""

    epoch: int  # from 1
    lr: float
    train_loss: float  # mean over the epoch's batches, with smoothing and mixup
    val_loss: float  # mean cross-entropy over the photos of the validation part
    val_top1: float  # share of them whose most probable class is the right one
    val_photos: int  # their number, without those that can't be read
    images_per_second: float  # in training, without validation

    @property
    def rank(self) -> tuple[float, float]:
        """The best epoch has the largest."""
        return self.val_top1, -self.val_loss


def best(epochs: list[Epoch]) -> Epoch:
    """The best one; of equals, the first."""
    return max(epochs, key=lambda epoch: epoch.rank)


@dataclass
class Place:
    """How far a run is."""

    epoch: int = 0  # epochs that are over
    batch: int = 0  # batches of the next one that are over
    updates: int = 0  # of the whole run
    loss: float = 0.0  # sum of the losses of these batches

    def __str__(self) -> str:
        if self.batch:
            return f"after batch {self.batch} of epoch {self.epoch + 1}"
        return f"after epoch {self.epoch}" if self.epoch else "at its start"


@dataclass(frozen=True)
class State:
    """What was saved."""

    arrays: dict[str, np.ndarray]  # of the learner
    place: Place
    epochs: list[Epoch]


class RunFiles:
    """The files of one run. A context manager: leaving it lets other runs have them."""

    def __init__(self, output: StrPath, settings: dict, *, resume: bool):
        """Take the files, as `check_run_files` has allowed it. Raises ArgumentError while another run has them."""
        self.settings = json.loads(json.dumps(settings))
        self.best, self.last, self.table, self.curves, self.confusion, self.state = paths(output)
        self._journal = Journal(self.table)
        if not resume:
            self.state.unlink(missing_ok=True)
            self.write_table([])

    def __enter__(self) -> "RunFiles":
        return self

    def __exit__(self, *error: Any) -> None:
        self._journal.close()

    def write_table(self, epochs: list[Epoch]) -> None:
        """Write the whole table anew."""
        self._journal.clear()
        self._journal.add(_line([field.name for field in fields(Epoch)]))
        for epoch in epochs:
            self.add_line(epoch)

    def add_line(self, epoch: Epoch) -> None:
        self._journal.add(_line(astuple(epoch)))
        self._journal.sync()

    def save(self, state: State) -> None:
        """Write the state; the one before is kept where that fails, with an OSError that names the file."""
        arrays = {f"learner/{name}": array for name, array in state.arrays.items()}
        arrays["place"] = np.array(list(vars(state.place).values()), np.float64)
        rows = [astuple(epoch) for epoch in state.epochs]
        arrays["epochs"] = np.array(rows, np.float64).reshape(-1, len(fields(Epoch)))
        arrays["settings"] = np.frombuffer(json.dumps(self.settings).encode(), np.uint8)
        with replacing(self.state, force=True) as part, open(part, "wb") as file:
            np.savez(file, **arrays)

    def load(self) -> State:
        """Read the state. Raises ArgumentError for one of other settings, WeightsError for a damaged file."""
        with open_own(self.state) as file:
            try:
                with np.load(file, allow_pickle=False) as stored:
                    arrays = dict(stored)
                settings = json.loads(arrays.pop("settings").tobytes())
                epoch, batch, updates, loss = arrays.pop("place").tolist()
                place = Place(int(epoch), int(batch), int(updates), loss)
                epochs = [Epoch(int(first), *rest, int(count), speed)
                          for first, *rest, count, speed in arrays.pop("epochs").tolist()]
                learner = {name.removeprefix("learner/"): array for name, array in arrays.items()}
            except Exception as problem:  # a broken zip or array raises a dozen different classes
                raise WeightsError(f"{str(self.state)!r} is damaged ({type(problem).__name__}: {problem}), and the run "
                                   f"can't be resumed; {ANEW}, from the weights in {str(self.last)!r} if it is there"
                                   ) from problem
        check_settings(self.best, settings, self.settings)
        return State(learner, place, epochs)

    def finish(self) -> None:
        """Delete what only a resumed run needs."""
        self.state.unlink()


def paths(output: StrPath) -> tuple[Path, Path, Path, Path, Path, Path]:
    """The best weights, the last ones, the table, two pictures and the state. Raises ArgumentError for another suffix.
    """
    path = weight_target(output)
    return (path, path.with_name(f"{path.stem}-last{path.suffix}"), path.with_suffix(".csv"),
            path.with_name(f"{path.stem}-curves.png"), path.with_name(f"{path.stem}-confusion.png"),
            path.with_name(f".{path.name}.state.npz"))


def check_run_files(output: StrPath, *, resume: bool, force: bool) -> None:
    """Raise ArgumentError if a run can't have its files: to be called before any work.

    There may be none yet, unless `resume` goes on with the run that they are of, or `force` begins anew.
    """
    if resume and force:
        raise ArgumentError("resume and force: go on with the run that is there, or begin anew")
    path, *_, state = every = paths(output)
    for other in every:
        check_target(other, force=True)
    if resume and not os.path.lexists(state):
        has = "it has ended" if os.path.lexists(path) else "none was begun"
        raise ArgumentError(f"{str(path)!r}: there is no run to resume, since {str(state)!r} is missing ({has}); leave "
                            "out --resume")
    there = next((other for other in every if os.path.lexists(other)), None)
    if there and not (resume or force):
        raise ArgumentError(f"{str(there)!r} exists already: continue with --resume, start again with --force, or name "
                            "another file")


def _line(values: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue().encode()
