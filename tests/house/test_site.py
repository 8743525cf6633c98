"""The site has what it should: a page for every public name, and a way through all notebooks. `.ci/docs` builds it."""
import configparser
import importlib
import re
from pathlib import Path

import pytest
from notebook_rules import read

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
WAY = (FOLDER / "README.md").read_text(encoding="utf-8")
PUBLIC = ("npefficient", "npefficient.training", "npefficient.hub", "weights_convert")
DIRECTIVE = re.compile(r"^```\{eval-rst\}\n\.\. auto(function|class|exception):: (\S+)\n```$", re.MULTILINE)


def documented():
    """The objects on the API pages, in order, each with the kind that its page calls it."""
    pages = sorted((FOLDER / "site" / "api").glob("*.md"))
    for kind, name in (found for page in pages for found in DIRECTIVE.findall(page.read_text())):
        module, _, rest = name.rpartition(".")
        yield getattr(importlib.import_module(module), rest), kind


def kind_of(item):
    if not isinstance(item, type):
        return "function"
    return "exception" if issubclass(item, Exception) else "class"


def test_every_public_name_is_on_one_page():
    """What two packages name alike, such as `convert`, is described once."""
    public = [getattr(module, name) for module in map(importlib.import_module, PUBLIC) for name in module.__all__]
    pages = list(documented())
    shown = [item for item, _ in pages]
    assert [item for item in public if item not in shown] == [] and [item for item in shown if item not in public] == []
    assert len(set(map(id, shown))) == len(shown)
    assert [(item, kind) for item, kind in pages if kind != kind_of(item)] == []


def test_every_page_of_the_api_is_in_the_contents():
    contents = re.findall(r"^api/(\w+)$", (FOLDER / "site" / "index.md").read_text(), re.MULTILINE)
    assert sorted(contents) == sorted(page.stem for page in (FOLDER / "site" / "api").glob("*.md")) and contents


def test_the_way_through_has_every_notebook_by_its_title_and_in_order():
    rows = re.findall(r"^\| \[(.+?)\]\((\w+\.ipynb)\)", WAY, re.MULTILINE)
    titles = [(read(path)["cells"][0]["source"].splitlines()[0].removeprefix("# "), path.name)
              for path in sorted(FOLDER.glob("*.ipynb"))]
    assert rows == titles


def test_the_way_through_has_every_script():
    rows = re.findall(r"^\| \[`(\w+\.py)`\]\((\w+\.py)\)", WAY, re.MULTILINE)
    assert sorted(rows) == [(path.name, path.name) for path in sorted(FOLDER.glob("*.py"))]


@pytest.mark.parametrize("path", ["notebooks/README.md", "notebooks/site/index.md"])
def test_links_lead_to_what_is_there(path):
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / path).read_text(encoding="utf-8"))
    assert links and [link for link in links if not (ROOT / path).parent.joinpath(link).exists()] == []


def test_ci_builds_the_site_and_fails_on_a_warning():
    run = (ROOT / ".ci" / "run").read_text().splitlines()
    assert run.index('python -m pip install -q -e ".[lint,docs]"') < run.index("bash .ci/docs")
    assert "-m sphinx" in (build := (ROOT / ".ci" / "docs").read_text()) and "--fail-on-warning" in build


def test_the_extra_has_all_that_the_site_is_built_with():
    """Exact versions: a new one may warn of something new."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extra = dict(line.split("==") for line in config["options.extras_require"]["docs"].split())
    source = (FOLDER / "site" / "conf.py").read_text()
    theme = re.search(r'^html_theme = "(\w+)"', source, re.MULTILINE)[1]
    extensions = re.search(r"^extensions = \[(.*)\]", source, re.MULTILINE)[1]
    used = {name.strip('" ').replace("_", "-") for name in extensions.split(",") if "sphinx." not in name}
    used |= {theme, *re.findall(r"^from (sphinx|latex2mathml)\b", source, re.MULTILINE)}
    assert used == extra.keys()
