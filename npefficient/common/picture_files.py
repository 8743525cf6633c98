"""Pictures that commands draw with matplotlib: their formats, and whether it is installed."""
from importlib.util import find_spec
from pathlib import Path

from ..errors import ArgumentError
from .extras import install

PICTURES = (".png", ".pdf", ".svg", ".jpg")


def check_picture(path) -> str:
    """Return matplotlib's name of the format; raises ArgumentError for a suffix that is not in PICTURES."""
    suffix = Path(path).suffix.lower()
    if suffix not in PICTURES:
        raise ArgumentError(f"picture {str(path)!r}: its name must end in {' or '.join(PICTURES)}")
    return suffix[1:]


def matplotlib_is_there() -> bool:
    return find_spec("matplotlib") is not None


def check_matplotlib(extra: str) -> None:
    """Raise ArgumentError, which says how to install it, where matplotlib is not installed."""
    if not matplotlib_is_there():
        raise ArgumentError(f"drawing a picture needs matplotlib: {install(extra)}")
