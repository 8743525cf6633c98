"""The output file of a job over many photos: begin it or resume it, append rows, finish it."""
import contextlib
import csv
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ...common.figure_files import write_json
from ...common.paths import StrPath, replacing
from ...common.text import counted, plain
from ...errors import ArgumentError
from ..rows import Schema
from .journal import Journal
from .lines import Csv, Jsonl
from .own_file import open_own
from .settings import check_settings
from .taken_back import LIMIT, REMEDY, naming, parse_settings

LINES = {".csv": Csv, ".jsonl": Jsonl}  # the journal itself
MADE = {".parquet": "parquet", ".h5": "h5"}  # made from the journal by the module of this name
SUFFIXES = (*LINES, *MADE)


def open_output(path: StrPath, schema: Schema, settings: dict, *, resume: bool = False,
                force: bool = False) -> "Output":
    """Begin an output file, or resume it.

    path: ends in .csv, .jsonl, .parquet or .h5
    settings: what determines the rows (`settings.settings_of`)
    resume: keep the existing rows; the caller must then call `Output.skip`
    force: start again, whatever exists

    Raises ArgumentError as `check_form` and `check_output` do, if the existing rows have other settings, and if another
    process is writing the file; OSError from the system.
    """
    check_form(path, embeddings=schema.embedding > 0)
    check_output(path, resume=resume, force=force)
    return Output(Path(path), schema, settings, resume)


def check_form(path: StrPath, *, embeddings: bool) -> None:
    """Raise ArgumentError for a suffix that is not one of SUFFIXES, and for a .csv with embeddings."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ArgumentError(f"output {str(path)!r}: it must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    if suffix == ".csv" and embeddings:
        raise ArgumentError(f"output {str(path)!r}: a .csv has no place for embeddings; write .parquet, .h5 or .jsonl")


def check_output(path: StrPath, *, resume: bool, force: bool) -> None:
    """Raise ArgumentError if rows can't be written: there is no directory, the file exists and neither `resume` nor
    `force` is set, or pyarrow is missing. It changes nothing, so it can be called before the work begins.
    """
    path = Path(path)
    if resume and force:
        raise ArgumentError("resume and force: go on with what is there, or begin anew")
    if path.is_dir() or not path.parent.is_dir():
        raise ArgumentError(f"output {str(path)!r}: " + ("it is a directory; name a file to write" if path.is_dir() else
                                                         "its directory does not exist; make it first"))
    if path.suffix.lower() in MADE:
        _made(path).check()
    there = begun(path)
    if there and not (resume or force):
        what = "exists already" if there == path else f"was begun, its rows so far are in {str(there)!r}"
        raise ArgumentError(f"{str(path)!r} {what}: continue with --resume, start again with --force, or name another "
                            "file")


def begun(path: StrPath) -> Path | None:
    """The file at a path, or else its journal; None if neither exists."""
    return next(filter(os.path.lexists, (Path(path), _journal_path(Path(path)))), None)


def _journal_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.rows.jsonl") if path.suffix.lower() in MADE else path


def _made(path: Path):
    """The module that makes a file with this path's suffix from a journal."""
    return importlib.import_module(f".{MADE[path.suffix.lower()]}", __package__)


