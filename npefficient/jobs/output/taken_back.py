"""What a file of rows that was there before is held to: it may have been edited or damaged since."""
import contextlib
import json
from pathlib import Path

from ...errors import ArgumentError

LIMIT = 1 << 20  # bytes of settings as JSON; they have some hundred
LONGEST = 1 << 20  # bytes of a text: a path has at most 65,536, written as escapes six times as many
REMEDY = "name another file, or begin anew with --force"


@contextlib.contextmanager
def naming(path: Path):
    """Name the file in whatever a library makes of a damaged one: any exception at all."""
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
        raise ValueError(f"the settings are no text of at most {LIMIT:,} bytes")
    try:
        settings = json.loads(text)
    except RecursionError as problem:
        raise ValueError("the settings are nested too deep") from problem
    if not isinstance(settings, dict):
        raise ValueError(f"the settings are no JSON object but of type {type(settings).__name__}")
    return settings
