"""The files of a training run, beside its output OUT.h5.

    OUT.h5                 the best weights so far, those with the highest accuracy on the validation part
    OUT-last.h5            the weights after the last epoch
    OUT.csv                a line for each epoch
    OUT-curves.png         the same as curves, and
    OUT-confusion.png      the confusion matrix of the best weights, both with matplotlib alone
    .OUT.h5.state.npz      what a resumed run needs; it is deleted when the run has ended

The state is NumPy's format without pickles, in a zip with checksums: arrays of the learner, the place in the run, the
lines of the table, the fingerprint of the best weights, and the settings as JSON. Each file but the table is replaced
as a whole: after a crash there is the old one or the new one. The table is locked while a run writes it, so that no
other run has the same output.
"""
import csv
import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..common.paths import StrPath, check_target, is_same, replacing
from ..common.text import counted, short
from ..errors import ArgumentError, NpefficientError, WeightsError
from ..jobs.output.journal import Journal
from ..jobs.output.own_file import open_own
from ..jobs.output.settings import check_settings
from ..weights.weight_file import weight_target

ANEW = "begin anew with --force (force=True)"
MOST = 1 << 24  # bytes of a state beside the learner's arrays: settings, a line for each epoch, and headers


@dataclass(frozen=True)
class Epoch:
    """A line of the table."""

    epoch: int  # from 1
    lr: float
    train_loss: float  # mean over the epoch's batches, with smoothing and mixup
    val_loss: float  # mean cross-entropy over the photos of the validation part
    val_top1: float  # share of them whose most probable class is the right one
    val_photos: int  # their number, without those that can't be read
    images_per_second: float  # in training, without validation; NaN if it was resumed after the epoch's last batch

    @property
    def rank(self) -> tuple[float, float]:
        """The best epoch has the largest."""
        return self.val_top1, -self.val_loss

    @property
    def possible(self) -> bool:
        """False where a run can't have these figures."""
        finite = math.isfinite(self.lr + self.train_loss + self.val_loss)
        return finite and 0 <= self.val_top1 <= 1 and self.val_photos > 0


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
    best_sha256: str  # fingerprint of the best weights so far; empty before the first epoch is over


class RunFiles:
    """The files of one run. A context manager: leaving it lets other runs have them."""

    def __init__(self, output: StrPath, settings: dict, *, resume: bool):
        """Take the files, as `check_run_files` has allowed it. Raises ArgumentError while another run has them."""
        self.settings = json.loads(json.dumps(settings))
        self.best, self.last, self.table, self.curves, self.confusion, self.state = paths(output)
        self._journal = Journal(self.table)
        self.begun = resume  # there is a state
        if not resume:
            try:
                self.state.unlink(missing_ok=True)
                self.write_table([])
            except BaseException:
                self.__exit__()
                raise

    def __enter__(self) -> "RunFiles":
        return self

    def __exit__(self, *error: Any) -> None:
        self._journal.close()
        if not self.begun:  # and nothing to resume
            self.table.unlink(missing_ok=True)

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
        arrays["best_sha256"] = np.frombuffer(bytes.fromhex(state.best_sha256), np.uint8)
        arrays["settings"] = np.frombuffer(json.dumps(self.settings).encode(), np.uint8)
        with replacing(self.state, force=True) as part, open(part, "wb") as file:
            np.savez(file, **arrays)
        self.begun = True

    def load(self, learner: Mapping[str, np.ndarray]) -> State:
        """Read the state of a run whose learner has arrays like these.

        Raises ArgumentError for one of other settings, WeightsError for a damaged file; no more is read than a state of
        this learner can have.
        """
        with open_own(self.state) as file:
            try:
                sizes = {info.filename: info.file_size for info in zipfile.ZipFile(file).infolist()}
                with np.load(file, allow_pickle=False) as stored:
                    if sizes["settings.npy"] > MOST:
                        raise ValueError(f"settings of {sizes['settings.npy']:,} bytes")
                    settings = dict(json.loads(stored["settings"].tobytes()))
                    check_settings(self.best, settings, self.settings)
                    if sum(sizes.values()) > MOST + sum(array.nbytes for array in learner.values()):
                        raise ValueError(f"{sum(sizes.values()):,} bytes")
                    arrays = dict(stored)
                epoch, batch, updates, loss = _numbers(arrays.pop("place"), (4,))
                epochs = [Epoch(int(first), *rest, int(count), speed)
                          for first, *rest, count, speed in _numbers(arrays.pop("epochs"), (-1, len(fields(Epoch))))]
                best_sha256 = arrays.pop("best_sha256").tobytes()
                del arrays["settings"]
                place = Place(int(epoch), int(batch), int(updates), loss)
                if (place.epoch, place.batch, place.updates) != (epoch, batch, updates) or not math.isfinite(loss):
                    raise ValueError(f"place {[epoch, batch, updates, loss]}")
                for number, line in enumerate(epochs, 1):
                    if line.epoch != number or not line.possible:
                        raise ValueError(f"epoch {number}: {line}")
                if len(best_sha256) != 32 * bool(epochs):
                    raise ValueError(f"best_sha256 of {len(best_sha256)} bytes after {counted(len(epochs), 'epoch')}")
                return State({name.removeprefix("learner/"): array for name, array in arrays.items()}, place, epochs,
                             best_sha256.hex())
            except NpefficientError:
                raise
            except Exception as problem:  # a broken zip or array raises a dozen different classes
                raise self.damaged(f"{type(problem).__name__}: {problem}") from problem

    def damaged(self, why: str) -> WeightsError:
        return WeightsError(f"{str(self.state)!r} is damaged ({short(why)}), and the run can't be resumed; {ANEW}, "
                            f"from the weights in {str(self.last)!r} if it is there")

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


def check_run_files(output: StrPath, start: Any, *, resume: bool, force: bool) -> bool:
    """Raise ArgumentError if a run can't have its files: to be called before any work.

    There may be none yet, unless `resume` goes on with the run that they are of, or `force` begins anew. The file that
    it starts from, if `start` is one, can't be one of them. Returns True if there is a run to go on with.
    """
    if resume and force:
        raise ArgumentError("resume and force: go on with the run that is there, or begin anew")
    *_, state = every = paths(output)
    for other in every:
        check_target(other, force=True)
        if isinstance(start, (str, os.PathLike)) and is_same(other, start):
            raise ArgumentError(f"{str(other)!r} is what the run starts from, and it would be overwritten: a resumed "
                                "run needs it as it is; name another file to write")
    begun = os.path.lexists(state)
    there = next((other for other in every if os.path.lexists(other)), None)
    if there and not force and not (begun and resume):
        found = "continue with --resume, " if begun else f"its run has ended ({str(state)!r} is missing); " * resume
        raise ArgumentError(f"{str(there)!r} exists already: {found}start again with --force, or name another file")
    return begun and resume


def _numbers(array: np.ndarray, shape: tuple[int, ...]) -> list:
    """The numbers of a float64 array with this shape, as lists; raises ValueError for another one."""
    if array.dtype != np.float64:
        raise ValueError(f"numbers of dtype {array.dtype}")
    return array.reshape(shape).tolist()


def _line(values: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue().encode()
