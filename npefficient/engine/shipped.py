"""Compiled code that comes with the package, for the processors of `targets.py`: no first start has to compile.

    objects/<target>-<precision>.code   the code for float32 or int8
    objects/hashes.json     {"sources": "..", "targets": {"<target>": {"<file>": {"sha256": "..", "layout": {..}}, ..}}}

A build puts the directory there (`NPEFFICIENT_SHIP` in setup.py); a checkout has none. The list is as trustworthy as
the package's own sources, which lie beside it. Code is used if its sha256 is in the list, the list's hash of the
sources is that of the sources installed, and the processor has the features.
"""
import hashlib
from dataclasses import asdict
from pathlib import Path

from ..kernels.layout import FLOAT, Layout
from .processes import PACKAGE, sources
from .targets import TARGETS, Target

OBJECTS = PACKAGE / "engine" / "objects"
HASHES = "hashes.json"


def find(layout: Layout, refuse=lambda path, problem: None) -> tuple[Path, bytes] | None:
    """(file, code) of the best shipped target that this processor can run; None if there is none.

    `refuse(path, problem)` is told if that file is not what was built: altered, or beside other sources; and if the
    list of them is damaged.
    """
    content = _listed(refuse)
    for target in TARGETS:
        for name, entry in content["targets"].get(target.name, {}).items():
            if entry["layout"] == asdict(layout) and not target.missing():
                return _read(OBJECTS / name, entry["sha256"], content["sources"], refuse)
    return None


def misfits(layout: Layout) -> list[str]:
    """Why this processor can't run the shipped code, for each target of it that does not fit."""
    content = _listed()
    reasons = {target.name: _misfit(target, layout, content["targets"][target.name].values())
               for target in TARGETS if target.name in content["targets"]}
    return [f"{name} {reason}" for name, reason in reasons.items() if reason]


def _listed(refuse=lambda path, problem: None) -> dict:
    listed, nothing = OBJECTS / HASHES, {"sources": "", "targets": {}}
    if not listed.is_file():
        return nothing
    import json  # takes some milliseconds

    try:
        return json.loads(listed.read_bytes())
    except (OSError, ValueError) as problem:
        refuse(listed, f"it is damaged ({problem})")
        return nothing


def _misfit(target: Target, layout: Layout, entries) -> str | None:
    missing = target.missing()
    if missing:
        return f"needs {', '.join(missing)}"
    if layout.training:
        return "is not for training"
    # Plans and packed weights are made for this processor's own layouts. An AVX-512 processor without shipped code of
    # its own could run that for AVX2, but at half the speed of what it compiles. With VNNI it could run that for 16-bit
    # integers, but 1x1 convolutions would take almost twice the time (the ladder of 'bench kernels --precision int8').
    if asdict(layout) in [entry["layout"] for entry in entries]:
        return None
    return f"is for {'vectors' if layout.item == FLOAT else 'vectors or integers'} of another width"


def _read(path: Path, sha256: str, made_from: str, refuse) -> tuple[Path, bytes] | None:
    if made_from != sources():
        return refuse(path, "the sources beside it are not those that it was compiled from")
    try:
        code = path.read_bytes()
    except OSError as error:
        return refuse(path, f"it can't be read ({error.strerror})")
    if hashlib.sha256(code).hexdigest() != sha256:
        return refuse(path, f"its sha256 is not the one in {HASHES}")
    return path, code
