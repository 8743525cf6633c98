"""Files of rows that can't be written or resumed: the error comes before any work, and no row is lost."""
import errno
import os
import subprocess
import sys

import pytest
from job_rows import LABELS, MADE, expected, forms, photos, read, schema, settings, work

from npefficient.errors import ArgumentError
from npefficient.jobs.output import files as output_files
from npefficient.jobs.output import open_output
from npefficient.jobs.output.journal import Journal
from npefficient.jobs.rows import Schema


def files(path):
    return sorted(file.name for file in path.parent.iterdir())


@forms
def test_what_is_there_is_refused(path, suffix):
    work(path, photos(2))
    before = path.read_bytes()
    with pytest.raises(ArgumentError, match=rf"out{suffix}' exists already: continue with --resume, start again"):
        work(path, photos(3))
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", MADE)
def test_what_was_begun_is_refused(path, suffix):
    work(path, photos(2), finish=False)
    with pytest.raises(ArgumentError, match=rf"out{suffix}' was begun, its rows so far are in .*\.rows\.jsonl': cont"):
        work(path, photos(3))


@forms
@pytest.mark.parametrize("finish", [True, False], ids=["finished", "killed"])
def test_other_settings_are_refused(path, suffix, finish):
    work(path, photos(3), finish=finish)
    before = {file: (path.parent / file).read_bytes() for file in files(path)}
    with pytest.raises(ArgumentError, match="was begun with model 'lite0', and now 'lite1': --resume needs the same"):
        work(path, photos(3), resume=True, made=settings(model="lite1"))
    with pytest.raises(ArgumentError, match="was begun with k None, and now 3; topk 2, and now None: --resume"):
        work(path, photos(3), resume=True, made={"model": "lite0", "k": 3, "embedding": 6})
    assert {file: (path.parent / file).read_bytes() for file in files(path)} == before


@forms
@pytest.mark.parametrize("names, message", [
    (photos(2), "has more rows than the 2 photos given"),
    (["0 a,b.jpg", "other.jpg", "x"], r"row 2 of '.*' is of '1 quo\"te.jpg', photo 2 is 'other.jpg'"),
    ([], "has more rows than the 0 photos"),
], ids=["fewer", "another", "none"])
def test_other_photos_are_refused(path, suffix, names, message):
    work(path, photos(3))
    before = read(path)
    with pytest.raises(ArgumentError, match=message):
        work(path, names, resume=True)
    work(path, photos(4), resume=True)
    assert read(path)[:3] == before


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("damage", [None, "{", ""], ids=["missing", "torn", "empty"])
def test_rows_of_unknown_origin_are_refused(path, suffix, damage):
    work(path, photos(3))
    beside = path.with_name(f".{path.name}.settings.json")
    beside.unlink() if damage is None else beside.write_text(damage)
    with pytest.raises(ArgumentError, match=rf"what made its rows is not known, since '.*out{suffix}\.settings\.json'"):
        work(path, photos(3), resume=True)


@pytest.mark.parametrize("suffix", MADE)
@pytest.mark.parametrize("text", [b"", b"whatever", b"PAR1" * 100, b"\x89HDF\r\n\x1a\n" * 100], ids=repr)
def test_a_file_that_is_not_ours_is_refused(path, suffix, text):
    path.write_bytes(text)
    with pytest.raises(ArgumentError, match=rf"out{suffix}': not a file of rows that npefficient wrote"):
        work(path, photos(3), resume=True)
    assert path.read_bytes() == text and files(path) == [path.name]


@pytest.mark.parametrize("suffix", MADE)
def test_a_file_of_another_program_is_refused(path, suffix):
    if suffix == ".h5":
        import h5py

        h5py.File(path, "w").close()
    else:
        import pyarrow
        from pyarrow.parquet import write_table

        write_table(pyarrow.table({"photo": ["a"]}), path)
    with pytest.raises(ArgumentError, match=rf"out{suffix}': not a file of rows that npefficient wrote"):
        work(path, photos(3), resume=True)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("edit", ["a,b", '{"photo": 3, "error": null}', '"', "[]", ""], ids=repr)
def test_an_edited_line_is_refused(path, suffix, edit):
    work(path, photos(5))
    lines = path.read_text().split("\n")
    lines[3] = edit
    path.write_text("\n".join(lines))
    with pytest.raises(ArgumentError, match=rf"out{suffix}': row {3 if suffix == '.csv' else 4} is not as npefficient"):
        work(path, photos(5), resume=True)


