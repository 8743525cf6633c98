"""`npefficient.train`: checks what it is given, puts the parts of a run together, and returns the result."""
import dataclasses
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.paths import StrPath
from ..common.text import counted, meant, quoted, shown
from ..engine.cpus import check_threads
from ..errors import ArgumentError
from ..jobs.class_folders import check_outside
from ..jobs.photo_marks import warning_of_known
from ..network.parameters import Weights, fingerprint
from .augmentation import Augmentation, TrainingTransform
from .dataset import Dataset, Photos, read_dataset
from .freeze import frozen_stages
from .learner import Learner
from .loader import TrainingLoader, ValidationLoader
from .recipe_files import read_recipe
from .recipes import OPTIONS, Recipe
from .run import Run
from .run_files import Epoch, RunFiles, best, check_run_files
from .run_pictures import draw
from .start import NOTHING, starting_weights

if TYPE_CHECKING:
    from ..model.model import Model


@dataclass(frozen=True)
class TrainResult:
    """A trained network, and how it came about."""

    weights: Weights  # of the best epoch, as the output has them
    labels: tuple[str, ...]
    epochs: tuple[Epoch, ...]  # the lines of the table
    best: Epoch  # the most accurate on the validation part
    files: tuple[Path, Path, Path]  # the best weights, the last ones, the table
    confusion: np.ndarray  # int64 (classes, classes), of the best weights: a row for each right class of validation
    pictures: tuple[Path, ...]  # the curves and the confusion matrix; empty without matplotlib
    photos: int  # to train on
    bad: list[tuple[Path, str]]  # photos that could not be read, and why
    warnings: list[str]

    def __repr__(self) -> str:
        return (f"TrainResult({counted(len(self.labels), 'class')}, {counted(len(self.epochs), 'epoch')}, top-1 "
                f"{self.best.val_top1:.2%} after epoch {self.best.epoch})")

    def model(self, num_threads: int | None = None) -> "Model":
        """The network, ready to run."""
        from ..model.model import Model

        return Model(self.weights, num_threads=num_threads)


def train(photos_dir: StrPath, output: StrPath, *, model: str | None = None, weights: Weights | StrPath | None = None,
          recipe: Recipe | StrPath = "finetune", val_dir: StrPath | None = None, val_split: float = 0.2,
          resume: bool = False, force: bool = False, exif: bool = False, max_pixels: int | None = None,
          num_threads: int | None = None, workers: int | None = None, say: Callable[[str], None] = lambda text: None,
          progress: bool = False, **options: Any) -> TrainResult:
    """Train a whole network on the photos in `photos_dir`, which has a sub-folder for each class, named like the class.

    The classes are numbered in timm's order of such folders. A recipe's options mean what they mean in timm's
    `train.py`; the learning rate changes from epoch to epoch. After each epoch the network, or its moving average if
    there is one, is measured on the validation part.

    output: the weight file (.h5) to write, with the weights of the epoch that was the most accurate on the validation
        part (so the accuracy is slightly flattered). Beside OUT.h5, OUT-last.h5 gets the weights after the last epoch,
        and OUT.csv a line for each epoch: learning rate, losses, accuracy, photos a second. Where matplotlib is
        installed, OUT-curves.png and OUT-confusion.png show the table and the best weights' confusion matrix.
    model: "lite0" (the default) to "lite4"
    weights: what to start from: a weight file, a checkpoint or `parameters.Weights`; the name of a variant, for its
        official weights; "nothing", for random weights as timm's. None: the official weights of `model`. The classifier
        is a new one, unless the weights are for the same classes
    recipe: "finetune", "few-photos", "efficientnet", a file or a `recipes.Recipe`; `options` take the place of some of
        its options, by their names in Python, such as epochs=5, lr=0.01, model_ema=True
    val_dir: a folder with the photos to validate on, in sub-folders named like some of the classes
    val_split: without `val_dir`, the share of each class that is kept out to validate on
    resume: go on with the run that was begun with this output and the same arguments, if one was. Its state is
        kept after each epoch, every five minutes, and where it is interrupted or fails. It ends with the same bits as
        without a stop, for any number of threads, with the same versions of NumPy, Pillow and npefficient. The photos
        have to be the same: their paths and sizes are compared.
    force: begin anew, and replace the files that are there
    exif: rotate photos by their EXIF orientation; then use the network with upright photos, too
    max_pixels: as for `open_image`
    num_threads: processors to compute with, None for all that are available; workers: threads that read photos, by
        default as many
    say: called with each warning, and with each photo that can't be read
    progress: show the progress on stderr, and a line for each epoch

    In the place of a photo that can't be read comes the next one. Raises ArgumentError for an argument, a folder or an
    option that can't be used, while another run has the same output, and where `output` exists and neither `resume` nor
    `force` is set; WeightsError for a file that can't be used, and where a loss or a gradient is not finite, with the
    place, the learning rate and what to change; ImageError where 20 photos in a row can't be read; OSError where a file
    can't be written. The last good state is kept then.
    """
    if not callable(say):
        raise ArgumentError(f"say {shown(say)}: it must be a function that is called with a text, such as print")
    chosen = chosen_recipe(recipe, options)
    if isinstance(weights, str) and weights == NOTHING and (frozen_stages(chosen.freeze) or chosen.freeze_bn):
        raise ArgumentError(f"freeze {chosen.freeze!r} and freeze-bn {str(chosen.freeze_bn).lower()} with random "
                            "weights: what is not trained would stay random; use --freeze 0 --no-freeze-bn "
                            "(freeze='0', freeze_bn=False)")
    resume = check_run_files(output, weights, resume=resume, force=force)
    num_threads = check_threads(num_threads)
    check_outside([output], [photos_dir, val_dir])
    dataset, warnings = read_dataset(photos_dir, val_dir, val_split=val_split, seed=chosen.seed), list[str]()

    def warn(text: str) -> None:
        warnings.append(text)
        say(text)

    for text in dataset.warnings:
        warn(text)
    base = starting_weights(model, weights, dataset.labels, chosen.seed)
    base = replace(base, preprocessing=chosen.preprocessing(base.preprocessing))
    if known := warning_of_known([path for path, _ in dataset.validation], base.source.name, base.source.all_photos):
        warn(known)
    training, validation = _loaders(dataset, base, chosen, say, workers=num_threads if workers is None else workers,
                                    exif=exif, max_pixels=max_pixels)
    validation.check()
    learner = Learner(base, chosen, num_threads)
    settings = _settings(base, chosen, dataset, (photos_dir, val_dir), exif=exif)
    with RunFiles(output, settings, resume=resume) as files:
        run = Run(base, Path(photos_dir).resolve().name, chosen, learner, training, validation, files, say)
        run.begin(resume)
        with run.keeping():
            run.go(progress)
            weights_of_best = run.best_weights()
            _, confusion = run.validate(weights_of_best)
            pictures = draw(files, run.epochs, confusion, dataset.labels, warn)
        files.finish()
    return TrainResult(weights_of_best, dataset.labels, tuple(run.epochs), best(run.epochs),
                       (files.best, files.last, files.table), confusion, pictures, len(training.photos),
                       [*training.bad.items(), *validation.bad.items()], warnings)


