"""Files of rows, and those beside them, that someone else has put there: no link is followed, nothing takes more
memory than its bytes warrant, and whole rows are not thrown away."""
import os
import struct

import h5py
import pytest
from job_rows import expected, forms, journal_of, photos, read, schema, settings, work
from pyarrow import parquet

from npefficient.errors import ArgumentError
from npefficient.jobs.output import h5_texts, open_output
from npefficient.jobs.rows import Schema

NAMES = photos(5)  # the fourth one is bad


def refused(path, message, **how):
    before = {file.name: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}
    with pytest.raises(ArgumentError, match=message):
        work(path, NAMES, **how or {"resume": True})
    assert before == {file.name: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}


# --- links -----------------------------------------------------------------------------------------------------------


@forms
@pytest.mark.parametrize("how", ["resume", "force"])
@pytest.mark.parametrize("there", [True, False], ids=["to_a_file", "to_nothing"])
def test_a_journal_is_no_link(tmp_path, suffix, how, there):
    path, victim = tmp_path / f"out{suffix}", tmp_path / "victim"
    if there:
        victim.write_bytes(b"dear\n")
    journal_of(path).symlink_to(victim)
    refused(path, f"{journal_of(path).name}' is a symbolic link, .*: name the file itself, or remove",
            **{how: True})
    assert victim.exists() == there and (not there or victim.read_bytes() == b"dear\n")


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="Windows has no such flag")
@forms
def test_a_link_that_comes_between_the_look_and_the_opening(tmp_path, suffix, monkeypatch):
    path, victim = tmp_path / f"out{suffix}", tmp_path / "victim"
    victim.write_bytes(b"dear\n")
    journal_of(path).symlink_to(victim)
    monkeypatch.setattr(os.path, "islink", lambda path: False)
    with pytest.raises(OSError, match="symbolic link"):
        work(path, NAMES, force=True)
    assert victim.read_bytes() == b"dear\n"


@pytest.mark.parametrize("suffix", [".parquet", ".h5"])
def test_a_finished_file_is_no_link(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    work(path, NAMES)
    path.rename(tmp_path / "other")
    path.symlink_to(tmp_path / "other")
    refused(path, f"out{suffix}' is a symbolic link")


@forms
def test_settings_are_no_link(tmp_path, suffix):
    path, secret = tmp_path / f"out{suffix}", tmp_path / "secret.json"
    work(path, NAMES, finish=False)
    beside = tmp_path / f".out{suffix}.settings.json"
    beside.rename(secret)
    beside.symlink_to(secret)
    refused(path, "what made its rows is not known, .*settings.json' is a symbolic link")


@forms
def test_rows_are_read_from_the_file_that_is_written(tmp_path, suffix):
    """A different file that takes its name meanwhile changes nothing."""
    path = tmp_path / f"out{suffix}"
    with open_output(path, schema(suffix), settings()) as output:
        for row in expected(suffix, NAMES):
            output.add(row)
        journal_of(path).rename(tmp_path / "moved")
        journal_of(path).write_bytes(b"{}\n")
        output.recount()
        assert output.count == 5


# --- damage in the middle --------------------------------------------------------------------------------------------


@forms
@pytest.mark.parametrize("line", [0, 2])
def test_zeros_before_whole_rows_are_damage(tmp_path, suffix, line):
    path = tmp_path / f"out{suffix}"
    work(path, NAMES, finish=False)
    journal = journal_of(path)
    lines = journal.read_bytes().splitlines(keepends=True)
    whole = b"".join(lines[:line])
    journal.write_bytes(whole + lines[line][:4] + b"\0" + lines[line][5:] + b"".join(lines[line + 1:]))
    refused(path, rf"{journal.name}': line {line + 1} is damaged \(zeros\), and whole ones follow it, .*repair that "
                  f"line, or truncate the file to the {len(whole)} bytes before it")
    os.truncate(journal, len(whole))
    assert work(path, NAMES, resume=True) == (5, 1) and read(path) == expected(suffix, NAMES)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("content", [b"my only notes, without an end", "name,price\nx,1\n".encode("utf-16")],
                         ids=["no_end_of_line", "utf_16"])
def test_file_that_was_never_ours_stays(tmp_path, suffix, content):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(content)
    with pytest.raises(ArgumentError, match="what made its rows is not known"):
        open_output(path, Schema(("a", "b"), 1), {"topk": 1, "embedding": 0}, resume=True)
    assert path.read_bytes() == content and os.listdir(tmp_path) == [path.name]


# --- Parquet ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how, message", [
    ({"compression": "zstd"}, "compressed, but not with Snappy"), ({"compression": "gzip"}, "compressed, but not"),
    ({}, "5 rows in one group of more than 1,000 bytes")], ids=["zstd", "gzip", "large"])
