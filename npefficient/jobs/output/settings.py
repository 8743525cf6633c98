"""What made the rows of a file: only a job with the same settings may resume it."""
import dataclasses
import json
import reprlib

from ...common.text import plain
from ...errors import ArgumentError
from ...model.loading import AnyWeights
from ...network.parameters import fingerprint
from ..rows import Schema

VERSION = 1
SHOWN = 5  # settings that differ, in a message


def settings_of(weights: AnyWeights, schema: Schema, **options) -> dict:
    """The settings of a job, as JSON holds them; `options` are those of `stream` that change the rows."""
    settings = {"version": VERSION, "model": weights.architecture.name, "weights": weights.source.name,
                "sha256": fingerprint(weights, schema.labels), "topk": schema.topk, "embedding": schema.embedding,
                "preprocessing": dataclasses.asdict(weights.preprocessing), **options}
    return json.loads(json.dumps(settings))


def check_settings(path, before: dict, wanted: dict) -> None:
    """Raise ArgumentError, with the settings that differ, unless the rows at `path` were made with `wanted`."""
    names = [name for name in {**wanted, **before} if before.get(name) != wanted.get(name)]
    if names:
        words = {"weights": "weights that came from", "sha256": "weights whose sha256 is",
                 "embedding": "embeddings of length"}  # not what was typed
        differ = "; ".join(f"{words.get(name, plain(name[:40]))} {_shown(before.get(name))}, and now "
                           f"{_shown(wanted.get(name))}" for name in names[:SHOWN])
        raise ArgumentError(f"{str(path)!r} was begun with {differ}: --resume needs the same; repeat that command "
                            "line, name another file, or begin anew with --force")


def _shown(value) -> str:
    """A setting for a message: in a file it may be long, or nested too deep for Python's own repr."""
    shown = reprlib.Repr()
    shown.maxdict, shown.maxstring, shown.maxlong, shown.maxother = 20, 80, 80, 80
    return shown.repr(value)
