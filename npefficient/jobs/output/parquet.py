"""Rows as a Parquet file, through pyarrow.

The columns are those of `Schema.flat`; null where a photo could not be read. The file's own metadata holds the settings
under "npefficient", as JSON.
"""
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...errors import ArgumentError
from ..rows import Schema
from .taken_back import parse_settings

READ = 256  # rows to take back at once
KEY = b"npefficient"


def check() -> None:
    """Raise ArgumentError where pyarrow is missing."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as problem:
        raise ArgumentError(f".parquet needs pyarrow ({problem}): python -m pip install \"npefficient[parquet]\", or "
                            "write .csv, .jsonl or .h5") from problem


def layout(schema: Schema, settings: dict):
    """The pyarrow schema of the rows, with the settings in its metadata."""
    import pyarrow

    kinds = {"text": pyarrow.string(), "int64": pyarrow.int64(), "float32": pyarrow.float32(),
             "float32 list": pyarrow.list_(pyarrow.float32())}
    fields = [pyarrow.field(name, kinds[kind], nullable=name != "photo") for name, kind in schema.columns().items()]
    return pyarrow.schema(fields, metadata={KEY: json.dumps(settings)})


def table(rows: Iterable[dict], schema: Schema, columns):
    """Rows as a pyarrow table; columns is their `layout`."""
    import pyarrow

    return pyarrow.Table.from_pylist([schema.flat(row) for row in rows], schema=columns)


def write(path: Path, rows: Iterable[dict], schema: Schema, settings: dict) -> None:
    """Write all rows into a file at `path`, a row group at a time."""
    from pyarrow.parquet import ParquetWriter

    columns = layout(schema, settings)
    with open(path, "wb") as target, ParquetWriter(target, columns) as file:  # pyarrow itself takes UTF-8 names only
        for group in schema.groups(rows):
            file.write_table(table(group, schema, columns))


def read_settings(path: Path) -> dict:
    """The settings in a file that `write` has made; raises anything at all for another one."""
    from pyarrow.parquet import ParquetFile

    with open(path, "rb") as source, ParquetFile(source) as file:  # by Python: a path need not be UTF-8
        return parse_settings((file.schema_arrow.metadata or {})[KEY])


def read_rows(path: Path, schema: Schema) -> Iterator[dict]:
    """The rows in a file that `write` has made; of another one anything at all."""
    from pyarrow.parquet import ParquetFile

    with open(path, "rb") as source, ParquetFile(source) as file:
        if file.schema_arrow.names != list(schema.columns()):
            raise ValueError(f"its columns are not {', '.join(schema.columns())}")
        for batch in file.iter_batches(READ):
            for flat in batch.to_pylist():
                row = {"photo": flat["photo"], "error": flat["error"], "classes": []}
                if row["error"] is None:
                    row["classes"] = [{name: flat[f"{name}_{k}"] for name in ("class", "label", "probability")}
                                      for k in range(1, schema.topk + 1)]
                yield row | ({"embedding": flat["embedding"]} if schema.embedding else {})
