"""The notebooks run, offline and from the top; what is stored in them is what the code gives; and they keep their form.

Pictures may differ a little, for fonts and antialiasing are not ours. A cell with the tag "measured" shows times and
speeds: what it prints and draws is not compared.
"""
import base64
import copy
import importlib.util
import io
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

DIRECTORY = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(DIRECTORY.glob("*.ipynb"))
SIDE, DIFFERENCE = 24, 12  # pictures are compared in so few pixels, and may differ by so much of 255 on average

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def run():
    """notebooks/run.py as a module."""
    spec = importlib.util.spec_from_file_location("run", DIRECTORY / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


# --- comparing outputs -----------------------------------------------------------------------------------------------


def is_measured(cell):
    return "measured" in cell.metadata.get("tags", [])


def readable(cell):
    """(text of a cell's outputs, its pictures as PNG in base64)."""
    texts, pictures = [], []
    for output in cell.outputs:
        data = output.get("data", {})
        if "image/png" in data:
            pictures.append(data["image/png"])
        else:
            text = output.get("text") or data.get("text/html") or data.get("text/plain") or output.output_type
            texts.append("".join(text))
    return "\n".join(texts), pictures


def small(picture):
    """A PNG in base64 -> its size, and grey values (SIDE, SIDE)."""
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        return np.array(image.size), np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), float)


def assert_same(stored, fresh):
    """Fail unless two notebooks have the same cells with the same outputs."""
    for number, (old, new) in enumerate(zip(code(stored), code(fresh), strict=True), start=1):
        (old_text, old_pictures), (new_text, new_pictures) = readable(old), readable(new)
        assert old.source == new.source and len(old.outputs) == len(new.outputs), f"code cell {number} is another"
        if is_measured(old):
            continue
        assert old_text == new_text, f"code cell {number} prints something else"
        for a, b in zip(old_pictures, new_pictures, strict=True):
            (old_size, old_grey), (new_size, new_grey) = small(a), small(b)
            assert (np.abs(old_size - new_size) <= 0.1 * old_size).all(), f"code cell {number} draws in another size"
            assert np.abs(old_grey - new_grey).mean() <= DIFFERENCE, f"code cell {number} draws another picture"


@each
def test_stored_outputs_come_from_the_code(monkeypatch, run, path):
    monkeypatch.setenv("NPEFFICIENT_MIRROR", "http://127.0.0.1:9/")  # nobody answers there
    before = path.read_bytes()
    assert_same(nbformat.read(path, as_version=4), run.executed(path))
    assert path.read_bytes() == before


