"""Files of rows: the same rows in every format, and how a job is resumed after it ended in any way."""
import json
import signal

import pytest
from job_rows import LABELS, MADE, expected, forms, journal_of, photos, read, schema, settings, work

from npefficient.jobs.output import h5, open_output


def files(path):
    return sorted(file.name for file in path.parent.iterdir())


@forms
@pytest.mark.parametrize("count", [0, 1, 9])
def test_rows_come_back(path, suffix, count):
    names = photos(count)
    assert work(path, names) == (count, count // 4)
    assert read(path) == expected(suffix, names)
    assert files(path) == ([f"out{suffix}"] if suffix in MADE else [f".out{suffix}.settings.json", f"out{suffix}"])


@forms
def test_rows_of_more_than_one_group(path, suffix, monkeypatch):
    monkeypatch.setattr("npefficient.jobs.rows.GROUP", 20)
    work(path, photos(30))
    assert read(path) == expected(suffix, photos(30))
    work(path, photos(31), resume=True)
    assert read(path) == expected(suffix, photos(31))


def test_suffix_may_be_in_capitals(tmp_path):
    with open_output(tmp_path / "out.CSV", schema(".csv"), settings()) as output:
        output.publish()
    assert (tmp_path / "out.CSV").read_text().startswith("photo,error,class_1,label_1,probability_1,class_2")


def test_parquet_has_typed_columns(tmp_path):
    from pyarrow.parquet import ParquetFile

    work(tmp_path / "out.parquet", photos(5))
    layout = ParquetFile(tmp_path / "out.parquet").schema_arrow
    assert [str(kind) for kind in layout.types] == ["string", "string", *["int64", "string", "float"] * 2,
                                                    "list<element: float>"]
    assert json.loads(layout.metadata[b"npefficient"]) == settings()


def test_h5_has_typed_arrays(tmp_path):
    import h5py

    work(tmp_path / "out.h5", photos(5))
    with h5py.File(tmp_path / "out.h5") as file:
        assert {name: (data.shape, str(data.dtype)) for name, data in file.items()} == {
            "photo": ((5,), "object"), "error": ((5,), "object"), "classes": ((5, 2), "int64"),
            "probabilities": ((5, 2), "float32"), "embeddings": ((5, 6), "float32"), "labels": ((4,), "object")}
        assert tuple(file["labels"].asstr()) == LABELS and json.loads(file.attrs["npefficient"]) == settings()


# --- going on --------------------------------------------------------------------------------------------------------


@forms
@pytest.mark.parametrize("stop", [0, 1, 4, 9])
@pytest.mark.parametrize("finish", [True, False], ids=["finished", "killed"])
def test_resume_does_the_rest(path, suffix, stop, finish):
    """Rows are kept if the process ends at once; a finished file is continued with a longer list."""
    names = photos(9)
    work(path, names, stop=stop, finish=finish)
    assert work(path, names, resume=True) == (9, 2)
    assert read(path) == expected(suffix, names)


@forms
def test_resume_begins_where_there_is_nothing(path, suffix):
    work(path, photos(5), resume=True)
    assert read(path) == expected(suffix, photos(5))


@forms
def test_resume_again_changes_nothing(path, suffix):
    work(path, photos(9))
    before = read(path)
    assert work(path, photos(9), resume=True) == (9, 2) and read(path) == before


@forms
def test_publish_shows_the_rows_so_far(path, suffix):
    form = schema(suffix)
    rows = expected(suffix, photos(9))
    with open_output(path, form, settings()) as output:
        for count, row in enumerate(rows):
            output.publish()
            assert read(path) == rows[:count]
            output.add(row)
    assert work(path, photos(9), resume=True) == (9, 2) and read(path) == rows


@forms
def test_recount_counts_a_row_that_was_not_counted(path, suffix, monkeypatch):
    """As if an interrupt came right after the row was written."""
    def interrupt(row):
        raise KeyboardInterrupt

    rows = expected(suffix, photos(9))
    with open_output(path, schema(suffix), settings()) as output:
        for row in rows[:7]:
            output.add(row)
        monkeypatch.setattr(output, "_counted", interrupt)
        with pytest.raises(KeyboardInterrupt, match="^$"):
            output.add(rows[7])
        monkeypatch.undo()
        assert (output.count, output.bad) == (7, 1)
        output.recount()
        assert (output.count, output.bad) == (8, 2)


@forms
@pytest.mark.parametrize("rest", [b"", b'{"photo": "x', b"\0" * 500, b"\0" * 100 + b'"}\n' + b'{"photo": "y'],
                         ids=["cut", "torn_line", "zeros", "zeros_and_ends"])
def test_resume_takes_off_what_is_torn(path, suffix, rest):
    """Wherever the journal is cut off, and whatever a power cut has left at its end."""
    names, form = photos(3), schema(suffix)
    work(path, names, finish=False)
    journal = journal_of(path)
    whole = journal.read_bytes()
    for cut in range(0, len(whole) + 1, 1 if suffix == ".csv" else 7):
        journal.write_bytes(whole[:cut] + (rest if whole[:cut].endswith(b"\n") or b"\0" in rest else b""))
        with open_output(path, form, settings(), resume=True) as output:
            output.skip(iter(names))
            assert output.count == max(0, whole[:cut].count(b"\n") - (suffix == ".csv"))
            for row in expected(suffix, names)[output.count:]:
                output.add(row)
        assert journal.read_bytes() == whole


@forms
def test_force_begins_anew(path, suffix):
    path.write_bytes(b"whatever")
    work(path, photos(4), force=True, stop=2, finish=False)
    work(path, photos(5), force=True, made=settings(model="lite1"))
    assert read(path) == expected(suffix, photos(5))


@forms
def test_force_that_was_killed_does_not_bring_back_the_old_rows(path, suffix):
    work(path, photos(9))
    work(path, photos(9)[::-1], force=True, stop=2, finish=False, made=settings(model="lite1"))
    work(path, photos(9)[::-1], resume=True, made=settings(model="lite1"))
    assert read(path) == expected(suffix, photos(9)[::-1])


def test_a_handler_that_returns_lets_the_file_be_finished(tmp_path, monkeypatch):
    """As of a program that only notes a signal, and ends later."""
    rows, seen = expected(".h5", photos(9)), []
    monkeypatch.setattr("npefficient.jobs.rows.GROUP", 1)  # rows in memory at once

    def interrupted():
        for row in rows:
            signal.raise_signal(signal.SIGTERM)
            yield row

    before = signal.signal(signal.SIGTERM, lambda *arguments: seen.append(1))
    try:
        h5.write(tmp_path / "out.h5", interrupted(), schema(".h5"), settings())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [1] and read(tmp_path / "out.h5") == rows
