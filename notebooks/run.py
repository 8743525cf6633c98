"""Run the notebooks and store their outputs in them.

    pip install -e ".[test]"
    python notebooks/run.py         all of them
    python notebooks/run.py notebooks/01_one_convolution.ipynb

Each runs from its first cell in a Python process of its own, in this directory, with the npefficient beside it. What a
cell prints and draws is kept, so that the notebooks read well where they are only looked at; when a cell fails, nothing
is written. The tests run them the same way and compare; a cell with the tag "measured" may show other times and speeds.
"""
import argparse
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
TIMEOUT = 300  # seconds for one cell


def executed(path: Path):
    """Read a notebook and run it -> the notebook with fresh outputs; the file stays as it is.

    Raises nbclient's CellExecutionError where a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    search = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
    client = NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3", record_timing=False,
                            resources={"metadata": {"path": str(HERE)}})
    client.execute(env={**os.environ, "PYTHONPATH": search})
    notebook.metadata.language_info = {"name": "python"}  # not the version of whoever ran it last
    return notebook


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(HERE.glob("*.ipynb")))
    for path in parser.parse_args().notebooks:
        notebook = executed(path)
        nbformat.write(notebook, path)
        print(f"{path.name}: {sum(len(cell.get('outputs', ())) for cell in notebook.cells)} outputs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