def picture(value):
    stream = io.BytesIO()
    Image.fromarray(np.full((60, 90), value, np.uint8)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def notebook(text="size 3\n", png=None):
    outputs = [nbformat.v4.new_output("stream", text=text)]
    if png:
        outputs.append(nbformat.v4.new_output("display_data", {"image/png": png}))
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(3)", outputs=outputs)])


@pytest.mark.parametrize("other, message", [
    (notebook("size 4\n", picture(90)), "cell 1 prints something else"),
    (notebook("size 3\n"), "cell 1 is another"),
    (notebook("size 3\n", picture(140)), "cell 1 draws another picture"),
], ids=["text", "no_picture", "picture"])
def test_other_outputs_are_found(other, message):
    stored = notebook(png=picture(90))
    assert_same(stored, copy.deepcopy(stored))
    assert_same(stored, notebook(png=picture(95)))
    with pytest.raises(AssertionError, match=message):
        assert_same(stored, other)


def test_another_size_and_other_code_are_found():
    stored, other = notebook(png=picture(90)), notebook(png=picture(90))
    with Image.open(io.BytesIO(base64.b64decode(picture(90)))) as image:
        stream = io.BytesIO()
        image.resize((90, 90)).save(stream, "PNG")
    other.cells[0].outputs[1].data["image/png"] = base64.b64encode(stream.getvalue()).decode()
    with pytest.raises(AssertionError, match="cell 1 draws in another size"):
        assert_same(stored, other)
    other = notebook(png=picture(90))
    other.cells[0].source = "print(1 + 2)"
    with pytest.raises(AssertionError, match="cell 1 is another"):
        assert_same(stored, other)


def test_only_what_is_measured_may_differ():
    stored, other = notebook("3 ms", picture(90)), notebook("4 ms", picture(140))
    stored.cells[0].metadata["tags"] = ["measured"]
    assert_same(stored, other)
    with pytest.raises(AssertionError, match="cell 1 is another"):
        assert_same(stored, notebook("4 ms"))


# --- running ---------------------------------------------------------------------------------------------------------


def test_a_notebook_that_fails_is_not_written(run, tmp_path, monkeypatch):
    from nbclient.exceptions import CellExecutionError

    path = tmp_path / "broken.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("assert 1 == 2, 'not equal'")]), path)
    before = path.read_bytes()
    monkeypatch.setattr("sys.argv", ["run.py", str(path)])
    with pytest.raises(CellExecutionError, match="not equal"):
        run.main()
    assert path.read_bytes() == before


def test_outputs_are_stored(run, tmp_path, monkeypatch, capsys):
    path = tmp_path / "good.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(6 * 7)")]), path)
    monkeypatch.setattr("sys.argv", ["run.py", str(path)])
    assert run.main() == 0 and "good.ipynb: 1 outputs" in capsys.readouterr().out
    assert nbformat.read(path, as_version=4).cells[0].outputs[0].text == "42\n"


# --- form ------------------------------------------------------------------------------------------------------------


def problems(notebook):
    """What breaks the notebooks' rules."""
    found, cells = [], code(notebook)
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    for number, cell in enumerate(cells, start=1):
        lines = cell.source.splitlines()
        found += [f"code cell {number} has {len(lines)} lines"] * (len(lines) > 8)
        found += [f"code cell {number} has a line of {max(map(len, lines))} columns"] * (max(map(len, lines)) > 120)
        found += [f"code cell {number} was not run in its turn"] * (cell.execution_count != number)
        found += [f"code cell {number} complains"] * any(o.get("name") == "stderr" for o in cell.outputs)
    found += ["no heading"] * (not re.match(r"# \d+\. ", texts[0]))
    found += [f"no {part} at the start" for part in ("**Question.**", "**Formula.**") if part not in texts[0]]
    answer = re.search(r"## Exercise.*<details>.*</details>$", texts[-1], re.DOTALL)
    found += ["no folded answer at the end"] * (answer is None)
    found += ["nothing is compared"] * (not any("assert " in cell.source for cell in cells))
    found += ["no picture"] * (not any(readable(cell)[1] for cell in cells))
    return found


@each
def test_form(path):
    assert problems(nbformat.read(path, as_version=4)) == []


def test_notebooks_are_numbered_in_turn():
    assert [int(path.stem[:2]) for path in NOTEBOOKS] == list(range(1, len(NOTEBOOKS) + 1))
    for path in NOTEBOOKS:
        assert nbformat.read(path, as_version=4).cells[0].source.startswith(f"# {int(path.stem[:2])}. ")


def test_broken_form_is_found():
    stderr = nbformat.v4.new_output("stream", name="stderr", text="beware")
    cells = [nbformat.v4.new_markdown_cell("Hello"),
             nbformat.v4.new_code_cell("\n".join("x" * (121 if i == 3 else 1) for i in range(9)), outputs=[stderr])]
    assert problems(nbformat.v4.new_notebook(cells=cells)) == [
        "code cell 1 has 9 lines", "code cell 1 has a line of 121 columns", "code cell 1 was not run in its turn",
        "code cell 1 complains", "no heading", "no **Question.** at the start", "no **Formula.** at the start",
        "no folded answer at the end", "nothing is compared", "no picture"]
