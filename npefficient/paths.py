"""Where npefficient keeps what it fetches and compiles."""
import os
from pathlib import Path


def cache_directory() -> Path:
    """Return $NPEFFICIENT_CACHE, else $XDG_CACHE_HOME/npefficient, else ~/.cache/npefficient; it may not exist yet.

    As the XDG rules ask, a relative XDG_CACHE_HOME is ignored.
    """
    own = os.environ.get("NPEFFICIENT_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache"
    return base / "npefficient"
