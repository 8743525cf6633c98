"""Resuming files that were edited or damaged: an error that names the file, and no link is followed."""
import json
import os

import h5py
import numpy as np
import pyarrow
import pytest
from job_rows import expected, journal_of, photos, read, work
from pyarrow import parquet

from npefficient.errors import ArgumentError

DEEP = "[" * 200_000
NAMES = photos(5)  # the fourth one is bad


def refused(path, message, names=NAMES):
    """Check that resuming is an error which is short, names the file, and leaves everything unchanged."""
    before = {file.name: file.stat() for file in path.parent.iterdir()}
    with pytest.raises(ArgumentError, match=rf"(?s){path.name}': .*{message}") as caught:
        work(path, names, resume=True)
    assert len(str(caught.value)) < 3000
    after = {file.name: file.stat() for file in path.parent.iterdir()}
    assert {name: (s.st_size, s.st_mtime_ns) for name, s in before.items()} == {
        name: (s.st_size, s.st_mtime_ns) for name, s in after.items()}


# --- the settings beside the file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".h5"])
@pytest.mark.parametrize("text", ["", "[]", "3", "null", '"x"', "{", "\udcff", DEEP, '{"a":' * 200_000,
                                  "{}" + " " * 2**20],
                         ids=["empty", "list", "number", "null", "text", "cut", "bytes", "deep_list", "deep", "long"])
def test_settings_that_are_none(tmp_path, suffix, text):
    path = tmp_path / f"out{suffix}"
    work(path, NAMES, finish=False)
    (tmp_path / f".out{suffix}.settings.json").write_bytes(text.encode(errors="surrogateescape"))
    refused(path, f"what made its rows is not known, .*out{suffix}.settings.json' is missing or damaged .*--force")


@pytest.mark.parametrize("value", [
    ["x" * 100_000], json.loads("[" * 300 + "]" * 300), 10**4000, {str(i): i for i in range(10_000)}, "\x1b[2J"],
    ids=["long", "deep", "number", "wide", "escape"])
