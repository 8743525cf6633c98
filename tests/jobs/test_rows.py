"""A photo's row: what it holds, and how it is spread over columns."""
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import small_model

from npefficient import create_model
from npefficient.errors import ArgumentError
from npefficient.jobs.output import h5, open_output, parquet
from npefficient.jobs.rows import GROUP, Schema
from npefficient.jobs.stream import Outcome
from npefficient.scores import softmax

LOGITS = np.float32([0, 3, -1, 2])
EMBEDDING = np.float32([0.1, 1 / 3, 6, 0, 1e-20])
GOOD = Outcome("a.jpg", {"classifier": LOGITS, "global_pool": EMBEDDING}, None)
BAD = Outcome("b.jpg", None, "no such file")


def schema(topk=2, embedding=0):
    return Schema(("zero", "one", "two", "three"), topk, embedding)


def test_row_has_the_most_probable_classes_first():
    p = softmax(LOGITS)
    assert schema().row(GOOD) == {"photo": "a.jpg", "error": None, "classes": [
        {"class": 1, "label": "one", "probability": float(p[1])},
        {"class": 3, "label": "three", "probability": float(p[3])}]}


def test_row_of_a_bad_photo():
    assert schema().row(BAD) == {"photo": "b.jpg", "error": "no such file", "classes": []}
    assert schema(embedding=5).row(BAD)["embedding"] is None


def test_row_is_json_and_keeps_the_bits():
    row = json.loads(json.dumps(schema(4, 5).row(GOOD)))
    assert np.float32(row["embedding"]).tobytes() == EMBEDDING.tobytes()
    assert np.float32([found["probability"] for found in row["classes"]]).tolist() == sorted(softmax(LOGITS))[::-1]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_embedding_comes_back_to_the_bit(values):
    outcome = Outcome("a", {"classifier": LOGITS, "global_pool": np.float32(values)}, None)
    row = json.loads(json.dumps(schema(1, len(values)).row(outcome)))
    assert np.float32(row["embedding"]).tobytes() == np.float32(values).tobytes()


def test_flat_has_the_columns():
    expected = {"photo": "text", "error": "text", "class_1": "int64", "label_1": "text", "probability_1": "float32",
                "class_2": "int64", "label_2": "text", "probability_2": "float32"}
    assert schema().columns() == expected and schema(2, 5).columns() == {**expected, "embedding": "float32 list"}
    flat = schema(2, 5).flat(schema(2, 5).row(GOOD))
    assert list(flat) == [*expected, "embedding"]
    assert (flat["class_1"], flat["label_1"], flat["class_2"], flat["label_2"]) == (1, "one", 3, "three")
    assert flat["probability_1"] > flat["probability_2"] and len(flat["embedding"]) == 5
    bad = schema(2, 5).flat(schema(2, 5).row(BAD))
    assert list(bad) == list(flat) and [value for value in bad.values() if value] == ["b.jpg", "no such file"]


def test_schema_of_a_model():
    model = small_model()
    got = Schema.of(model, 3, embeddings=True)
    assert got == Schema(model.labels, 3, 1280) and got.outputs == ("classifier", "global_pool")
    assert Schema.of(model, 99) == Schema(model.labels, 5) and Schema.of(model, 1).outputs == ("classifier",)
    with pytest.raises(ArgumentError, match="topk 0: it must be a whole number of at least 1"):
        Schema.of(model, 0)
    with pytest.raises(ArgumentError, match="tf_efficientnet_lite0 without a classifier has no classes"):
        Schema.of(create_model("lite0", num_classes=0))
    for maps in ({"num_classes": 0, "global_pool": ""}, {"features_only": True}):
        with pytest.raises(ArgumentError, match="returns feature maps, which a row can't hold"):
            Schema.of(create_model("lite0", **maps), embeddings=True)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".h5"])
def test_rows_of_a_model_without_a_classifier(suffix, tmp_path):
    """Embeddings alone, in every form of file."""
    only = Schema.of(create_model("lite0", num_classes=0, global_pool="max"), embeddings=True)
    assert only == Schema((), 0, 1280) and only.outputs == ("global_pool",)
    assert only.columns() == {"photo": "text", "error": "text", "embedding": "float32 list"}
    values = np.random.default_rng(0).normal(0, 1, 1280).astype(np.float32)
    good, bad = (only.row(Outcome(f"{i}.jpg", made, why)) for i, (made, why) in enumerate(
        [({"global_pool": values}, None), (None, "no such file")]))
    assert good["classes"] == bad["classes"] == [] and bad["embedding"] is None
    path = tmp_path / f"rows{suffix}"
    with open_output(path, only, {"topk": 0, "embedding": 1280}) as output:
        output.add(good)
        output.add(bad)
        output.publish()
        assert path.suffix == ".jsonl" or list(h5_or_parquet(path).read_rows(path, only)) == [
            {**row, "embedding": row["embedding"] and pytest.approx(row["embedding"])} for row in (good, bad)]
        output.finish()
    assert embeddings_in(path) == [("0.jpg", values.tobytes()), ("1.jpg", None)]


def h5_or_parquet(path):
    return {".h5": h5, ".parquet": parquet}[path.suffix]


def embeddings_in(path) -> list:
    """(photo, float32 bytes of its embedding, or None) of a file's rows, read without any code of ours."""
    if path.suffix == ".h5":
        import h5py

        with h5py.File(path) as file:
            assert set(file) == {"photo", "error", "labels", "embeddings"} and file["labels"].shape == (0,)
            rows = zip(file["photo"].asstr()[:], file["embeddings"][:])
            return [(photo, None if np.isnan(row).all() else row.tobytes()) for photo, row in rows]
    if path.suffix == ".parquet":
        import pyarrow.parquet

        rows = [(row["photo"], row["embedding"]) for row in pyarrow.parquet.read_table(path).to_pylist()]
    else:
        rows = [(row["photo"], row["embedding"]) for row in map(json.loads, path.read_text().splitlines())]
    return [(photo, None if values is None else np.float32(values).tobytes()) for photo, values in rows]


@pytest.mark.parametrize("embedding", [0, 1280])
def test_groups_hold_few_values_and_leave_nothing_out(embedding):
    s = Schema(("a",), 1, embedding)
    count = 3 * GROUP // (5 + embedding)
    groups = list(s.groups({"photo": i} for i in range(count)))
    assert [row["photo"] for group in groups for row in group] == list(range(count))
    assert len(groups) > 2 and max(map(len, groups)) * len(s.columns()) <= GROUP
    assert list(s.groups([])) == []
