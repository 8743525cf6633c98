"""A recipe: all options of a training run, under the names and with the defaults of timm's `train.py`.

`recipe_files.py` reads and writes recipes as text.
"""
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..common.text import meant, quoted
from ..errors import ArgumentError
from ..network.preprocessing import Preprocessing
from .clipping import CLIP_MODES
from .freeze import NONE, frozen_stages
from .optimizers import OPTIMIZERS
from .rand_augment import parse_rand_augment
from .random_erasing import MODES as ERASING_MODES
from .recipe_values import Flag, Kind, Number, OrNone, Range, Text, Whole, Word
from .schedules import SCHEDULES, Schedule

MOST_EPOCHS, MOST_PICTURES, MOST_SIZE = 100_000, 65_536, 8192
LR_BASE, LR_BASE_SIZE = 0.1, 256  # timm's --lr-base and --lr-base-size
RATE = Number(0.0, 1000.0)
SHARE = Number(0.0, 1.0)
BELOW_ONE = Number(0.0, 1.0, open_most=True)
POLICY = Text("RandAugment in timm's words, such as rand-m9-mstd0.5", parse_rand_augment)
STAGES = Text("text, such as '3' or 'conv_stem,blocks.0'", frozen_stages)


def _option(default: Any, kind: Kind, text: str) -> Any:
    return field(default=default, metadata={"kind": kind, "help": text})