def test_settings_that_differ_are_said_briefly(tmp_path, value):
    work(tmp_path / "out.jsonl", NAMES)
    file = tmp_path / ".out.jsonl.settings.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | {"model": value} | {f"\x1b[31m{i}": i for i in range(1000)}))
    with pytest.raises(ArgumentError, match="with model .*, and now 'lite0'; .*--resume needs the same") as caught:
        work(tmp_path / "out.jsonl", NAMES, resume=True)
    assert len(str(caught.value)) < 3000 and str(caught.value).isprintable()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name")
@pytest.mark.parametrize("name", [".out.csv.settings.json", "out.csv", "out.h5", ".out.h5.rows.jsonl"])
@pytest.mark.parametrize("how", ["resume", "force"])
def test_pipes_are_not_waited_for(tmp_path, name, how):
    path = tmp_path / ("out.h5" if "h5" in name else "out.csv")
    work(path, NAMES, finish=name == "out.h5")
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    if how == "force" and name in (".out.csv.settings.json", "out.h5"):  # what is not read is replaced
        assert work(path, NAMES, force=True) == (5, 1) and read(path) == expected(path.suffix, NAMES)
        return
    with pytest.raises(ArgumentError, match="out.(csv|h5).*(is a pipe or a device|missing or damaged)"):
        work(path, NAMES, **{how: True})


# --- rows as JSON: of a .jsonl, and of the journals of .parquet and .h5 ----------------------------------------------


def without(name):
    return lambda row: row.pop(name)


def with_class(**values):
    return lambda row: row["classes"][0].update(values)


ROWS = {
    "no_photo": (without("photo"), "its fields"), "no_error": (without("error"), "its fields"),
    "no_classes": (without("classes"), "its fields"), "no_embedding": (without("embedding"), "its fields"),
    "one_more": (lambda row: row.update(more=1), "its fields"),
    "photo_number": (lambda row: row.update(photo=3), "'photo' is not text"),
    "photo_surrogate": (lambda row: row.update(photo="\ud800"), "'photo' is not text, or has characters"),
    "error_list": (lambda row: row.update(error=[]), "'error' is not text"),
    "error_zero_byte": (lambda row: row.update(error="a\0b", classes=[], embedding=None), "'error' is not text"),
    "error_with_classes": (lambda row: row.update(error="bad"), "'classes' is not a list of"),
    "error_with_embedding": (lambda row: row.update(error="bad", classes=[]), "'embedding' is not a list of 6 numbers"),
    "classes_text": (lambda row: row.update(classes="ab"), "'classes' is not a list of"),
    "classes_fewer": (lambda row: row["classes"].pop(), "'classes' is not a list of"),
    "class_99999": (with_class(**{"class": 99999}), "'classes' has an unknown class"),
    "class_negative": (with_class(**{"class": -3}), "'classes' has an unknown class"),
    "class_true": (with_class(**{"class": True, "label": "one, or so"}), "'classes' has an unknown class"),
    "class_number": (lambda row: row["classes"].__setitem__(1, 7), "'classes' has an unknown class"),
    "label_other": (with_class(label="nine"), "'classes' has .*a wrong label"),
    "probability_nan": (with_class(probability=float("nan")), "no probability"),
    "probability_2": (with_class(probability=2.0), "no probability"),
    "probability_text": (with_class(probability="0.5"), "no probability"),
    "embedding_short": (lambda row: row["embedding"].pop(), "'embedding' is not a list of 6 numbers"),
    "embedding_infinite": (lambda row: row["embedding"].__setitem__(2, float("inf")), "'embedding' is not a list of 6"),
    "embedding_none": (lambda row: row.update(embedding=None), "'embedding' is not a list of 6 numbers"),
    "no_object": (lambda row: [], "its fields"), "deep": (lambda row: DEEP, "recursion"),
}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".h5"])
@pytest.mark.parametrize("name", ROWS)
def test_row_that_is_none(tmp_path, suffix, name):
    path = tmp_path / f"out{suffix}"
    work(path, NAMES, finish=False)
    journal = journal_of(path)
    lines = journal.read_text().splitlines()
    row = json.loads(lines[2])
    edit, message = ROWS[name]
    made = edit(row)
    lines[2] = made if name == "deep" else json.dumps(made if name == "no_object" else row)
    journal.write_text("\n".join(lines) + "\n")
    refused(path, f"row 3 is not as npefficient wrote it .*{message}")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_line_without_an_end_is_not_taken_into_memory(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"out{suffix}"
    work(path, NAMES)
    with open(path, "r+b") as file:
        file.truncate(2**34)  # a hole: no room is needed for it
    with pytest.raises(ArgumentError, match=rf"out{suffix}' has a line of more than 67,108,864 bytes"):
        work(path, NAMES, resume=True)
    assert path.stat().st_size == 2**34, "it is for the user to say what becomes of it"


# --- HDF5 ------------------------------------------------------------------------------------------------------------


def attribute(value):
    return lambda file: file.attrs.__setitem__("npefficient", value)


def instead(name, make):
    """Replace a dataset by what `make(file, values)` creates."""
    def edit(file):
        values = file[name][()]
        del file[name]
        make(file, values)
    return edit


def chunked(name, change, **how):
    """A dataset of the same kind with other values."""
    def make(file, values):
        values = change(values)
        file.create_dataset(name, data=values, dtype=h5py.string_dtype() if values.dtype == object else None,
                            **{"maxshape": (None, *values.shape[1:]), "chunks": True} | how)
    return instead(name, make)


def put(name, place, value):
    return lambda file: file[name].__setitem__(place, value)


def extended(rows):
    def edit(file):
        for name in ("photo", "error", "classes", "probabilities", "embeddings"):
            file[name].resize(rows, axis=0)
    return edit


def elsewhere(file, values):
    file["photo"] = h5py.ExternalLink("o.h5", "/photo")


def external(file, values):
    file.create_dataset("classes", values.shape, "i8", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


def virtual(file, values):
    layout = h5py.VirtualLayout(values.shape, "i8")
    layout[:] = h5py.VirtualSource("other.h5", "classes", values.shape)
    file.create_virtual_dataset("classes", layout)


H5 = {
    "attribute_missing": (lambda file: file.attrs.__delitem__("npefficient"), "can't locate attribute"),
    "attribute_no_json": (attribute("{"), "Expecting property name"),
    "attribute_list": (attribute("[]"), "of type list, not a JSON object"),
    "attribute_null": (attribute("null"), "of type NoneType, not a JSON object"),
    "attribute_number": (attribute(3), "the settings are not a text"),
    "attribute_empty": (attribute(h5py.Empty("i8")), "the settings are not a text"),
    "photo_missing": (lambda file: file.__delitem__("photo"), "'photo' is missing"),
    "classes_missing": (lambda file: file.__delitem__("classes"), "'classes' is missing"),
    "embeddings_missing": (lambda file: file.__delitem__("embeddings"), "'embeddings' is missing"),
    "group": (instead("photo", lambda file, values: file.create_group("photo")), ""),
    "soft_link": (instead("error", lambda file, values: file.__setitem__("error", h5py.SoftLink("/photo"))),
                  "'error' is a soft link: the file must not contain links"),
    "external_link": (instead("photo", elsewhere), "'photo' is an external link"),
    "external_storage": (instead("classes", external), "'classes' is not stored in chunks"),
    "virtual": (instead("classes", virtual), "'classes' is not stored in chunks"),
    "packed": (chunked("classes", lambda values: values, compression="gzip"), "'classes' is not stored in chunks"),
    "int32": (chunked("classes", lambda values: values.astype(np.int32)), "'classes' is int32"),
    "numbers_as_text": (chunked("photo", lambda values: np.arange(5)), "'photo' is int64"),
    "one_column": (chunked("classes", lambda values: values[:, :1]), r"'classes' is of shape \(5, 1\)"),
    "one_row_less": (chunked("error", lambda values: values[:4]), r"'error' is of shape \(4,\), with 5 rows"),
    "rows_10_to_12": (extended(10**12), "claims 1000000000000 rows, but has too few bytes"),
    "class_99999": (put("classes", (1, 0), 99999), "'classes' has an unknown class"),
    "class_negative": (put("classes", (1, 0), -3), "'classes' has an unknown class"),
    "probability_nan": (put("probabilities", (1, 0), np.nan), "no probability"),
    "embedding_nan": (put("embeddings", (1, 0), np.nan), "'embedding' is not a list of 6 numbers"),
    "photo_no_utf8": (put("photo", 1, b"\xff"), "decode"),
    "photo_lines": (put("photo", 1, "a\nb"), "'photo' is not text, or has characters that should be escaped"),
}


@pytest.mark.parametrize("name", H5)
def test_h5_that_was_edited(tmp_path, name):
    path = tmp_path / "out.h5"
    work(path, NAMES)
    (tmp_path / "o.h5").write_bytes(path.read_bytes())
    edit, message = H5[name]
    with h5py.File(path, "r+") as file:
        edit(file)
    refused(path, message)


def test_h5_needs_no_labels_of_its_own(tmp_path):
    """The model's labels are used: by the settings they are the same."""
    path = tmp_path / "out.h5"
    work(path, NAMES)
    with h5py.File(path, "r+") as file:
        del file["labels"]
    assert work(path, NAMES, resume=True) == (5, 1)
    assert read(path) == expected(".h5", NAMES)


# --- Parquet ---------------------------------------------------------------------------------------------------------


def metadata(text):
    return lambda table: table.replace_schema_metadata({"npefficient": text})


def column(name, values):
    return lambda table: table.set_column(table.column_names.index(name), name, pyarrow.array(values))


def renamed(table):
    return table.rename_columns(["Photo", *table.column_names[1:]]).replace_schema_metadata(table.schema.metadata)


def many(table):
    """The first row again and again, which takes no bytes."""
    return table.take(pyarrow.array(np.zeros(1_500_000, np.int64)))


FLOATS = pyarrow.list_(pyarrow.float32())
PARQUET = {
    "metadata_none": (lambda table: table.replace_schema_metadata(None), "npefficient"),
    "metadata_other": (lambda table: table.replace_schema_metadata({"other": "{}"}), "npefficient"),
    "metadata_no_json": (metadata("{"), "Expecting property name"), "metadata_list": (metadata("[]"), "of type list"),
    "metadata_bytes": (metadata(b"\xff"), "decode"), "metadata_deep": (metadata(DEEP), "nested too deep"),
    "columns_fewer": (lambda table: table.drop_columns(["class_2"]), "its columns are not photo, error"),
    "columns_renamed": (renamed, "its columns are not"),
    "photo_number": (column("photo", range(5)), "its column 'photo' is not text"),
    "class_99999": (column("class_1", [0, 99999, 0, 0, 0]), "'classes' has an unknown class"),
    "class_text": (column("class_1", list("abcde")), "its column 'class_1' is not int64"),
    "embedding_short": (column("embedding", pyarrow.array([[1.0]] * 5, FLOATS)), "'embedding' is not a list of 6"),
    "embedding_double": (column("embedding", [[1.0]] * 5), "its column 'embedding' is not float32 list"),
    "embedding_long": (column("embedding", pyarrow.array([[1.0] * 1000] * 5, FLOATS)), "more values than 5 rows have"),
    "photo_long": (column("photo", ["a" * 2**21] * 5), "a 'photo' of 2,097,152 bytes"),
    "many_rows": (many, "it claims 1,500,000 rows in"),
}


@pytest.mark.parametrize("name", PARQUET)
def test_parquet_that_was_edited(tmp_path, name):
    path = tmp_path / "out.parquet"
    work(path, NAMES)
    edit, message = PARQUET[name]
    parquet.write_table(edit(parquet.read_table(path)), path)
    refused(path, message)


# --- damaged ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".parquet", ".h5"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_made_file_that_is_cut(tmp_path, suffix, share):
    path = tmp_path / f"out{suffix}"
    work(path, NAMES)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refused(path, "not a file of rows that npefficient wrote, or damaged")
