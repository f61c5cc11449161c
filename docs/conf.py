"""Settings of the documentation site: `make docs` builds it from these pages and the tutorials."""

import ast
import base64
import inspect
import json
import textwrap
from pathlib import Path

from imnn_tf.version import __version__

HERE = Path(__file__).parent
ROOT = HERE.parent
TUTORIALS = HERE / "tutorials"

project = "imnn-tf"
author = copyright = "The imnn-tf developers"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
root_doc = "index"
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types of other packages; pages are checked
# Sphinx looks for the name of a documented attribute in all classes, and finds several.
suppress_warnings = ["config.cache", "ref.python"]

# Pages: Markdown with GitHub's names for headings, and notebooks as they were committed.
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "text/html", 10), ("html", "image/png", 20)]

# The reference, from docstrings in Google's style. In them, single backticks hold code.
default_role = "code"
highlight_language = "none"  # a block that does not name its language is a command or an output
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = [("Call arguments", "params_style")]
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "imnn-tf"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"index": [], "install": [], "benchmarks": []}  # pages without neighbours


def copy_tutorials() -> None:
    """Puts the committed notebooks where Sphinx looks for pages, with the picture of each.

    That is the picture of the cell with the tag `gallery`.
    """
    TUTORIALS.mkdir(exist_ok=True)
    for old in TUTORIALS.iterdir():
        old.unlink()
    for source in sorted((ROOT / "examples" / "tutorials").glob("*.ipynb")):
        text = source.read_text(encoding="utf-8")
        text = text.replace("](../rim_denoising", "](../../examples/rim_denoising")
        text = text.replace("](../../docs/", "](../")
        (TUTORIALS / source.name).write_text(text, encoding="utf-8")
        (picture,) = (
            output["data"]["image/png"]
            for cell in json.loads(text)["cells"]
            if "gallery" in cell["metadata"].get("tags", ())
            for output in cell["outputs"]
            if "image/png" in output.get("data", {})
        )
        (TUTORIALS / source.name).with_suffix(".png").write_bytes(base64.b64decode(picture))


def readable_signature(app, what, name, obj, options, signature, return_annotation):
    """The signature as it is written in the source, where `ArrayLike` is one word."""
    if what not in ("class", "function", "method"):
        return None
    function = inspect.unwrap(obj.__init__ if inspect.isclass(obj) else obj)
    function = getattr(function, "__func__", function)  # of a class method
    if not inspect.isfunction(function):
        return None
    try:
        node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, SyntaxError):  # made by `dataclass`, say
        return None
    arguments = node.args
    listed = arguments.posonlyargs or arguments.args
    static = "staticmethod" in map(ast.unparse, node.decorator_list)
    if what in ("class", "method") and not static:
        del listed[0]
    returned = None if what == "class" or node.returns is None else ast.unparse(node.returns)
    for argument in ast.walk(arguments):
        written = getattr(argument, "annotation", None)
        if isinstance(written, ast.Constant) and isinstance(written.value, str):
            argument.annotation = ast.parse(written.value, mode="eval").body
    return f"({ast.unparse(arguments)})", returned and returned.strip("'")


def literal_equations(app, what, name, obj, options, lines) -> None:
    """Makes indented blocks between the paragraphs of a docstring literal, as they look there."""
    for number in range(len(lines) - 1, 0, -1):
        begins = lines[number].startswith("    ") and not lines[number - 1].strip()
        before = next((line for line in lines[number - 1 :: -1] if line.strip()), "    ")
        if begins and not before.startswith(" ") and not lines[number].lstrip().startswith(">>>"):
            lines[number:number] = ["::", ""]


def links_of_repository(app, docname, source) -> None:
    """Links to `benchmarks/results.md`, which is a page here."""
    source[0] = source[0].replace("](../benchmarks/results.md)", "](benchmarks.md)")


def setup(app) -> None:
    """Called by Sphinx."""
    copy_tutorials()
    app.connect("autodoc-process-signature", readable_signature)
    app.connect("autodoc-process-docstring", literal_equations, priority=100)  # before napoleon
    app.connect("source-read", links_of_repository)
