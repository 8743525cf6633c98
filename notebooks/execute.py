"""Run notebooks and store what they print and draw in them.

    python -m pip install -e ".[notebooks,imagenet]"
    python notebooks/execute.py

Call it after every edit of a notebook: the tests compare what is stored with what the code does, except in cells with
the tag "measured", which show times and speeds. A notebook that fails is left as it was, and the exit code is 1.

Each runs in its own folder, in a fresh kernel of this interpreter, without the user's IPython and matplotlib settings
and without a network. NPEFFICIENT_CACHE names a temporary directory with nothing in it but the compiled kernels, so
that what is stored comes from the same weights on every machine: the embedded model's, or the official ones from the
packages of the extra `imagenet`. Without these packages a notebook that needs them fails and says how to get them.
"""
import argparse
import asyncio
import base64
import io
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image, ImageChops

FOLDER = Path(__file__).resolve().parent
TIMEOUT = 600  # seconds for one cell; the first call of a model may compile the kernels
KERNEL_CONFIG = '''
import sys

def refuse(event, arguments):
    """Addresses of the internet are tuples; sockets within this machine have a path."""
    if event == "socket.connect" and isinstance(arguments[1], tuple) or event == "socket.getaddrinfo":
        raise OSError(f"{event} {arguments[1:]}: a notebook runs without a network")

sys.addaudithook(refuse)
c = get_config()
c.HistoryManager.enabled = False
c.InlineBackend.rc = {"figure.dpi": 200, "figure.constrained_layout.use": True}
c.InlineBackend.print_figure_kwargs = {"bbox_inches": None, "metadata": {"Software": None}}
'''
COLOUR_ERROR = 8  # of 255; what a palette of 256 colours may change in a pixel
JPEG_QUALITY = 80
METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"}}
ANSWER = re.compile(r"<details>(.*?)</details>", re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class ThisInterpreter(KernelSpecManager):
    """Knows one kernel, this interpreter, whatever the user has installed under the name "python3"."""

    def get_kernel_spec(self, kernel_name):
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


def kernel(place: Path) -> AsyncKernelManager:
    """A kernel that is spoken to through files in the temporary directory `place`, where only this user can."""
    return AsyncKernelManager(kernel_spec_manager=ThisInterpreter(), transport="ipc", ip=str(place / "kernel"),
                              connection_file=str(place / "kernel.json"))


def environment(place: Path) -> dict[str, str]:
    """The kernel's environment variables; what they name lies in the temporary directory `place`."""
    profile = place / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text(KERNEL_CONFIG)
    (place / "matplotlibrc").touch()
    path = os.pathsep.join(filter(None, [str(FOLDER.parent), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "IPYTHONDIR": str(place / "ipython"),
            "MATPLOTLIBRC": str(place / "matplotlibrc"), "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "NPEFFICIENT_CACHE": str(empty_cache(place))}


def empty_cache(place: Path) -> Path:
    """A cache without weights that has the compiled kernels of the user's own."""
    from npefficient.engine import compiled

    compiled.driver()
    (place / "cache").mkdir()
    if compiled.code_path().is_file():
        shutil.copytree(compiled.code_path().parent, place / "cache" / "compiled")  # a link would not be used
    return place / "cache"


def with_answers(notebook):
    """The notebook with the Python of its folded answers as further cells, each after the cell that it is folded in."""
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        folded = ANSWER.findall(cell.source) if cell.cell_type == "markdown" else []
        cells += [nbformat.v4.new_code_cell(code, metadata={"tags": ["answer"]})
                  for part in folded for code in PYTHON.findall(part)]
    return nbformat.from_dict({**notebook, "cells": cells})


def store_small(data):
    """Replace the PNG in an output's `data`: by JPEG where that is much smaller (photographs), else by a small PNG."""
    if "image/png" in data:
        picture = Image.open(io.BytesIO(base64.b64decode(data.pop("image/png")))).convert("RGB")
        palette = picture.quantize(method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        errors = ImageChops.difference(picture, palette.convert("RGB")).getextrema()
        png, jpeg = io.BytesIO(), io.BytesIO()
        (palette if max(highest for _, highest in errors) <= COLOUR_ERROR else picture).save(png, "PNG", optimize=True)
        picture.save(jpeg, "JPEG", quality=JPEG_QUALITY, optimize=True)
        kind, file = ("jpeg", jpeg) if 2 * jpeg.tell() < png.tell() else ("png", png)
        data[f"image/{kind}"] = base64.b64encode(file.getvalue()).decode()


def execute(notebook, folder: Path):
    """Run every cell of a notebook and return it with its outputs, and with nothing in it that tells of this machine.

    Raises what nbclient raises for a cell that fails, takes too long or ends the kernel.
    """
    with tempfile.TemporaryDirectory() as place, open(Path(place) / "stderr", "w+") as log:
        client = NotebookClient(notebook, km=kernel(Path(place)), timeout=TIMEOUT, record_timing=False,
                                coalesce_streams=True, resources={"metadata": {"path": str(folder)}})
        client.owns_km = True  # ends the kernel
        try:  # what cells write to stderr comes as their output; this is what the process itself says as it ends
            asyncio.run(client.async_execute(env=environment(Path(place)), stderr=log))
        except DeadKernelError as error:
            log.seek(0)
            raise DeadKernelError(f"{error}\n{log.read()}") from error
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            store_small(output.get("data", {}))
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def parse(arguments=None):
    parser = argparse.ArgumentParser(description="Run notebooks and store what they print and draw in them.")
    parser.add_argument("notebooks", metavar="NOTEBOOK", nargs="*", type=Path, help="(default: all beside this script)")
    parser.add_argument("--into", metavar="FOLDER", type=Path,
                        help="store the notebooks with their outputs there instead")
    parser.add_argument("--answers", action="store_true", help="run the Python of the folded answers as well")
    args = parser.parse_args(arguments)
    if args.answers and not args.into:
        parser.error("--answers adds cells, which must not be stored in place: say --into FOLDER")
    for path in [*args.notebooks, *filter(None, [args.into])]:
        if not path.exists():
            parser.error(f"{str(path)!r}: no such file or folder")
    return args


def main(arguments=None) -> int:
    args, failed = parse(arguments), False
    sys.path.insert(0, str(FOLDER.parent))  # the npefficient beside this folder, which the kernels import too
    import matplotlib.font_manager  # noqa: F401  it lists the fonts on its first import: here, not in a notebook

    for path in args.notebooks or sorted(FOLDER.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        try:
            done = execute(with_answers(notebook) if args.answers else notebook, path.resolve().parent)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            print(f"{path.name}: nothing stored\n{error}", file=sys.stderr)
            failed = True
            continue
        target = (args.into or path.parent) / path.name
        nbformat.write(done, target)
        print(f"{path.name}: {len(done.cells)} cells, {target.stat().st_size / 1e3:.0f} kB", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