class Output:
    """An output file that rows are added to. A context manager: leaving it closes the file and keeps the rows."""

    def __init__(self, path: Path, schema: Schema, settings: dict, resume: bool):
        self.path, self.schema, self.settings = path, schema, settings
        self.count = self.bad = 0  # rows, and those of photos that could not be read
        suffix = path.suffix.lower()
        self._made = _made(path) if suffix in MADE else None
        self._lines = LINES.get(suffix, Jsonl)(schema)
        self._settings_path = path.with_name(f".{path.name}.settings.json")
        self._journal_path = _journal_path(path)
        if resume and os.path.lexists(path) and not os.path.lexists(self._journal_path):
            self._take_back()
        self._journal = Journal(self._journal_path)
        try:
            self._begin(resume)
        except BaseException:
            begun = self._journal.size() > 0
            self._journal.close()
            if not begun:  # an empty file would be taken for a job to resume
                for made in filter(os.path.lexists, (self._journal_path, self._settings_path)):
                    os.unlink(made)
            raise

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *error) -> None:
        self._journal.close()

    def skip(self, photos: Iterator) -> list:
        """Advance past the photos that have a row already, and count them; to be called before the first `add`.

        Returns those whose row is an error, for `renew`. Raises ArgumentError if the rows are not those of the first
        photos, in their order.
        """
        bad = []
        for row in self._rows():
            photo = next(photos, None)
            if photo is None:
                raise ArgumentError(f"{str(self.path)!r} has more rows than the {counted(self.count, 'photo')} given: "
                                    "--resume needs the same photos in the same order, or more of them at the end")
            if plain(photo) != row["photo"]:
                raise ArgumentError(f"row {self.count + 1} of {str(self.path)!r} is of {row['photo']!r}, photo "
                                    f"{self.count + 1} is {plain(photo)!r}: --resume needs the same photos in the "
                                    "same order; name another file, or begin anew with --force")
            self._counted(row)
            if row["error"] is not None:
                bad.append(photo)
        return bad

    def renew(self, rows: Iterator[dict]) -> int:
        """Replace the rows with an error by new rows, in order; returns how many of the new ones have no error.

        If there are fewer new rows, the remaining old ones stay. After an interrupt while it waits for the next row,
        the rows so far are replaced before the interrupt is raised. A crash before the end changes nothing.
        """
        mended, stop = 0, None
        with self._told(), replacing(self._journal_path, force=True) as part:
            with open(part, "wb") as file:
                if self._lines.header is not None:
                    file.write(self._lines.header + b"\n")
                for line, row in self._entries():
                    if row["error"] is not None and not stop:
                        try:
                            new = next(rows, None)
                        except KeyboardInterrupt as interrupt:
                            new, stop = None, interrupt
                        if new is not None:
                            line, mended = self._lines.encode(new), mended + (new["error"] is None)
                    file.write(line + b"\n")
            if sys.platform == "win32":  # it can't replace an open file; elsewhere the lock is held throughout
                self._journal.close()
        before, self._journal = self._journal, Journal(self._journal_path)
        before.close()
        self.bad -= mended
        if stop:
            raise stop
        return mended

    def add(self, row: dict) -> None:
        """Append a row; once this returns, the row survives a killed process."""
        with self._told():
            self._journal.add(self._lines.encode(row))
        self._counted(row)

    def recount(self) -> None:
        """Count the rows in the file: an interrupt may have come after a row was written and before it was counted."""
        self.count = self.bad = 0
        for row in self._rows():
            self._counted(row)

    def publish(self) -> None:
        """Bring the output file up to date with all rows so far."""
        with self._told():
            self._journal.sync()
            if self._made:
                with replacing(self.path, force=True) as part:
                    self._made.write(part, self._rows(), self.schema, self.settings)

    def finish(self) -> None:
        """Remove what only a resumed job needs, after the last `publish`."""
        self._journal.close()
        if self._made:
            self._journal_path.unlink()
            self._settings_path.unlink()

    def _counted(self, row: dict) -> None:
        self.count += 1
        self.bad += row["error"] is not None

    def _begin(self, resume: bool) -> None:
        """Check that the journal's rows have the same settings, or clear it and store ours."""
        if not resume:
            self._journal.clear()
        elif self._journal.size():  # before an incomplete last line is cut off: it may not be our file
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
            with open_own(self._settings_path) as file:
                return parse_settings(file.read(LIMIT + 1))
        except (ValueError, OSError) as problem:
            raise ArgumentError(f"{str(self.path)!r}: what made its rows is not known, since "
                                f"{str(self._settings_path)!r} is missing or damaged "
                                f"({getattr(problem, 'strerror', None) or problem}); "
                                f"{REMEDY}") from problem

    def _write_settings(self) -> None:
        write_json(self._settings_path, self.settings, force=True)

    def _take_back(self) -> None:
        """Make a journal from a finished file, or from one whose journal is gone."""
        open_own(self.path).close()  # refuses links and pipes, which a library would open
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
        """The journal's rows; from a .csv only the "photo" and "error" of each."""
        return (row for _, row in self._entries())

    def _entries(self) -> Iterator[tuple[bytes, dict]]:
        """Yield each line of the journal with its row."""
        lines = self._journal.lines()
        if self._lines.header is not None and next(lines, None) != self._lines.header:
            raise ArgumentError(f"{str(self.path)!r}: its first line does not name the columns that it has; {REMEDY}")
        for number, line in enumerate(lines, 1):
            try:
                row = self._lines.decode(line)
            except (ValueError, RecursionError, csv.Error) as problem:
                raise ArgumentError(f"{str(self.path)!r}: row {number} is not as npefficient wrote it ({problem}); "
                                    f"{REMEDY}") from problem
            yield line, row

    @contextlib.contextmanager
    def _told(self):
        """Add the path and the number of rows kept to an error from the system."""
        try:
            yield
        except OSError as problem:
            why = os.strerror(problem.errno) if problem.errno else problem  # pyarrow's is longer and lacks the path
            raise OSError(problem.errno, f"{why}; the {self.count:,} rows before are kept: once that is fixed, "
                          "continue with --resume", str(self.path)) from problem
