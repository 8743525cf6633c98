"""One file for the rows of many photos: opened, appended to, gone on with, finished."""
import contextlib
import csv
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ...common.figure_files import write_json
from ...common.paths import StrPath, replacing
from ...common.text import plain
from ...errors import ArgumentError
from ..rows import Schema
from .journal import Journal
from .lines import Csv, Jsonl
from .own_file import open_own
from .settings import check_settings
from .taken_back import LIMIT, REMEDY, naming, parse_settings

LINES = {".csv": Csv, ".jsonl": Jsonl}  # the journal itself
MADE = {".parquet": "parquet", ".h5": "h5"}  # made from the journal, by the module of this name
SUFFIXES = (*LINES, *MADE)


def open_output(path: StrPath, schema: Schema, settings: dict, *, resume: bool = False,
                force: bool = False) -> "Output":
    """Begin a file for rows, or go on with it.

    path: ends in .csv, .jsonl, .parquet or .h5
    settings: what makes the rows (`settings.settings_of`)
    resume: keep the rows that are there; `Output.skip` has to be called
    force: begin anew, whatever is there

    Raises ArgumentError as `check_form` and `check_output` do, for rows of other settings, and where another process
    writes the file; OSError from the system.
    """
    check_form(path, embeddings=schema.embedding > 0)
    check_output(path, resume=resume, force=force)
    return Output(Path(path), schema, settings, resume)


def check_form(path: StrPath, *, embeddings: bool) -> None:
    """Raise ArgumentError for a suffix that no form of rows has, and for one that has no place for what is in them."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ArgumentError(f"output {str(path)!r}: it must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    if suffix == ".csv" and embeddings:
        raise ArgumentError(f"output {str(path)!r}: a .csv has no place for embeddings; write .parquet, .h5 or .jsonl")


def check_output(path: StrPath, *, resume: bool, force: bool) -> None:
    """Raise ArgumentError where no rows can be written: no directory, something there already and neither `resume` nor
    `force`, or pyarrow is missing. It needs no rows, and leaves no trace: to be asked before the work.
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
        raise ArgumentError(f"{str(path)!r} {what}: go on with --resume, begin anew with --force, or name another file")


def begun(path: StrPath) -> Path | None:
    """The file at a path, or its journal, whichever is there."""
    return next(filter(os.path.lexists, (Path(path), _journal_path(Path(path)))), None)


def _journal_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.rows.jsonl") if path.suffix.lower() in MADE else path


def _made(path: Path):
    """The module that makes the file at a path from its journal."""
    return importlib.import_module(f".{MADE[path.suffix.lower()]}", __package__)


class Output:
    """Rows on their way into a file. A context manager; leaving it lets go of the file and keeps the rows."""

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
            self._journal.close()
            raise

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *error) -> None:
        self._journal.close()

    def skip(self, photos: Iterator) -> list:
        """Take those photos off that have a row already, and count them; to be called before the first `add`.

        Returns those of them that could not be read, for `renew`. Raises ArgumentError where the rows are not those of
        the first photos.
        """
        bad = []
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
            if row["error"] is not None:
                bad.append(photo)
        return bad

    def renew(self, rows: Iterator[dict]) -> int:
        """Put new rows in the places of those that say an error, in their order; return how many say none now.

        Fewer rows leave the others as they are. So does an interrupt while the next row is awaited, which is raised
        when those before are in their places; a crash before that leaves all as they were.
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
            if sys.platform == "win32":  # which replaces no open file; elsewhere the lock is held throughout
                self._journal.close()
        before, self._journal = self._journal, Journal(self._journal_path)
        before.close()
        self.bad -= mended
        if stop:
            raise stop
        return mended

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
        """Make a journal from a file that was finished, or whose journal is gone."""
        open_own(self.path).close()  # a link would be followed, a pipe waits for ever
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
        return (row for _, row in self._entries())

    def _entries(self) -> Iterator[tuple[bytes, dict]]:
        """The journal's lines, each with its row."""
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
        """Say where a failure of the system happened, and that the rows are safe."""
        try:
            yield
        except OSError as problem:
            why = os.strerror(problem.errno) if problem.errno else problem  # pyarrow has more words, and not the path
            raise OSError(problem.errno, f"{why}; the {self.count:,} rows before are kept: when that is cured, go on "
                          "with --resume", str(self.path)) from problem
