"""Files with figures, for people and programs: JSON and CSV, UTF-8, replaced as a whole.

Bytes of a file name that are no UTF-8 stand in JSON as the escapes of lone surrogates, from which Python makes the name
again.
"""
import csv
import json
from collections.abc import Iterable
from pathlib import Path

from ..common.paths import replacing
from ..common.text import cell


def write_json(path, figures: dict, *, force: bool = False) -> None:
    """Write `figures`; raises ArgumentError where `path` exists and `force` is not set, OSError from the system."""
    with replacing(Path(path), force=force) as part:
        text = json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
        part.write_text(text, encoding="utf-8", errors="backslashreplace")  # JSON writes them in the same way


def write_csv(path, columns: Iterable[str], rows: Iterable[Iterable], *, force: bool = False) -> None:
    """Write a line of column names and one for each row; None is an empty cell, texts are as `text.cell` has them.

    Raises as `write_json` does.
    """
    with replacing(Path(path), force=force) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([cell(value) if isinstance(value, str) else value for value in row] for row in rows)
