"""Files with figures, for people and programs: JSON and CSV, UTF-8, replaced as a whole."""
import csv
import json
from collections.abc import Iterable
from pathlib import Path

from ..paths import replacing


def write_json(path, figures: dict, *, force: bool = False) -> None:
    """Write `figures`; raises ArgumentError where `path` exists and `force` is not set, OSError from the system."""
    with replacing(Path(path), force=force) as part:
        part.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_csv(path, columns: Iterable[str], rows: Iterable[Iterable], *, force: bool = False) -> None:
    """Write a line of column names and one for each row; None is an empty cell. Raises as `write_json` does."""
    with replacing(Path(path), force=force) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
