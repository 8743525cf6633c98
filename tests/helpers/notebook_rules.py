"""The rules for every notebook, and whether its stored outputs are those of its code: both as lists of complaints.

A notebook is the dictionary that its file holds as JSON (nbformat 4.5), with sources and texts in one piece.
"""
import base64
import io
import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

CELL_LINES = 8
COLUMNS = 120
FILE_BYTES = 700_000
BLOCK = 40  # pixels, a fifth of an inch; rows and columns of the squares whose mean colours are compared
COLOUR_STEP = 24  # of 255; what other fonts or another matplotlib may change in a square's mean colour
CELL_TAGS = ({}, {"tags": ["measured"]})
METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"}}
ABSOLUTE = re.compile(r"""(?:^|[\s"'(=`,])(/(?:[\w.-]+/)+[\w.-]+|[A-Za-z]:[\\/]\w+)""", re.MULTILINE)
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")
LINK = re.compile(r"\]\((?!https?:)([^)\s#]+)(?:#[^)\s]*)?\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
ANSWER = re.compile(r"<details>\s*<summary>Answer</summary>\n\n.*\S.*\n\s*</details>", re.DOTALL)


def read(path) -> dict:
    """A notebook from its file, with every list of lines joined."""
    notebook = json.loads(Path(path).read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = "".join(output["text"])
            for kind, content in output.get("data", {}).items():
                output["data"][kind] = "".join(content) if isinstance(content, list) else content
    return notebook


def code_cells(notebook) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def is_timed(cell) -> bool:
    """True where outputs are figures of time, which differ from run to run."""
    return "measured" in cell["metadata"].get("tags", [])


def texts(output) -> list[str]:
    """All text in an output."""
    data = output.get("data", {})
    return [output.get("text", ""), *(str(text) for kind, text in data.items() if not kind.startswith("image/"))]


# ---- the rules ----


def broken_rules(notebook) -> list[str]:
    """The rules that a notebook breaks."""
    complaints, cells = [], notebook["cells"]
    first = cells[0] if cells else {"cell_type": "none", "source": ""}
    if first["cell_type"] != "markdown" or "?" not in first["source"]:
        complaints.append("the first cell is not a question in markdown")
    if not any(ANSWER.search(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"):
        complaints.append("no answer is folded away in <details><summary>Answer</summary> and an empty line")
    if not any(re.search(r"^\s*assert ", cell["source"], re.MULTILINE) for cell in code_cells(notebook)):
        complaints.append("nothing is asserted")
    if notebook["metadata"] != METADATA:
        complaints.append(f"its metadata are {notebook['metadata']}; notebooks/execute.py sets them")
    for number, cell in enumerate(cells, 1):
        complaints += [f"cell {number}: {complaint}" for complaint in _broken_in_cell(cell)]
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        complaints.append(f"its cells were not run once each and in order: {counts}")
    return complaints


def _broken_in_cell(cell):
    lines = cell["source"].splitlines()
    if cell["cell_type"] == "code":
        if len(lines) > CELL_LINES:
            yield f"{len(lines)} lines of code, more than {CELL_LINES}"
        if max(map(len, lines), default=0) > COLUMNS:
            yield f"a line of more than {COLUMNS} characters"
    if cell["metadata"] not in CELL_TAGS:
        yield f"metadata {cell['metadata']}"
    for text in [cell["source"], *(text for output in cell.get("outputs", []) for text in texts(output))]:
        for found in ABSOLUTE.findall(text):
            yield f"absolute path {found!r}"
        for found in ADDRESS.findall(text):
            yield f"an address in memory, {found!r}: end the line with a semicolon, or print something"
    for output in cell.get("outputs", []):
        if output["output_type"] == "error" or output.get("name") == "stderr":
            yield f"stored trouble: {(output.get('text') or output.get('evalue'))!r}"


def links(notebook) -> list[str]:
    """The targets of the links in a notebook's prose, except those on the internet."""
    prose = [CODE.sub("", cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    return [link for text in prose for link in LINK.findall(text)]


# ---- stored against fresh ----


def differences(stored, fresh) -> list[str]:
    """Where the outputs of a fresh run are not the stored ones. Cells that are tagged "answer" are left out of it."""
    fresh_cells = [cell for cell in fresh["cells"] if "answer" not in cell["metadata"].get("tags", [])]
    if [cell["source"] for cell in stored["cells"]] != [cell["source"] for cell in fresh_cells]:
        return ["the sources are not the same"]
    return [f"cell {number}: {complaint}" for number, pair in enumerate(zip(stored["cells"], fresh_cells), 1)
            for complaint in _different_outputs(*pair)]


def _different_outputs(stored, fresh):
    before, after = stored.get("outputs", []), fresh.get("outputs", [])
    if list(map(_kinds, before)) != list(map(_kinds, after)):
        yield f"outputs {list(map(_kinds, before))} have become {list(map(_kinds, after))}: {list(map(texts, after))}"
        return
    for one, other in zip(before, after):
        if is_timed(stored):
            continue
        if texts(one) != texts(other):
            yield f"{texts(one)} has become {texts(other)}"
        for kind in one.get("data", {}):
            if kind.startswith("image/"):
                yield from _different_pictures(*(output["data"][kind] for output in (one, other)))


def _kinds(output):
    return output["output_type"], output.get("name"), *output.get("data", {})


def _different_pictures(before, after):
    before, after = map(_pixels, (before, after))
    if before.shape != after.shape:
        yield f"a picture of {before.shape} has become one of {after.shape}"
        return
    step = np.abs(_block_means(before) - _block_means(after)).max()
    if step > COLOUR_STEP:
        yield f"a picture has changed: the mean colour of a square by {step:.0f}, more than {COLOUR_STEP} of 255"


def _pixels(encoded):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"), np.float64)


def _block_means(pixels):
    """(h, w, 3) -> the mean colour of each square of BLOCK x BLOCK pixels; those at the edges may be smaller."""
    sums, (h, w) = pixels, pixels.shape[:2]
    for axis, size in enumerate((h, w)):
        starts = np.arange(0, size, BLOCK)
        sums = np.add.reduceat(sums, starts, axis) / np.diff([*starts, size]).reshape(-1, *[1] * (2 - axis))
    return sums
