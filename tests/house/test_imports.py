"""Which third-party modules may be imported, and where, checked in the sources."""
import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("npefficient/**/*.py"), *ROOT.glob("weights_convert/*.py")])
FOREIGN = {"torch", "timm", "torchvision", "safetensors", "scipy", "sklearn", "matplotlib", "pickle"}
EXTRAS = {"linear_classifier.py": {"sklearn"}} | dict.fromkeys(  # inside functions
    ("confusion_picture.py", "picture_files.py", "plots.py", "run_pictures.py"), {"matplotlib"})


def imports(path, text=None):
    """(module, at the top of the file) for everything a source imports, relative names made absolute."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    tree = ast.parse(path.read_text() if text is None else text)
    for node in ast.walk(tree):
        top = node in tree.body
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            yield module, top
            yield from ((f"{module}.{alias.name}", top) for alias in node.names)


def test_imports_reads_relative_names():
    path = ROOT / "npefficient" / "engine" / "plan.py"
    text = "from ..kernels import lanes\nimport numpy\ndef f():\n    from . import run\n"
    found = list(imports(path, text))
    assert ("npefficient.kernels.lanes", True) in found and ("numpy", True) in found
    assert ("npefficient.engine.run", False) in found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_imports(path):
    found = {(name.split(".")[0], top) for name, top in imports(path)}
    names = {name for name, _ in found}
    if path.parent.name != "peers":
        assert names & FOREIGN <= EXTRAS.get(path.name, set())
        assert not {name for name, top in found if top} & FOREIGN
    if path.parent.name == "weights_convert":
        assert not names & {"numba", "llvmlite", "h5py", "PIL"}
    elif path.parent.name not in ("kernels", "ladder", "engine", "bench"):
        heavy = {name for name, top in found if top} & {"numba", "llvmlite", "h5py", "PIL", "weights_convert",
                                                              "pyarrow", "ray", "jinja2"}
        assert heavy <= ({"h5py"} if path.name in ("hdf5.py", "network_file.py") else set())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_but_their_commands_and_an_explanation_needs_the_benchmarks(path):
    if path.parent.name not in ("bench", "peers") and path.name not in ("bench.py", "profile.py", "times.py"):
        assert not [name for name, _ in imports(path) if name.startswith("npefficient.bench")]


def test_converter_runs_without_torch_and_numba(tmp_path):
    """The imports that an export and a conversion actually make."""
    script = f"""
import sys
for name in ("torch", "numba", "llvmlite", "safetensors"):
    sys.modules[name] = None
import weights_convert
from npefficient import demo
weights_convert.export(demo.weights_path(), {str(tmp_path / "digits.safetensors")!r})
done = weights_convert.convert({str(tmp_path / "digits.safetensors")!r}, variant="lite0")
print(done.weights.architecture.num_classes)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "10"