@dataclass(frozen=True)
class Recipe:
    """The options of a training run; a name has `_` here and `-` on the command line and in files.

    Raises ArgumentError for a value that breaks its rule, for a warm-up as long as the run, and for an odd batch size
    with mixup or CutMix, which mix pairs.
    """

    epochs: int = _option(300, Whole(1, MOST_EPOCHS), "passes over the photos")
    batch_size: int = _option(128, Whole(1, MOST_PICTURES), "pictures in a batch")
    grad_accum_steps: int = _option(1, Whole(1, MOST_PICTURES), "batches whose gradients are averaged for an update")
    patience: int | None = _option(None, OrNone(Whole(1, MOST_EPOCHS)), "epochs without a better validation after which"
                                   " the run stops; none: it never stops early")
    seed: int = _option(42, Whole(0, 2**63 - 1), "of all that is drawn at random")
    opt: str = _option("sgd", Word(OPTIMIZERS), "optimizer; sgd has Nesterov's momentum, momentum the classical")
    opt_eps: float | None = _option(None, OrNone(Number(0.0, 1.0, open_least=True)),
                                    "eps of rmsproptf (none: 1e-10) and adamw (none: 1e-8)")
    momentum: float = _option(0.9, BELOW_ONE, "momentum of the optimizer, except for adamw")
    weight_decay: float = _option(2e-5, Number(0.0, 10.0), "weight decay, except of biases and batch norm")
    clip_grad: float | None = _option(None, OrNone(Number(0.0, 1e9, open_least=True)), "limit of the gradients")
    clip_mode: str = _option("norm", Word(CLIP_MODES), "what --clip-grad limits: the norm of all gradients, each value,"
                             " or the norm as a share of the weights' (agc)")
    sched: str = _option("cosine", Word(SCHEDULES), "schedule of the learning rate")
    lr: float | None = _option(None, OrNone(Number(0.0, 1000.0, open_least=True)),
                               "learning rate; none: 0.1 for an update from 256 pictures, in proportion for others, by"
                               " the square root for adamw")
    warmup_epochs: int = _option(5, Whole(0, MOST_EPOCHS), "epochs in which the learning rate rises to --lr")
    warmup_lr: float = _option(1e-5, RATE, "learning rate at the start of the warm-up")
    min_lr: float = _option(0.0, RATE, "learning rate at the end of the schedule cosine")
    decay_epochs: float = _option(90.0, Number(0.0, MOST_EPOCHS, open_least=True),
                                  "epochs between the steps of the schedule step")
    decay_rate: float = _option(0.1, Number(0.0, 1.0, open_least=True), "factor of each step of the schedule step")
    smoothing: float = _option(0.1, BELOW_ONE, "label smoothing")
    drop: float = _option(0.0, BELOW_ONE, "dropout before the classifier")
    drop_path: float = _option(0.0, BELOW_ONE, "stochastic depth: share of pictures that skip a block; it rises"
                                 " from block to block, up to this")
    model_ema: bool = _option(False, Flag(), "keep a moving average of the weights")
    model_ema_decay: float = _option(0.9998, BELOW_ONE, "share of the moving average that stays in each update")
    model_ema_warmup: bool = _option(False, Flag(), "let that share grow from 0 in the first updates")
    img_size: int | None = _option(None, OrNone(Whole(1, MOST_SIZE)),
                                   "rows and columns of the network's input; none: the model's own")
    crop_pct: float | None = _option(None, OrNone(Number(0.01, 1.0)), "share of a photo's rows and columns that is kept"
                                     " to validate and to use the network; none: the model's own")
    scale: tuple[float, float] = _option((0.08, 1.0), Range(Number(1e-6, 1.0)),
                                         "area of the random crop, as a share of the photo's")
    ratio: tuple[float, float] = _option((3 / 4, 4 / 3), Range(Number(0.01, 100.0)), "width / height of that crop")
    hflip: float = _option(0.5, SHARE, "probability of a horizontal flip")
    color_jitter: float = _option(0.4, Number(0.0, 10.0), "most by which brightness, contrast and saturation change")
    aa: str | None = _option(None, OrNone(POLICY), "policy of RandAugment, such as rand-m9-mstd0.5")
    reprob: float = _option(0.0, SHARE, "probability of random erasing")
    remode: str = _option("pixel", Word(ERASING_MODES), "fill of what is erased: noise for each pixel, one random"
                          " colour, or zeros")
    mixup: float = _option(0.0, Number(0.0, 100.0), "alpha of mixup; 0: none")
    cutmix: float = _option(0.0, Number(0.0, 100.0), "alpha of CutMix; 0: none")
    freeze: str = _option(NONE, STAGES, "stages that are not trained: a number of the first ones, or names with"
                          " commas, such as conv_stem,blocks.0")
    freeze_bn: bool = _option(False, Flag(), "normalise by batch norm's running statistics, not by the batch's, and"
                              " keep them, and each scale and shift: for few photos, or small batches")

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            value = option.kind.check(name, getattr(self, option.field))
            object.__setattr__(self, option.field, value)  # a frozen dataclass has no other way
        if self.warmup_epochs >= self.epochs:
            raise ArgumentError(f"warmup-epochs {self.warmup_epochs} of {self.epochs} epochs: the learning rate would "
                                "never be reached; give fewer, such as 0")
        if (self.mixup or self.cutmix) and self.batch_size % 2:
            raise ArgumentError(f"batch-size {self.batch_size} with mixup or cutmix, which mix pairs: it must be even")

    @property
    def learning_rate(self) -> float:
        """`lr`, or where it is None timm's rule from the pictures of an update."""
        if self.lr is not None:
            return self.lr
        ratio = self.batch_size * self.grad_accum_steps / LR_BASE_SIZE
        return LR_BASE * (ratio**0.5 if "ada" in self.opt else ratio)

    def preprocessing(self, own: Preprocessing) -> Preprocessing:
        """A model's `own` preprocessing with the size and the share of this recipe."""
        size = own.input_size if self.img_size is None else (self.img_size, self.img_size)
        return replace(own, input_size=size, crop_pct=own.crop_pct if self.crop_pct is None else self.crop_pct)

    @property
    def schedule(self) -> Schedule:
        """Epoch -> learning rate."""
        return Schedule(self.sched, self.learning_rate, self.epochs, self.warmup_epochs, self.warmup_lr,
                        self.decay_epochs, self.decay_rate, self.min_lr)


@dataclass(frozen=True)
class Option:
    """One option of a recipe."""

    field: str  # its name in Recipe
    kind: Kind
    help: str


OPTIONS = {one.name.replace("_", "-"): Option(one.name, one.metadata["kind"], one.metadata["help"])
           for one in fields(Recipe)}  # by the names on the command line, in the order of Recipe


def changed(recipe: Recipe, texts: Mapping[str, str]) -> Recipe:
    """The recipe with other values for some options, given as text: name on the command line -> value.

    Raises ArgumentError for an unknown name, and for what `Recipe` refuses.
    """
    for name in texts:
        if name not in OPTIONS:
            raise ArgumentError(f"{quoted(name)} is no option of a recipe{meant(name, OPTIONS)}; there are: "
                                f"{', '.join(OPTIONS)}")
    options = {OPTIONS[name].field: OPTIONS[name].kind.read(text) for name, text in texts.items()}
    return replace(recipe, **options)
