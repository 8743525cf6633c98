"""Bounds and checks for a file of rows that is read back: it may have been edited or damaged since."""
import contextlib
import json
from pathlib import Path

from ...errors import ArgumentError

LIMIT = 1 << 20  # bytes of settings as JSON; they have a few hundred
LONGEST = 1 << 20  # bytes of a text: a path has at most 65,536, and six times as many if all are escaped
REMEDY = "name another file, or begin anew with --force"


@contextlib.contextmanager
def naming(path: Path):
    """Make whatever a library raises for a damaged file, any exception at all, an ArgumentError that names it."""
    try:
        yield
    except ArgumentError:
        raise
    except Exception as problem:
        reason = " ".join(str(problem).split())[:200] or type(problem).__name__
        raise ArgumentError(f"{str(path)!r}: not a file of rows that npefficient wrote, or damaged ({reason}); "
                            f"{REMEDY}") from problem


def parse_settings(text) -> dict:
    """Settings from their JSON, str or bytes; raises ValueError for anything else."""
    if not isinstance(text, (str, bytes)) or len(text) > LIMIT:
        raise ValueError(f"the settings are not a text of at most {LIMIT:,} bytes")
    try:
        settings = json.loads(text)
    except RecursionError as problem:
        raise ValueError("the settings are nested too deep") from problem
    if not isinstance(settings, dict):
        raise ValueError(f"the settings are of type {type(settings).__name__}, not a JSON object")
    return settings
