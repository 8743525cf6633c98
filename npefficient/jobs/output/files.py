"""One file for the rows of many photos: opened, appended to, gone on with, finished."""
import contextlib
import csv
import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from ...common.paths import StrPath, replacing
from ...common.text import plain
from ...errors import ArgumentError
from ..rows import Schema
from .journal import Journal
from .lines import Csv, Jsonl
from .settings import check_settings
from .taken_back import LIMIT, REMEDY, naming, parse_settings

LINES = {".csv": Csv, ".jsonl": Jsonl}  # the journal itself
MADE = {".parquet": "parquet", ".h5": "h5"}  # made from the journal, by the module of this name
SUFFIXES = (*LINES, *MADE)


def open_output(path: StrPath, schema: Schema, settings: dict, *, resume: bool = False, force: bool = False) -> "Output":
    """Begin a file for rows, or go on with it.

    path: ends in .csv, .jsonl, .parquet or .h5
    settings: what makes the rows (`settings.settings_of`)
    resume: keep the rows that are there; `Output.skip` has to be called
    force: begin anew, whatever is there

    Raises ArgumentError where the path can't be used: another suffix, something there already and neither `resume` nor
    `force`, rows of other settings, another process that writes it, or pyarrow is missing; OSError from the system.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ArgumentError(f"output {str(path)!r}: it must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    if path.is_dir() or not path.parent.is_dir():
        raise ArgumentError(f"output {str(path)!r}: " + ("it is a directory; name a file to write" if path.is_dir() else
                                                         "its directory does not exist; make it first"))
    if suffix == ".csv" and schema.embedding:
        raise ArgumentError(f"output {str(path)!r}: a .csv has no place for embeddings of {schema.embedding} values; "
                            "write .parquet, .h5 or .jsonl")
    if resume and force:
        raise ArgumentError("resume and force: go on with what is there, or begin anew")
    return Output(path, schema, settings, resume, force)


class Output:
    """Rows on their way into a file. A context manager; leaving it lets go of the file and keeps the rows."""

    def __init__(self, path: Path, schema: Schema, settings: dict, resume: bool, force: bool):
        self.path, self.schema, self.settings = path, schema, settings
        self.count = self.bad = 0  # rows, and those of photos that could not be read
        suffix = path.suffix.lower()
        self._made = importlib.import_module(f".{MADE[suffix]}", __package__) if suffix in MADE else None
        self._lines = LINES.get(suffix, Jsonl)(schema)
        self._settings_path = path.with_name(f".{path.name}.settings.json")
        self._journal_path = path.with_name(f".{path.name}.rows.jsonl") if self._made else path
        if self._made:
            self._made.check()
        if not (resume or force):
            self._check_free()
        if resume and path.exists() and not self._journal_path.exists():
            self._take_back()
        self._journal = Journal(self._journal_path)
        try:
            self._begin(resume)
        except BaseException:
            self._journal.close()
            raise

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *error) -> None:
        self._journal.close()

    def skip(self, photos: Iterator) -> None:
        """Take those photos off that have a row already, and count them; to be called before the first `add`.

        Raises ArgumentError where the rows are not those of the first photos.
        """
        for row in self._rows():
            photo = next(photos, None)
            if photo is None:
                raise ArgumentError(f"{str(self.path)!r} has more rows than the {self.count} photos that are given: "
                                    "--resume needs the same photos in the same order, or more of them at the end")
            if plain(photo) != row["photo"]:
                raise ArgumentError(f"row {self.count + 1} of {str(self.path)!r} is of {row['photo']!r}, photo "
                                    f"{self.count + 1} is {plain(photo)!r}: --resume needs the same photos in the "
                                    "same order; name another file, or begin anew with --force")
            self._counted(row)

    def add(self, row: dict) -> None:
        """Append a row; a process that is killed from here on does not lose it."""
        with self._told():
            self._journal.add(self._lines.encode(row))
        self._counted(row)

    def recount(self) -> None:
        """Count what is there: an interrupt may have come between a row and its being counted."""
        self.count = self.bad = 0
        for row in self._rows():
            self._counted(row)

    def publish(self) -> None:
        """Let the file at the path have all rows so far."""
        with self._told():
            self._journal.sync()
            if self._made:
                with replacing(self.path, force=True) as part:
                    self._made.write(part, self._rows(), self.schema, self.settings)

    def finish(self) -> None:
        """Take away what only going on needs, after `publish`: the job is done."""
        self._journal.close()
        if self._made:
            self._journal_path.unlink()
            self._settings_path.unlink()

    def _counted(self, row: dict) -> None:
        self.count += 1
        self.bad += row["error"] is not None

    def _check_free(self) -> None:
        for there in (self.path, self._journal_path):
            if os.path.lexists(there):
                what = "exists already" if there == self.path else f"was begun, its rows so far are in {str(there)!r}"
                raise ArgumentError(f"{str(self.path)!r} {what}: go on with --resume, begin anew with --force, or name "
                                    "another file")

    def _begin(self, resume: bool) -> None:
        """Make sure that the journal's rows are of the same settings, or clear it and write ours down."""
        if not resume:
            self._journal.clear()
        elif self._journal.size():  # before a torn end is cut off: it may be another's file
            check_settings(self.path, self._written_settings(), self.settings)
        with contextlib.closing(self._journal.lines()) as lines:
            begun = next(lines, None) is not None
        if begun:
            return
        self._write_settings()
        if self._lines.header is not None:
            with self._told():
                self._journal.add(self._lines.header)

    def _written_settings(self) -> dict:
        try:
            if not self._settings_path.is_file():  # a pipe would wait for ever
                raise ValueError("no file")
            with open(self._settings_path, "rb") as file:
                return parse_settings(file.read(LIMIT + 1))
        except ValueError as problem:
            raise ArgumentError(f"{str(self.path)!r}: what made its rows is not known, since "
                                f"{str(self._settings_path)!r} is missing or damaged ({problem}); "
                                f"{REMEDY}") from problem

    def _write_settings(self) -> None:
        with replacing(self._settings_path, force=True) as part:
            part.write_text(json.dumps(self.settings, indent=1) + "\n")

    def _take_back(self) -> None:
        """Make a journal from a file that was finished, or whose journal is gone."""
        if not self.path.is_file():
            raise ArgumentError(f"{str(self.path)!r} is a pipe or a device: name a file to go on with")
        with naming(self.path):
            before = self._made.read_settings(self.path)
        check_settings(self.path, before, self.settings)
        with replacing(self._journal_path, force=True) as part, open(part, "wb") as journal:
            for row in self._rows_of_made():
                journal.write(self._lines.encode(row) + b"\n")
            self._write_settings()

    def _rows_of_made(self) -> Iterator[dict]:
        with naming(self.path):
            for row in self._made.read_rows(self.path, self.schema):
                self.schema.check(row)
                yield row

    def _rows(self) -> Iterator[dict]:
        """The journal's rows; a .csv has only "photo" and "error" of each."""
        lines = self._journal.lines()
        if self._lines.header is not None and next(lines, None) != self._lines.header:
            raise ArgumentError(f"{str(self.path)!r}: its first line does not name the columns that it has; {REMEDY}")
        for number, line in enumerate(lines, 1):
            try:
                row = self._lines.decode(line)
            except (ValueError, RecursionError, csv.Error) as problem:
                raise ArgumentError(f"{str(self.path)!r}: row {number} is not as npefficient wrote it ({problem}); "
                                    f"{REMEDY}") from problem
            yield row

    @contextlib.contextmanager
    def _told(self):
        """Say where a failure of the system happened, and that the rows are safe."""
        try:
            yield
        except OSError as problem:
            why = os.strerror(problem.errno) if problem.errno else problem  # pyarrow has more words, and not the path
            raise OSError(problem.errno, f"{why}; the {self.count:,} rows before are kept: when that is cured, go on "
                          "with --resume", str(self.path)) from problem
