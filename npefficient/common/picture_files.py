"""Pictures that commands draw with matplotlib: their formats, whether it can be used, and its settings."""
import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..errors import ArgumentError
from .extras import install
from .text import short

PICTURES = (".png", ".pdf", ".svg", ".jpg")


def check_picture(path) -> str:
    """Return matplotlib's name of the format; raises ArgumentError for a suffix that is not in PICTURES."""
    suffix = Path(path).suffix.lower()
    if suffix not in PICTURES:
        raise ArgumentError(f"picture {str(path)!r}: its name must end in {' or '.join(PICTURES)}")
    return suffix[1:]


def check_matplotlib(extra: str) -> None:
    """Raise ArgumentError where matplotlib can't be imported; it says how to install it, or why that fails."""
    try:
        import matplotlib.figure
        import matplotlib.style  # noqa: F401  it reads the user's styles
    except ImportError as problem:  # matplotlib is missing, or something that it needs
        raise ArgumentError(f"drawing a picture needs matplotlib: {install(extra)}") from problem
    except Exception as problem:  # it refuses the user's settings, with any class
        why = short(f"{type(problem).__name__}: {problem}")
        raise ArgumentError(f"drawing a picture needs matplotlib, which can't be imported ({why}): correct MPLBACKEND, "
                            "matplotlibrc or the style that it refuses") from problem


@contextlib.contextmanager
def drawing(extra: str) -> Iterator[None]:
    """In the block, matplotlib has its own settings in place of the user's, which may need LaTeX or hide what is drawn.

    Raises ArgumentError as `check_matplotlib` does.
    """
    check_matplotlib(extra)
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield
