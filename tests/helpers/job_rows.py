"""Rows as a job makes them, but without a model: the tests of output files write these."""
import csv
import json

import numpy as np
import pytest

from npefficient.jobs.output import open_output
from npefficient.jobs.rows import Schema
from npefficient.jobs.stream import Outcome

LABELS = ("zero", "one, or so", 'tw"o', "thr\u00e9e")
SUFFIXES = (".csv", ".jsonl", ".parquet", ".h5")
MADE = (".parquet", ".h5")  # made of a journal when the job ends; the others are their own journal
forms = pytest.mark.parametrize("suffix", SUFFIXES)


def schema(suffix: str = ".jsonl", topk: int = 2) -> Schema:
    return Schema(LABELS, topk, 0 if suffix == ".csv" else 6)


def settings(**changes) -> dict:
    return {"model": "lite0", "topk": 2, "embedding": 6, **changes}


def photos(count: int) -> list[str]:
    """Names with the odd characters that file names can contain."""
    odd = ["a,b.jpg", 'quo"te.jpg', "line\nend.jpg", "\u65e5\u672c.jpg", "byte \udce9.jpg", " blank ", "=1+1.jpg"]
    return [f"{i} {odd[i % len(odd)]}" for i in range(count)]


def outcomes(names) -> list[Outcome]:
    """An outcome per name; every fourth photo is bad."""
    return [_outcome(i, name) for i, name in enumerate(names)]


def _outcome(i, name):
    if i % 4 == 3:
        return Outcome(name, None, f"photo {name!r}: broken")
    rng = np.random.default_rng(i)
    logits, features = rng.normal(size=4).astype(np.float32), rng.normal(size=6).astype(np.float32)
    return Outcome(name, {"classifier": logits, "global_pool": features}, None)


def work(path, names, *, stop=None, finish=True, made=None, **how):
    """Write the rows of these photos as the command does, or only the first `stop` of them."""
    form = schema(path.suffix)
    with open_output(path, form, settings() if made is None else made, **how) as output:
        rest = iter(names)
        output.skip(rest)
        for outcome in outcomes(names)[output.count:stop]:
            output.add(form.row(outcome))
        if finish:
            output.publish()
            output.finish()
        return output.count, output.bad


def journal_of(path):
    """The file that a job appends its rows to."""
    return path.with_name(f".{path.name}.rows.jsonl") if path.suffix in MADE else path


def expected(suffix: str, names) -> list[dict]:
    return [schema(suffix).row(outcome) for outcome in outcomes(names)]


def read(path) -> list[dict]:
    """A file's rows, read without the package's code, in the form of `Schema.row`."""
    return {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet, ".h5": _h5}[path.suffix](path)


def _jsonl(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    return [_unflat({name: value or None for name, value in row.items()}) for row in rows]


def _parquet(path):
    from pyarrow.parquet import read_table

    return [_unflat(row) for row in read_table(path).to_pylist()]


def _unflat(flat):
    classes = [{"class": int(flat[f"class_{k}"]), "label": flat[f"label_{k}"],
                "probability": float(flat[f"probability_{k}"])}
               for k in range(1, 99) if flat.get(f"class_{k}") is not None]
    row = {"photo": flat["photo"], "error": flat["error"], "classes": classes}
    return row | ({"embedding": _short(flat["embedding"])} if "embedding" in flat else {})


def _h5(path):
    import h5py

    rows = []
    with h5py.File(path, "r") as file:
        labels = file["labels"].asstr()[:]
        for i, (photo, error) in enumerate(zip(file["photo"].asstr()[:], file["error"].asstr()[:])):
            found = zip(file["classes"][i], file["probabilities"][i])
            classes = [{"class": int(c), "label": labels[c], "probability": float(p)} for c, p in found if c >= 0]
            rows.append({"photo": photo, "error": error or None, "classes": classes})
            if "embeddings" in file:
                assert np.isnan(file["embeddings"][i]).all() == bool(error)
                rows[-1]["embedding"] = None if error else _short(file["embeddings"][i].tolist())
    return rows


def _short(values):
    return values and [float(f"{value:.9g}") for value in values]
