"""The site: notebooks, pages, every source file, and the API from its docstrings. `.ci/docs` builds it.

The sources are read where they are, from the root of the repository, so a link to a file works in a plain checkout and
on the site. Nothing is executed: the tests compare the stored outputs of the notebooks with their code.
"""
import inspect
import re
import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from numpy.typing import ArrayLike
from sphinx import addnodes
from sphinx.errors import ExtensionError
from sphinx.parsers import Parser
from sphinx.util.typing import stringify_annotation

sys.path.insert(0, str(Path(__file__).parents[2]))  # what is documented is what lies beside it

from npefficient import __version__  # noqa: E402

project = "npefficient"
release = version = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".py": "python"}
root_doc = "notebooks/site/index"
include_patterns = ["*.md", "notebooks/**", "npefficient/**", "weights_convert/**.py", "tests/**.py"]
exclude_patterns = ["notebooks/site/conf.py", "**/.ipynb_checkpoints"]

nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # "#the-first-start", as on GitHub
autodoc_default_options = {"members": True}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True  # as in the source: Sphinx can't read "<function <lambda>>"
autodoc_member_order = "bysource"
maximum_signature_line_length = 80
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "npefficient"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_static_path, html_css_files = ["static"], ["site.css"]
smartquotes = False  # "float32" in a docstring is to be copied
html_math_renderer = "mathml"
html_additional_pages = {"index": "to_root.html"}
templates_path = ["templates"]
pygments_style, pygments_dark_style = "friendly", "monokai"

PARAMETERS = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*): (.*)")  # "mean, std: one number per channel"
SPECIAL = re.compile(r"([\\*_|])")


class Source(Parser):
    """A Python file as a page: its path, and its lines with their numbers."""

    supported = ("python",)

    def parse(self, inputstring, document):
        env = document.settings.env
        path = Path(env.doc2path(env.docname)).relative_to(env.srcdir).as_posix()
        section = nodes.section("", nodes.title("", path), ids=["source"], names=["source"])
        section += nodes.literal_block(inputstring, inputstring, language="python", linenos=True)
        document += section
        env.metadata[env.docname]["orphan"] = ""  # in no table of contents: links lead to it


def link_folders(app, doctree):
    """A link to a folder leads to the file with its docstring, or to its README."""
    for link in doctree.findall(addnodes.pending_xref):
        if link.get("reftype") != "myst" or link.get("refdomain"):
            continue
        _, folder = app.env.relfn2path(link["reftarget"], link["refdoc"])
        for page in ("__init__.py", "README.md"):
            docname = app.env.path2doc(str(Path(folder, page)))
            if docname in app.env.found_docs:
                link.attributes |= {"refdomain": "doc", "reftarget": docname, "reftargetid": None}


def marked_up(text):
    """A line of a docstring as reStructuredText, where only `code` is marked."""
    parts = text.split("`")
    return "``".join(part if number % 2 else SPECIAL.sub(r"\\\1", part) for number, part in enumerate(parts))


def docstring_lines(app, what, name, item, options, lines):
    """Docstrings are written for the terminal: here parameters become a list, and what is indented stays as it is."""
    plain, lines[:], within = list(lines), [], ""
    for line in plain:
        indented = line.startswith(" ")
        if line and not indented:
            found = PARAMETERS.fullmatch(line)
            within = "parameter" if found else "text"
            if found:
                lines += ["", f"``{found[1]}``", "    " + marked_up(found[2])]
            else:
                lines += ([""] if lines and lines[-1].startswith(" ") else []) + [marked_up(line)]
        elif indented and within == "text":
            lines += ["", "::", "", line]
            within = "block"
        else:
            lines.append(line if within == "block" else marked_up(line))
    if what in ("function", "class", "exception") and (file := inspect.getsourcefile(item)):
        page = Path(file).relative_to(app.srcdir).as_posix()
        lines += ["", f"Source: :doc:`{page} </{page.removesuffix('.py')}>`", ""]


def name_array_like(app, what, name, item, options, signature, returned):
    """ArrayLike by its name, and not as the long union that it is."""
    return signature and signature.replace(stringify_annotation(ArrayLike, "smart"), "ArrayLike"), returned


def mathematics(writer, node):
    """Formulas as MathML, which browsers draw without a script or a font from elsewhere."""
    drawn = convert(node.astext(), display="inline" if isinstance(node, nodes.math) else "block")
    if unknown := re.findall(r"<mi>(\\\w+)", drawn):
        raise ExtensionError(f"{writer.builder.current_docname}: latex2mathml does not know {unknown}")
    writer.body.append(drawn if isinstance(node, nodes.math) else f'<div class="math">{drawn}</div>')
    raise nodes.SkipNode


def setup(app):
    app.add_source_parser(Source)
    app.add_html_math_renderer("mathml", (mathematics, None), (mathematics, None))
    app.connect("doctree-read", link_folders)
    app.connect("autodoc-process-docstring", docstring_lines)
    app.connect("autodoc-process-signature", name_array_like)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