def chosen_recipe(recipe: Recipe | StrPath, options: dict[str, Any]) -> Recipe:
    """A recipe with other values for some of its options, by their names in Python."""
    known = [option.field for option in OPTIONS.values()]
    for name in options:
        if name not in known:
            raise ArgumentError(f"{quoted(name)} is no argument of train or option of a recipe{meant(name, known)}; "
                                f"those are {', '.join(known)}")
    return replace(recipe if isinstance(recipe, Recipe) else read_recipe(recipe), **options)


def _loaders(dataset: Dataset, base: Weights, recipe: Recipe, say: Callable[[str], None],
             **how: Any) -> tuple[TrainingLoader, ValidationLoader]:
    augmentation = Augmentation(
        scale=recipe.scale, ratio=recipe.ratio, hflip=recipe.hflip, color_jitter=recipe.color_jitter,
        auto_augment=recipe.aa, re_prob=recipe.reprob, re_mode=recipe.remode)
    in_chans = base.architecture.in_chans

    def report(path: Path, why: str) -> None:
        say(f"error: {why}")

    transform = TrainingTransform(augmentation, base.preprocessing, in_chans)
    return (TrainingLoader(dataset.training, transform, recipe.batch_size, seed=recipe.seed, report=report, **how),
            ValidationLoader(dataset.validation, base.preprocessing, recipe.batch_size, in_chans=in_chans,
                             report=report, **how))


def _settings(base: Weights, recipe: Recipe, dataset: Dataset, folders: tuple[StrPath, StrPath | None],
              **more: Any) -> dict[str, Any]:
    """All that the bits of a run depend on, but for the versions of what computes them."""
    training, validation = folders
    return {"model": base.architecture.name, "weights": base.source.name,
            "sha256": fingerprint(base, dataset.labels), "preprocessing": dataclasses.asdict(base.preprocessing),
            "photos to train on": _listing(dataset.training, training),
            "photos to validate on": _listing(dataset.validation, training if validation is None else validation),
            **dataclasses.asdict(recipe), **more}


def _listing(photos: Photos, folder: StrPath) -> str:
    """Their number, and a hash of their paths below the folder, their sizes and their classes."""
    rows = [(os.fsencode(os.path.relpath(path, folder)), _size(path), index) for path, index in photos]
    return f"{len(rows)} ({hashlib.sha256(repr(rows).encode()).hexdigest()[:16]})"


def _size(path: Path) -> int | None:
    """The bytes of a photo; None for a broken link, which is reported when it is opened."""
    try:
        return os.stat(path).st_size
    except OSError:
        return None
