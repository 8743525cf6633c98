"""The embedded model: a Lite0 with ten classes, trained on scikit-learn's handwritten digits.

`notebooks/train_digits.py` made it, and the pictures: held-out digits, the first of each class.
"""
from pathlib import Path

DATA = Path(__file__).parent / "data"
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def weights_path() -> Path:
    """The weight file of the embedded model."""
    return DATA / "digits.h5"


def photos() -> list[Path]:
    """Ten digits that the embedded model was not trained on, PNG, 64x64, in the order of the classes."""
    return [DATA / "digits" / f"{label}.png" for label in LABELS]
