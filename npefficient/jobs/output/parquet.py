"""Rows as a Parquet file, through pyarrow.

The columns are those of `Schema.flat`; null where a photo could not be read. The file's own metadata holds the settings
under "npefficient", as JSON.
"""
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...common.extras import install
from ...errors import ArgumentError
from ..rows import Schema
from .own_file import open_own
from .taken_back import LONGEST, parse_settings

READ = 256  # rows that are read at once
FEW = 1 << 20  # rows that a file of any size may have; more need at least a byte each for the photo's name
UNPACKED = 1 << 28  # bytes of a row group (`Schema.groups`), whose values are 2 MiB: names of thousands of bytes fit
STORED = {"text": "BYTE_ARRAY", "int64": "INT64", "float32": "FLOAT", "float32 list": "FLOAT"}
KEY = b"npefficient"


def check() -> None:
    """Raise ArgumentError where pyarrow is missing."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as problem:
        raise ArgumentError(f".parquet needs pyarrow ({problem}): {install('parquet')}, or "
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
    """The settings in a file that `write` has made; raises any exception for a different file."""
    from pyarrow.parquet import ParquetFile

    with open_own(path) as source, ParquetFile(source) as file:  # opened by Python: a path need not be UTF-8
        return parse_settings((file.schema_arrow.metadata or {})[KEY])


def read_rows(path: Path, schema: Schema) -> Iterator[dict]:
    """The rows in a file that `write` has made; of a different file any values, or any exception."""
    from pyarrow.parquet import ParquetFile

    texts = [name for name, kind in schema.columns().items() if kind == "text"]
    with open_own(path) as source:
        with ParquetFile(source) as file:
            _check(file, schema, source.seek(0, 2))
        # Dictionary-encoded: a text that occurs in millions of rows is in memory once.
        file = ParquetFile(source, read_dictionary=texts)
        for batch in file.iter_batches(READ):
            for name in texts:
                _check_lengths(name, batch[name])
            for flat in batch.to_pylist():
                row = {"photo": flat["photo"], "error": flat["error"], "classes": []}
                if row["error"] is None:
                    row["classes"] = [{name: flat[f"{name}_{k}"] for name in ("class", "label", "probability")}
                                      for k in range(1, schema.topk + 1)]
                yield row | ({"embedding": flat["embedding"]} if schema.embedding else {})


def _check(file, schema: Schema, size: int) -> None:
    """Raise ValueError unless `write` could have made this, before a row is read.

    A few bytes of an edited file may claim any number of rows and decompress to any size, except with Snappy, where 3
    bytes stand for at most 64.
    """
    wanted, metadata = schema.columns(), file.metadata
    stored = [file.schema.column(place) for place in range(metadata.num_columns)]
    if [column.path.split(".")[0] for column in stored] != list(wanted):
        raise ValueError(f"its columns are not {', '.join(wanted)}")
    for (name, kind), column in zip(wanted.items(), stored):
        if column.physical_type != STORED[kind]:
            raise ValueError(f"its column {name!r} is not {kind}")
    if metadata.num_rows > size + FEW:
        raise ValueError(f"it claims {metadata.num_rows:,} rows in {size:,} bytes")
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        columns = [group.column(place) for place in range(group.num_columns)]
        if any(column.compression not in ("SNAPPY", "UNCOMPRESSED") for column in columns):
            raise ValueError("it is compressed, but not with Snappy")
        if sum(column.total_uncompressed_size for column in columns) > UNPACKED:
            raise ValueError(f"{group.num_rows:,} rows in one group of more than {UNPACKED:,} bytes")
        if any(column.num_values > group.num_rows * max(1, schema.embedding) for column in columns):
            raise ValueError(f"more values than {group.num_rows:,} rows have")


def _check_lengths(name: str, column) -> None:
    """Raise ValueError for a text that is longer than any row has."""
    from pyarrow import compute

    longest = compute.max(compute.binary_length(column.dictionary)).as_py()
    if longest is not None and longest > LONGEST:
        raise ValueError(f"a {name!r} of {longest:,} bytes")
