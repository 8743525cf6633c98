"""Pictures that commands draw with matplotlib: their formats, and whether it is installed."""
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
    """Whether it can be imported; files without what they need themselves don't count."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def check_matplotlib(extra: str) -> None:
    """Raise ArgumentError, which says how to install it, where matplotlib is not installed."""
    if not matplotlib_is_there():
        raise ArgumentError(f"drawing a picture needs matplotlib: {install(extra)}")
