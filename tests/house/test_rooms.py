"""A module imports only from its own room and from those below, and never in a circle."""
import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = [  # bottom to top; a room is what its names begin with
    ("npefficient.errors", "npefficient.common"),
    ("npefficient.network",),
    ("npefficient.kernels",),
    ("npefficient.ladder",),
    ("npefficient.engine",),
    ("npefficient.weights",),
    ("weights_convert",),
    ("npefficient.hub",),
    ("npefficient.images",),
    ("npefficient.display",),
    ("npefficient.labels", "npefficient.scores", "npefficient.demo"),
    ("npefficient.model",),
    ("npefficient.jobs",),
    ("npefficient.training",),
    ("npefficient.bench",),
    ("npefficient.explanation",),
    ("npefficient.commands",),
    ("npefficient", "npefficient.__main__", "weights_convert.__main__"),
]


def name_of(path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for folder in ("npefficient", "weights_convert") for path in
           sorted((ROOT / folder).glob("**/*.py"))}


def arrows(name: str, text: str, modules) -> set[str]:
    """The modules that a module imports, at its top or inside a function: what is after `import`, where that is one,
    else what is before it."""
    package = name.split(".") if modules[name].name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            found |= {full if (full := f"{base}.{alias.name}") in modules else base for alias in node.names}
    return found & modules.keys()


def room_of(name: str) -> int:
    """The number of a module's room: of all that match, the one with the longest name."""
    fits = {len(start): number for number, room in enumerate(ROOMS) for start in room
            if name == start or name.startswith(start + ".") and start != "npefficient"}
    return fits[max(fits)]


GRAPH = {name: arrows(name, path.read_text(encoding="utf-8"), MODULES) for name, path in MODULES.items()}


def test_arrows_reads_every_form_of_import():
    text = ("import npefficient.common.text, os\nfrom . import run, nothing\nfrom .. import demo\n"
            "from ..network.layers import find_layers\ndef f():\n    from ..hub import origin\n")
    assert arrows("npefficient.engine.plan", text, MODULES) == {
        "npefficient.common.text", "npefficient.engine.run", "npefficient.engine", "npefficient.demo",
        "npefficient.network.layers", "npefficient.hub"}
    assert arrows("npefficient.hub", "from .download import fetch\nfrom ..errors import ArgumentError", MODULES) == {
        "npefficient.hub.download", "npefficient.errors"}


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_a_room_and_no_arrow_leads_up(name):
    own = room_of(name)
    assert {other for other in GRAPH[name] if room_of(other) > own} == set()


def test_no_arrow_leads_in_a_circle():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_every_room_is_one():
    assert {room_of(name) for name in MODULES} == set(range(len(ROOMS)))
    with pytest.raises(ValueError):
        room_of("npefficient.somewhere_else")
