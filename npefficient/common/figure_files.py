"""Files with figures, for people and programs: JSON and CSV, UTF-8, replaced as a whole.

Bytes of a file name that are not UTF-8 are written to JSON as the escapes of lone surrogates, from which Python
restores the name.
"""
import csv
import json
from collections.abc import Iterable
from pathlib import Path

from .paths import StrPath, replacing
from .text import cell


def write_json(path: StrPath, figures: dict, *, force: bool = False, indent: int | None = 1) -> None:
    """Write `figures`; raises ArgumentError where `path` exists and `force` is not set, OSError from the system."""
    with replacing(Path(path), force=force) as part:
        text = json.dumps(figures, indent=indent, ensure_ascii=False) + "\n"
        part.write_text(text, encoding="utf-8", errors="backslashreplace")  # JSON's escapes look the same


def write_csv(path: StrPath, columns: Iterable[str], rows: Iterable[Iterable], *, force: bool = False) -> None:
    """Write a line of column names and one for each row; None is an empty cell, texts are escaped by `text.cell`.

    Raises as `write_json` does.
    """
    with replacing(Path(path), force=force) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([cell(value) if isinstance(value, str) else value for value in row] for row in rows)
