"""Rows as lines of text: JSON, one object a line, and CSV, whose first line names the columns."""
import csv
import io
import json

from ...common.text import cell, from_cell
from ..rows import Schema


class Jsonl:
    """A row (`rows.py`) as a JSON object."""

    def __init__(self, schema: Schema):
        self.schema, self.header = schema, None

    def encode(self, row: dict) -> bytes:
        return json.dumps(row).encode()

    def decode(self, line: bytes) -> dict:
        """The row; raises ValueError or RecursionError for an invalid line."""
        row = json.loads(line)
        self.schema.check(row)
        return row


class Csv:
    """A row spread over columns (`Schema.flat`), texts escaped by `text.cell`; None is an empty field."""

    def __init__(self, schema: Schema):
        self.schema, self.columns = schema, list(schema.columns())
        self.header = self._line(self.columns)

    def encode(self, row: dict) -> bytes:
        return self._line(self.schema.flat(row).values())

    def decode(self, line: bytes) -> dict:
        """"photo" and "error" of a row; raises ValueError or csv.Error for an invalid line."""
        fields = next(csv.reader([line.decode()], strict=True), [])
        if len(fields) != len(self.columns):
            raise ValueError(f"{len(fields)} fields")
        return {"photo": from_cell(fields[0]), "error": from_cell(fields[1]) or None}

    @staticmethod
    def _line(fields) -> bytes:
        text = io.StringIO()
        fields = [cell(field) if isinstance(field, str) else field for field in fields]
        csv.writer(text, lineterminator="").writerow(fields)
        return text.getvalue().encode()
