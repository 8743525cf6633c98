"""The result for one photo, in one form for every kind of output file.

A row is a dictionary that JSON can hold:

    {"photo": "dog.jpg", "error": None, "embedding": [0.12, ..],
     "classes": [{"class": 207, "label": "golden retriever", "probability": 0.93}, ..]}

with the most probable class first; "classes" is empty for a model without a classifier. "embedding" is there only if
it is requested. For a photo that can't be read, "error" says why, "classes" is empty and "embedding" is None.
`Schema.flat` spreads a row over columns.
"""
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..common.checks import whole
from ..common.text import plain
from ..errors import ArgumentError
from ..scores import softmax, top_k
from .stream import Outcome

GROUP = 1 << 19  # values of rows held in memory at once, about 30 bytes each as Python objects


@dataclass(frozen=True)
class Schema:
    """What the rows of a job hold."""

    labels: tuple[str, ...]  # of all classes
    topk: int  # classes in a row, at most as many as there are; 0 without a classifier
    embedding: int = 0  # values of an embedding; 0 where none is requested

    @classmethod
    def of(cls, model, topk: int = 5, embeddings: bool = False) -> "Schema":
        """The rows that a model makes: its `topk` most probable classes, and the pooled features with `embeddings`.

        A model without a classifier makes rows of features alone. Raises ArgumentError for a topk below 1, for a model
        without a classifier where no embeddings are requested, and for one that returns feature maps.
        """
        topk = whole("topk", topk, 1)
        if not {"classifier", "global_pool"}.issuperset(model.outputs):
            raise ArgumentError(f"{model!r} returns feature maps, which a row can't hold: use npefficient.stream")
        if not (model.num_classes or embeddings):
            raise ArgumentError(f"{model.architecture.name} without a classifier has no classes: use weights with one, "
                                "or ask for embeddings")
        return cls(tuple(model.labels), min(topk, model.num_classes), model.head_hidden_size if embeddings else 0)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The layers to ask `stream` for."""
        return ("classifier",) * (self.topk > 0) + ("global_pool",) * (self.embedding > 0)

    def row(self, outcome: Outcome) -> dict:
        """One outcome of `stream` -> its row."""
        row = {"photo": plain(outcome.photo), "error": None, "classes": []}
        if outcome.error is not None:
            row["error"] = plain(outcome.error)
        elif self.topk:
            probabilities, classes = top_k(softmax(outcome.outputs["classifier"]), self.topk)
            row["classes"] = [{"class": int(c), "label": self.labels[c], "probability": float(p)}
                              for c, p in zip(classes, probabilities)]
        if self.embedding:
            row["embedding"] = None if outcome.error is not None else _short(outcome.outputs["global_pool"])
        return row

    def check(self, row) -> None:
        """Raise ValueError unless `row` is one of this schema; what is read from a file may be any JSON."""
        names = {"photo", "error", "classes", *(["embedding"] if self.embedding else [])}
        if not isinstance(row, dict) or row.keys() != names:
            raise ValueError(f"its fields are not {', '.join(sorted(names))}")
        photo, error, classes = row["photo"], row["error"], row["classes"]
        for name, text in (("photo", photo), ("error", "" if error is None else error)):
            if not isinstance(text, str) or plain(text) != text:
                raise ValueError(f"{name!r} is not text, or has characters that should be escaped")
        if not isinstance(classes, list) or len(classes) != (self.topk if error is None else 0):
            raise ValueError(f"'classes' is not a list of {self.topk if error is None else 0}")
        if not all(map(self._is_class, classes)):
            raise ValueError("'classes' has an unknown class, a wrong label or no probability")
        if self.embedding and not (row["embedding"] is None if error is not None else self._fits(row["embedding"])):
            raise ValueError(f"'embedding' is not a list of {self.embedding} numbers")

    def _is_class(self, found) -> bool:
        if not isinstance(found, dict) or found.keys() != {"class", "label", "probability"}:
            return False
        number, label, probability = found["class"], found["label"], found["probability"]
        return (type(number) is int and 0 <= number < len(self.labels) and label == self.labels[number]
                and isinstance(probability, float) and 0 <= probability <= 1)

    def _fits(self, values) -> bool:
        return (isinstance(values, list) and len(values) == self.embedding
                and all(isinstance(value, float) and math.isfinite(value) for value in values))

    def columns(self) -> dict[str, str]:
        """The columns of `flat`, in order: name -> "text", "int64", "float32" or "float32 list"."""
        columns = {"photo": "text", "error": "text"}
        for k in range(1, self.topk + 1):
            columns |= {f"class_{k}": "int64", f"label_{k}": "text", f"probability_{k}": "float32"}
        return columns | ({"embedding": "float32 list"} if self.embedding else {})

    def flat(self, row: dict) -> dict:
        """A row spread over the columns; None where there is nothing."""
        flat = dict.fromkeys(self.columns()) | {"photo": row["photo"], "error": row["error"]}
        for k, found in enumerate(row["classes"], 1):
            flat |= {f"{name}_{k}": value for name, value in found.items()}
        return flat | ({"embedding": row["embedding"]} if self.embedding else {})

    def groups(self, rows: Iterable[dict]) -> Iterator[list[dict]]:
        """The rows in groups of about GROUP values."""
        rows, size = iter(rows), max(1, GROUP // (len(self.columns()) + self.embedding))
        while group := list(itertools.islice(rows, size)):
            yield group


def _short(values: np.ndarray) -> list[float]:
    """float32 (n,) -> Python floats with only the digits that restore each float32 bit for bit."""
    return [float(f"{value:.9g}") for value in values.tolist()]
