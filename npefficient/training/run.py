"""Train a network on photos: epochs of updates, a validation after each, and a state from which a run can go on.

    read_dataset ── TrainingLoader ── Learner ── every epoch: ValidationLoader ──► OUT.h5, OUT-last.h5, OUT.csv

A batch depends on the seed, the epoch and its number alone, and all else that an update depends on is in the state. So
a run that is resumed ends with the bits of one that nothing has disturbed.
"""
import contextlib
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from ..common.progress import Progress
from ..common.text import counted, plain
from ..errors import ArgumentError
from ..jobs.accuracy import confusion_matrix
from ..jobs.photo_marks import photo_marks
from ..model.model import Model
from ..network.backward import label_targets
from ..network.parameters import Source, Weights, fingerprint
from ..weights.weight_file import read_weights, write_weights
from .accumulation import parts_of_updates
from .learner import DivergedError, Learner
from .loader import TrainingLoader, ValidationLoader
from .losses import cross_entropy
from .recipes import Recipe
from .run_files import ANEW, Epoch, Place, RunFiles, State, best

SAVE = 300.0  # seconds after which the state is saved within an epoch


class Shown(Progress):
    """Progress with the loss of the last update."""

    loss = ""

    def text(self) -> str:
        return super().text() + self.loss


class Run:
    """A run in progress.

    base: what it started from, whose architecture, preprocessing, labels and name the files get
    folder: name of the folder of photos
    """

    def __init__(self, base: Weights, folder: str, recipe: Recipe, learner: Learner, loader: TrainingLoader,
                 validation: ValidationLoader, files: RunFiles, say: Callable[[str], None]):
        self.base, self.folder, self.recipe, self.learner, self.files = base, folder, recipe, learner, files
        self.loader, self.validation, self.say = loader, validation, say
        self.place, self.epochs = Place(), list[Epoch]()
        self.best_sha256 = ""  # fingerprint of the best weights so far
        self.whole = True  # False while the learner or the place is being changed
        self.kept = ""  # the place of the state that was saved last

    def begin(self, resume: bool) -> None:
        """Save the first state, or go on from the one that was saved last."""
        if not resume:
            self._save()
            return
        state = self.files.load(self.learner.state())
        place, starts = state.place, self._starts
        if place.epoch != len(state.epochs) or place.epoch > self.recipe.epochs or place.batch not in starts or (
                place.updates != place.epoch * (len(starts) - 1) + starts.index(place.batch)):
            raise self.files.damaged(f"this run is never {place} with {counted(place.updates, 'update')}")
        if state.epochs and not self.files.best.is_file():
            raise ArgumentError(f"{str(self.files.best)!r} is missing, which had the weights of epoch "
                                f"{best(state.epochs).epoch}, the best so far: put it back, or {ANEW}")
        self.learner.load_state(state.arrays)
        self.place, self.epochs, self.kept = place, state.epochs, str(place)
        self.best_sha256 = state.best_sha256
        self.learner.updates = state.place.updates
        self.files.write_table(self.epochs)

    def go(self, progress: bool) -> None:
        """Train and validate until the last epoch is over."""
        if self.over:  # a resumed run that was interrupted at its end: the file may have been replaced since
            write_weights(self.files.last, self._weights(), force=True)
        size, batches = self.loader.batch_size, len(self.loader)
        done = (self.place.epoch * batches + self.place.batch) * size
        shown = Shown(self.recipe.epochs * batches * size, done=done) if progress else contextlib.nullcontext()
        with shown as counter:
            while not self.over:
                self._epoch(counter)
            if counter and self.place.epoch < self.recipe.epochs:
                counter.say(f"stopped after epoch {self.place.epoch} of {self.recipe.epochs}, as none since epoch "
                            f"{best(self.epochs).epoch} was better")

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """After an interrupt or an error in the block, save the state of that moment, and say so in what is raised."""
        try:
            yield
        except DivergedError as problem:
            last = f"; {str(self.files.last)!r} has the weights of epoch {self.place.epoch}" * bool(self.epochs)
            batch = min(self.place.batch + 1, len(self.loader))  # after the last one, that is what made it diverge
            raise DivergedError(f"epoch {self.place.epoch + 1}, batch {batch}, learning rate {self._lr():.3g}: "
                                f"{problem}. Use a lower lr, more warmup-epochs or clip-grad 1, and {ANEW}{last}"
                                ) from problem
        except KeyboardInterrupt as stop:
            with contextlib.suppress(KeyboardInterrupt):  # a second one: the state before is still there
                self._save_if_whole()
            raise type(stop)(f"the run is kept {self.kept}; the same command with --resume continues") from stop
        except Exception as problem:
            self._save_if_whole()
            kept = f"the run is kept {self.kept}; once that is fixed, the same command with --resume continues"
            if isinstance(problem, OSError) and problem.errno:
                raise OSError(problem.errno, f"{problem.strerror}; {kept}", problem.filename) from problem
            self.say(kept)
            raise

    def best_weights(self) -> Weights:
        """Read the best weights back, once all epochs are over.

        Raises ArgumentError where the file has others. Before the end it may: a run that is killed between this file
        and its state leaves the weights of an epoch that is then computed again.
        """
        weights = read_weights(self.files.best)
        if fingerprint(weights, weights.labels) != self.best_sha256:
            raise ArgumentError(f"{str(self.files.best)!r} has other weights than this run wrote to it after epoch "
                                f"{best(self.epochs).epoch}, the best: put those back, or {ANEW}")
        return weights

    @property
    def over(self) -> bool:
        """Whether all epochs are done, or the best one is too long ago."""
        patience, done = self.recipe.patience, self.place.epoch
        return done >= self.recipe.epochs or (
            patience is not None and done > 0 and done - best(self.epochs).epoch >= patience)

    def _lr(self) -> float:
        return self.recipe.schedule(self.place.epoch)

    def _save(self) -> None:
        self.whole = False  # after a failure there is no second attempt
        self.learner.check()
        self.files.save(State(self.learner.state(), self.place, self.epochs, self.best_sha256))
        self.kept, self.whole = str(self.place), True

    def _save_if_whole(self) -> None:
        if not self.whole or self.kept == str(self.place):
            return
        try:
            self._save()
        except (OSError, DivergedError) as problem:  # the state before is still there
            self.say(f"the state of this moment can't be saved: {problem}")

    # --- an epoch

    def _epoch(self, counter: Shown | None) -> None:
        first, start = self.place.batch, time.monotonic()
        self._train(counter)
        photos_here = (len(self.loader) - first) * self.loader.batch_size
        speed = photos_here / max(time.monotonic() - start, 1e-9) if photos_here else math.nan
        self.learner.check()
        weights = self._weights()
        loss, confusion = self.validate(weights)
        photos = int(confusion.sum())
        top1 = int(confusion.trace()) / photos
        epoch = Epoch(self.place.epoch + 1, self._lr(), self.place.loss / len(self.loader), loss, top1, photos,
                      speed)
        best_sha256 = self.best_sha256
        if best([*self.epochs, epoch]) is epoch:
            write_weights(self.files.best, weights, force=True)
            best_sha256 = fingerprint(weights, self.base.labels)
        write_weights(self.files.last, weights, force=True)
        self.whole = False
        self.epochs.append(epoch)
        self.best_sha256 = best_sha256
        self.place = Place(epoch.epoch, 0, self.place.updates)
        self.whole = True
        self._save()
        self.files.add_line(epoch)
        if counter:
            counter.say(f"epoch {epoch.epoch} of {self.recipe.epochs}: learning rate {epoch.lr:.3g}, loss "
                        f"{epoch.train_loss:.4f}, validation loss {loss:.4f}, top-1 {top1:.2%}" +
                        f", {speed:,.1f} photos/s" * (photos_here > 0))

    @functools.cached_property
    def _starts(self) -> list[int]:
        """The batches of an epoch at which its updates start, and the number of all, where the last one ends."""
        return list(itertools.accumulate(parts_of_updates(len(self.loader), self.recipe.grad_accum_steps), initial=0))

    def _train(self, counter: Shown | None) -> None:
        """The rest of an epoch's updates."""
        saved = time.monotonic()
        parts = parts_of_updates(len(self.loader), self.recipe.grad_accum_steps)
        before = self._starts.index(self.place.batch)  # updates of this epoch
        with contextlib.closing(self.loader.batches(self.place.epoch, self.place.batch)) as batches:
            numbered = enumerate(batches, self.place.batch)
            for count in parts[before:]:
                update = self.learner.compute(self.place.epoch, itertools.islice(numbered, count), count)
                self.whole = False
                self.learner.apply(update, self._lr())
                self.place.batch += count
                self.place.updates += 1
                self.place.loss += update.loss
                self.whole = True
                if counter:
                    counter.loss = f", loss {update.loss / count:.3f}"
                    counter.advance(count * self.loader.batch_size)
                if time.monotonic() - saved >= SAVE:
                    self._save()
                    saved = time.monotonic()

    def validate(self, weights: Weights) -> tuple[float, np.ndarray]:
        """Measure weights on the validation part, by the network as it is used.

        Returns the mean loss and the confusion matrix, int64 (classes, classes): a row for each right class, a column
        for each answer. Raises ArgumentError where none of its photos can be read.
        """
        model = Model(weights, num_threads=self.learner.engine.threads)
        total, confusion = 0.0, np.zeros((model.num_classes, model.num_classes), np.int64)
        with contextlib.closing(self.validation.batches()) as batches:
            for batch in batches:
                logits = model(batch.x)
                loss, _ = cross_entropy(logits, label_targets(batch.labels, model.num_classes))
                total += loss * len(logits)
                confusion += confusion_matrix(batch.labels, logits.argmax(axis=1), model.num_classes)
        if not confusion.any():
            raise ArgumentError("no photo to validate on can be read; repair them, or name others with --val-dir")
        return total / int(confusion.sum()), confusion

    @functools.cached_property
    def marks(self) -> bytes:
        """Of the photos, by which `validate` recognises them, and of those that the start was trained on."""
        return photo_marks((path for path, _ in self.loader.photos), self.base.source.all_photos)

    def _weights(self) -> Weights:
        """The weights of this moment, or their moving average, as a file has them."""
        name = f"{self.base.source.name}, trained on {counted(len(self.loader.photos), 'photo')} of {self.folder}"
        source = Source(plain(name), "", "trained", self.marks)
        return replace(self.base, parameters=dict(self.learner.best_parameters), source=source)