def test_a_csv_of_other_columns_is_refused(tmp_path):
    path = tmp_path / "out.csv"
    work(path, photos(5))
    path.write_text(path.read_text().replace("class_1", "Class 1"))
    with pytest.raises(ArgumentError, match="out.csv': its first line does not name the columns"):
        work(path, photos(5), resume=True)


@pytest.mark.parametrize("name, message", [
    ("out.txt", r"out.txt': it must end in .csv, .jsonl, .parquet or .h5"), ("out", "out': it must end in"),
    (".csv", ".csv': it must end in"), ("none/out.csv", "none/out.csv': its directory does not exist"),
    ("folder.csv", "folder.csv': it is a directory"),
])
def test_paths_that_cannot_be_written(tmp_path, name, message):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ArgumentError, match=message):
        open_output(tmp_path / name, schema(".csv"), settings(), force=True)
    assert [file.name for file in tmp_path.iterdir()] == ["folder.csv"]


def test_csv_refuses_embeddings(tmp_path):
    with pytest.raises(ArgumentError, match="out.csv': a .csv has no place for embeddings; write .parquet"):
        open_output(tmp_path / "out.csv", Schema(LABELS, 2, 1280), settings())


def test_resume_and_force_exclude_each_other(tmp_path):
    with pytest.raises(ArgumentError, match="resume and force: go on with what is there, or begin anew"):
        open_output(tmp_path / "out.csv", schema(".csv"), settings(), resume=True, force=True)


@forms
@pytest.mark.parametrize("how", [{"resume": True}, {"force": True}], ids=str)
def test_another_process_that_writes_is_not_disturbed(path, suffix, how):
    with open_output(path, schema(suffix), settings()) as output:
        output.add(expected(suffix, photos(1))[0])
        with pytest.raises(ArgumentError, match="another process is writing it; wait"):
            work(path, photos(3), **how)
        for row in expected(suffix, photos(9))[1:]:
            output.add(row)
        output.publish()
    assert len(read(path)) == 9


class Locks:
    """Stands for `msvcrt`: a byte of a file can be locked once at a time, whoever asks."""

    LK_NBLCK = 2

    def __init__(self):
        self.taken = set()

    def locking(self, handle, mode, count):
        where = os.fstat(handle).st_ino, os.lseek(handle, 0, os.SEEK_CUR)
        if mode != self.LK_NBLCK or count != 1 or where[1] <= os.fstat(handle).st_size:
            raise ValueError("a lock that waits, or inside of the file, which others could not read then")
        if where in self.taken:
            raise PermissionError(13, "Permission denied")
        self.taken.add(where)


@forms
def test_another_process_is_kept_out_without_flock(path, suffix, monkeypatch):
    locks = Locks()
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", locks)
    with open_output(path, schema(suffix), settings()) as output:
        with pytest.raises(ArgumentError, match="another process is writing it; wait"):
            work(path, photos(3), resume=True)
        for row in expected(suffix, photos(3)):
            output.add(row)
        output.publish()
    locks.taken.clear()  # as the system does where a process closes the file
    assert work(path, photos(9), resume=True) == (9, 2) and read(path) == expected(suffix, photos(9))


@forms
def test_system_without_locks(path, suffix, monkeypatch):
    for name in ("fcntl", "msvcrt"):
        monkeypatch.setitem(sys.modules, name, None)
    assert work(path, photos(3)) == (3, 0) and read(path) == expected(suffix, photos(3))


def test_parquet_without_pyarrow(tmp_path):
    script = f"""
import sys
sys.modules["pyarrow"] = None
from npefficient.jobs.output import open_output
from job_rows import schema, settings
from pathlib import Path
try:
    open_output({str(tmp_path / "out.parquet")!r}, schema(), settings())
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert "python -m pip install pyarrow" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


@forms
@pytest.mark.parametrize("how", [{}, {"force": True}], ids=["anew", "forced"])
def test_what_can_not_be_begun_leaves_nothing(path, suffix, how, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    if how:
        work(path, photos(3), finish=False)
    if suffix == ".csv":
        monkeypatch.setattr(Journal, "add", full)  # of the header, when the settings are there
    else:
        monkeypatch.setattr(output_files, "write_json", full)
    with pytest.raises(OSError, match="No space left on device"):
        work(path, photos(3), **how)
    assert files(path) == []


@forms
def test_a_name_too_long_for_the_files_beside_it_leaves_nothing(tmp_path, suffix):
    path = tmp_path / ("n" * (250 - len(suffix)) + suffix)
    with pytest.raises(OSError, match="File name too long"):
        work(path, photos(3))
    assert files(path) == []