def test_parquet_that_would_unpack_to_more(tmp_path, monkeypatch, how, message):
    path = tmp_path / "out.parquet"
    work(path, NAMES)
    parquet.write_table(parquet.read_table(path), path, **how)
    if not how:
        monkeypatch.setattr("npefficient.jobs.output.parquet.UNPACKED", 1000)
    refused(path, message)


# --- HDF5 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 300])
def test_texts_are_those_of_h5py(tmp_path, monkeypatch, count):
    monkeypatch.setattr("npefficient.jobs.output.h5.CHUNK", 512)  # 64 rows in a chunk
    path = tmp_path / "out.h5"
    work(path, [f"{name}{'x' * (i % 7 * 1000)}" for i, name in enumerate(photos(count))])
    with h5py.File(path) as file, open(path, "rb") as source:
        for name in ("photo", "error"):
            assert list(h5_texts.texts(file[name], source, count)) == file[name].asstr()[:].tolist()


def heap_of(data):
    """Places: of the heap with the first photo's name, of the head before the name, of the row that leads there."""
    name = NAMES[0].encode()
    place = data.index(name) - 16
    heap, index = data.rindex(b"GCOL", 0, place), struct.unpack_from("<H", data, place)[0]
    return heap, place, data.index(struct.pack("<IQI", len(name), heap, index))


def with_text(length):
    """A first photo whose text is said to have so many bytes, in the heap and in the row."""
    def edit(data):
        _, place, row = heap_of(data)
        struct.pack_into("<Q", data, place + 8, length)
        struct.pack_into("<I", data, row, length)
    return edit


def put(what, form, value, after=0):
    def edit(data):
        place = dict(zip(("heap", "object", "row"), heap_of(data)))[what]
        struct.pack_into(form, data, place + after, value)
    return edit


HEAPS = {
    "magic": put("heap", "<4s", b"COGL"), "version": put("heap", "<B", 2, 4),
    "size_0": put("heap", "<Q", 0, 8), "size_huge": put("heap", "<Q", 2**63, 8),
    "object_0": put("object", "<H", 0), "object_other": put("object", "<H", 77),
    "object_huge": put("object", "<Q", 2**64 - 1, 8), "object_empty": put("object", "<Q", 0, 8),
    "row_longer": put("row", "<I", 2**32 - 1), "row_nowhere": put("row", "<Q", 2**64 - 1, 4),
    "row_elsewhere": put("row", "<Q", 8, 4), "row_other": put("row", "<I", 99, 12),
    "text_long": with_text(2**21), "text_beyond": with_text(2**31),
}


@pytest.mark.parametrize("name", HEAPS)
def test_h5_with_a_damaged_heap(tmp_path, name):
    """HDF5's own library loops for ever in some of these."""
    path = tmp_path / "out.h5"
    work(path, NAMES)
    data = bytearray(path.read_bytes())
    HEAPS[name](data)
    path.write_bytes(data)
    refused(path, "out.h5': not a file of rows that npefficient wrote, or damaged")


def test_texts_that_stand_in_every_row_are_looked_up_within_bounds(tmp_path, monkeypatch):
    """Heaps used in turn would be searched again for every row."""
    path = tmp_path / "out.h5"
    work(path, NAMES)
    monkeypatch.setattr(h5_texts, "AGAIN", 0)
    refused(path, "no heap of texts at byte")


def test_h5_of_an_old_kind_is_refused(tmp_path):
    path = tmp_path / "out.h5"
    work(path, NAMES)
    with h5py.File(tmp_path / "old", "w", libver="earliest") as old, h5py.File(path) as file:
        for name in file:
            file.copy(name, old)
        old.attrs.update(file.attrs)
    os.replace(tmp_path / "old", path)
    refused(path, "its HDF5 header is cut off, damaged or of an old kind")
