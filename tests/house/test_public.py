"""What is public: every name has its types, and whatever users are told of is public by name.

Public is what `npefficient.__all__` and `weights_convert.__all__` name, and the modules that have an `__all__` of their
own. mypy (pyproject.toml) reads the same names with a user's program, `typed_use.py`.
"""
import ast
import inspect
import re
from pathlib import Path

import pytest
from package_modules import modules

import npefficient

ROOT = Path(__file__).parents[2]
CALLED = ("__init__", "__call__")  # what a user calls without its name
PUBLIC = re.compile(r"(?<![\w./-])(?<!-m )npefficient(?:\.[A-Za-z_]\w*)+")
FILES = re.compile(r"\.(cfg|csv|h5|json|md|py|txt)$")


MODULES = modules()
NAMES = [(module, name) for module, found in MODULES.items() for name in getattr(found, "__all__", ())]


def callables(value) -> dict:
    """What a user can call: a public function; of a class, the methods that it and our base classes define."""
    if not inspect.isclass(value):
        return {value.__name__: value} if callable(value) else {}
    found = {}
    for owner in value.__mro__:
        if owner.__module__.partition(".")[0] in ("npefficient", "weights_convert"):
            for name, member in vars(owner).items():
                member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
                if inspect.isfunction(member) and (name in CALLED or not name.startswith("_")):
                    found.setdefault(name, member)
    return found


def untyped(function) -> list[str]:
    """The parameters of a function that have no type, and "return" where what it returns has none."""
    signature = inspect.signature(function)
    missing = [p.name for p in signature.parameters.values()
               if p.annotation is p.empty and p.name not in ("self", "cls")]
    returns = signature.return_annotation is signature.empty and function.__name__ != "__init__"
    return missing + ["return"] * returns


@pytest.mark.parametrize("module, name", NAMES, ids=[f"{module}.{name}" for module, name in NAMES])
def test_a_public_name_has_its_types(module, name):
    found = callables(getattr(MODULES[module], name))
    assert {member: untyped(function) for member, function in found.items() if untyped(function)} == {}


def test_untyped_can_fail():
    def function(a: int, b, *c, d: "int" = 1, **e) -> None:
        pass

    assert untyped(function) == ["b", "c", "e"] and untyped(lambda: 0) == ["return"]
    assert {"__call__", "classify", "eval", "labels", "save"} <= callables(npefficient.Model).keys()


def test_a_type_checker_sees_what_is_imported_on_first_use():
    tree = ast.parse((ROOT / "npefficient" / "__init__.py").read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = [alias.name for block in blocks for node in block.body for alias in node.names]
    assert sorted(seen) == sorted(npefficient._ON_FIRST_USE)


# --- what users are told of ------------------------------------------------------------------------------------------


def told() -> list[tuple[str, str]]:
    """(place, name) of every `npefficient.name` on the pages, and in the strings of the sources."""
    found = []
    for path in sorted({*ROOT.glob("*.md"), *ROOT.glob("npefficient/**/*.py"), *ROOT.glob("weights_convert/*.py")}):
        text = path.read_text(encoding="utf-8")
        texts = [text] if path.suffix == ".md" else [
            node.value for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        names = {name for text in texts for name in PUBLIC.findall(text) if not FILES.search(name)}
        found += [(path.relative_to(ROOT).as_posix(), name) for name in sorted(names)]
    return found


def is_public(name: str) -> bool:
    """True for a module with an `__all__`, for what is in that list, and for attributes of these."""
    module = max((known for known in MODULES if f"{name}.".startswith(f"{known}.")), key=len)
    public = getattr(MODULES[module], "__all__", None)
    rest = name.removeprefix(module).strip(".").split(".")[0]
    return public is not None and rest in ("", "__all__", *public)


@pytest.mark.parametrize("place, name", told())
def test_what_users_are_told_of_is_public(place, name):
    assert is_public(name)


def imported(code: str) -> list[str]:
    """The names that a program imports from our packages."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    return [f"{node.module}.{alias.name}" for node in nodes if (node.module or "").startswith(tuple(MODULES))
            for alias in node.names]


def test_what_the_readme_imports_is_public():
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    names = [name for block in blocks for name in imported(block)]
    assert len(names) >= 5 and [name for name in names if not is_public(name)] == []


@pytest.mark.parametrize("name, expected", [
    ("npefficient", True), ("npefficient.create_model", True), ("npefficient.create_model.x", True),
    ("npefficient.images.image", True), ("npefficient.images.image.preview", True),
    ("npefficient.images.image._crop", False), ("npefficient.plan", False), ("npefficient.engine.plan", False),
    ("npefficient.__all__", True), ("npefficient.engine.plan.__all__", False)])
def test_is_public(name, expected):
    assert is_public(name) is expected
