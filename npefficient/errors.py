"""The errors that npefficient raises on purpose.

    NpefficientError
    ├── ArgumentError    (also ValueError)  a name, an option or an array that breaks a rule
    │   └── MissingError (also AttributeError)  an attribute that timm's models have and ours have not
    ├── WeightsError     (also ValueError)  a checkpoint or weight file that is broken, hostile or of another network
    ├── ImageError       (also ValueError)  a photo that can't be read
    └── DownloadError    (also OSError)     weights that can't be fetched

Each text says what was given, the rule it breaks and what to do about it. Whatever comes from outside is checked
once, where it enters; code inside trusts its callers.
"""
from .common.text import ERROR, short


class NpefficientError(Exception):
    """Base of every error that npefficient raises on purpose; its text is one line that a terminal can be shown."""

    def __init__(self, text: str = ""):
        super().__init__(short(text, ERROR))


class ArgumentError(NpefficientError, ValueError):
    """A name, an option or an array breaks a rule."""


class MissingError(ArgumentError, AttributeError):
    """An attribute of timm's models that ours have not, or that can't be set."""


class WeightsError(NpefficientError, ValueError):
    """A checkpoint or a weight file is broken, hostile or belongs to another network."""


class ImageError(NpefficientError, ValueError):
    """A photo can't be read."""


class DownloadError(NpefficientError, OSError):
    """Weights can't be fetched."""
