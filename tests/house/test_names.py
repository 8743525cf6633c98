"""Names in docstrings, comments and messages are names of things that exist."""
import ast
import inspect
import re
from pathlib import Path

import pytest
from package_modules import modules

import npefficient
import weights_convert
from npefficient.network.parameters import TRACKED

ROOT = Path(__file__).parents[2]
SOURCES = sorted({*ROOT.glob("npefficient/**/*.py"), *ROOT.glob("weights_convert/*.py")} - {
    ROOT / "npefficient" / "model" / "timm_names.py"})  # it names what does not exist; test_timm_names.py checks it
PAGES = [*SOURCES, ROOT / "README.md", ROOT / "SECURITY.md"]
FILES = re.compile(r"\.(py|md|h5|cfg|png|html|js|css|txt|lock|npz|json|jsonl|csv|safetensors|pth)$")
# Of Ray and of timm, where the docstring says so.
FOREIGN = ("map_batches", "read_images", "save_for_hf", "test_crop_pct", "test_input_size")
DOTTED = re.compile(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?:\([^`]*\))?`")
PUBLIC = re.compile(r"(?<![\w./-])npefficient(?:\.[A-Za-z_]\w*)+")


def exists(place, names) -> bool:
    """Whether the names exist, each in the one before; what follows an attribute of instances is not checked."""
    for name in names:
        if not hasattr(place, name):
            return inspect.isclass(place) and (name in getattr(place, "__dataclass_fields__", ())
                                               or any(f"self.{name} = " in inspect.getsource(one)
                                                      for one in place.__mro__ if one.__module__ in modules()))
        place = getattr(place, name)
    return True


def texts(path):
    """(line, text) of what people read in a file: every line of a page, the strings and comments of a module."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return list(enumerate(source.splitlines(), 1))
    strings = [(node.lineno, node.value) for node in ast.walk(ast.parse(source))
               if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    lines = enumerate(source.splitlines(), 1)
    return strings + [(number, line[line.index("#"):]) for number, line in lines if "#" in line]


def public_names(text):
    return [name for name in PUBLIC.findall(text) if not FILES.search(name)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_of_the_package_are_names_of_something(path):
    known = modules()
    for line, text in texts(path):
        for name in public_names(text):
            first, *rest = name.split(".")
            longest = max(i for i in range(len(rest) + 1) if ".".join([first, *rest[:i]]) in known)
            assert exists(known[".".join([first, *rest[:longest]])], rest[longest:]), f"{path}:{line}: {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_in_backticks_that_begin_with_a_module_or_a_class_are_names_of_something(path):
    """Such as `image.transform`, `Model.activations`, or `model.activations` of an instance; all others are skipped."""
    known = modules()
    places = {}
    for name, module in known.items():
        places.setdefault(name.rpartition(".")[2], []).append(module)
        for value in vars(module).values():
            if inspect.isclass(value) and value.__module__.startswith(("npefficient", "weights_convert")):
                places.setdefault(value.__name__, []).append(value)
                places.setdefault(value.__name__.lower(), []).append(value)
    for line, text in texts(path):
        for name in DOTTED.findall(text):
            first, *rest = name.split(".")
            if first in places and not FILES.search(name):
                assert any(exists(place, rest) for place in places[first]), f"{path}:{line}: {name}"


def arguments(value) -> set[str]:
    is_error = inspect.isclass(value) and issubclass(value, Exception)
    return set() if is_error else set(inspect.signature(value).parameters)


@pytest.mark.parametrize("name", npefficient.__all__)
def test_names_in_public_docstrings_are_public(name):
    """A single name in backticks is a public name, an attribute or an argument, so that `help` knows it."""
    value = getattr(npefficient, name)
    known = {*npefficient.__all__, *dir(value), *getattr(value, "__dataclass_fields__", ()), TRACKED}
    known = known.union(*(arguments(getattr(npefficient, other)) for other in npefficient.__all__))
    known |= {*weights_convert.__all__, *(name.rpartition(".")[2] for name in modules()), *FOREIGN}
    members = [value]
    if inspect.isclass(value):
        members += [member for own, member in vars(value).items() if not own.startswith("_") and callable(member)]
    for member in members:
        for single in re.findall(r"`([A-Za-z_]\w*)`", inspect.getdoc(member) or ""):
            assert single in known | arguments(member), f"{member}: {single}"


@pytest.mark.parametrize("text, expected", [
    ("see npefficient.photos", ["npefficient.photos"]), ("import npefficient.jobs.stream", ["npefficient.jobs.stream"]),
    ("npefficient/images/image.py npefficient.h5 .npefficient.x a-npefficient.x", []), ("npefficient. A", []),
], ids=["gone", "module", "files", "sentence"])
def test_public_names(text, expected):
    assert public_names(text) == expected


def test_exists_can_fail():
    known = modules()
    assert exists(npefficient, ["find_photos"]) and exists(npefficient.Preprocessing, ["input_size"])
    assert not exists(npefficient, ["photos"])
    assert not exists(known["npefficient.network.architecture"], ["Preprocessings"])
    assert not exists(npefficient, ["open_image", "nothing"])
