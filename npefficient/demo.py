"""What there is to try without a photo of one's own: four photographs for ImageNet's classes, and the embedded model.

The photographs are free ones (`data/photos/LICENSES`). The embedded model is a Lite0 with ten classes, trained on
scikit-learn's handwritten digits; `notebooks/train_digits.py` made it, and its pictures: held-out digits, the first of
each class.
"""
from dataclasses import dataclass
from pathlib import Path

from .common.extras import install

DATA = Path(__file__).parent / "data"
NAME = "digits"  # what --model calls the embedded model
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MISSING = (f"the official ImageNet weights are not at hand: {install('imagenet')} brings them; here is the embedded "
           "model of handwritten digits")


@dataclass(frozen=True)
class Demo:
    """A network and pictures for it."""

    weights: Path  # a weight file
    photos: tuple[Path, ...]
    topk: int  # classes worth showing
    warning: str  # to be printed first; "" for none


def demo() -> Demo:
    """Lite0 on the photographs where its weights are in the cache or in a package; else the digits. Fetches nothing."""
    from . import hub

    if hub.origin("lite0").kind == "download":
        return Demo(weights_path(), tuple(digits()), 1, MISSING)
    return Demo(hub.pretrained("lite0"), tuple(photographs()), 3, "")


def photographs() -> list[Path]:
    """Four photographs, JPEG, about 450 pixels wide, the easiest first."""
    return [DATA / "photos" / f"{name}.jpg" for name in ("coffee", "chelsea", "rocket", "astronaut")]


def weights_path() -> Path:
    """The weight file of the embedded model."""
    return DATA / "digits.h5"


def digits() -> list[Path]:
    """Ten digits that the embedded model was not trained on, PNG, 64x64, in the order of the classes."""
    return [DATA / "digits" / f"{label}.png" for label in LABELS]
