"""Runs the Python of README.md and docs/*.md, page by page, as a reader would read it.

What a page takes for granted, such as the reader's simulations, is made by `contexts.py`.
"""

import ast
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from documentation import contexts
from sybil import Document, Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# docs/scaling.md runs in processes of its own: see test_scaling.py.
WITH_CODE = [page for page in PAGES if "```python" in page.read_text() and page.stem != "scaling"]


def parsed(page: Path) -> Document:
    """A page with its blocks of Python."""
    return Sybil([PythonCodeBlockParser()], path=str(ROOT)).parse(page)


# Calibrates a hundred posteriors.
SLOW = {"lfi"}
RUN = [
    pytest.param(page, id=page.stem.lower(), marks=[pytest.mark.slow] * (page.stem in SLOW))
    for page in WITH_CODE
]


@pytest.mark.parametrize("page", RUN)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)
    document = parsed(page)
    names = getattr(contexts, page.stem.lower())(monkeypatch)
    blocks = list(document)
    assert len(blocks) == page.read_text().count("```python")
    for number, block in enumerate(blocks):
        document.namespace.update(names.get(number, {}))
        block.evaluate()


def test_no_page_leaves_a_gap_in_its_code():
    for page in PAGES:
        for block in parsed(page):
            assert not gaps(block.parsed), f"{page.name}, the block at line {block.line}"


def gaps(code: str) -> int:
    """How often `...` stands for code left out, and not for axes of an array."""
    dots, axes = 0, 0
    for node in ast.walk(ast.parse(code)):
        dots += isinstance(node, ast.Constant) and node.value is Ellipsis
        if isinstance(node, ast.Subscript):
            parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            axes += sum(isinstance(p, ast.Constant) and p.value is Ellipsis for p in parts)
    return dots - axes


def test_gaps_are_told_from_axes():
    assert gaps("f(x[..., 0], x[...])") == 0
    assert gaps("f(..., a=1)\ng([...])\ndef h(): ...") == 3


def test_contexts_are_those_of_pages():
    assert {page.stem.lower() for page in WITH_CODE} == set(contexts.PAGES)


# Pages of the site alone, which link to the notebooks where the site has them.
OF_SITE = ("index.md", "tutorials.md", "guide.md", "own_maps.md")


@pytest.mark.parametrize(
    "page",
    [
        *(page for page in PAGES if page.name not in OF_SITE),
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "examples" / "tutorials").glob("*.py")),
    ],
    ids=lambda page: page.stem.lower(),
)
def test_links_to_files_lead_somewhere(page):
    """Sphinx checks the links of the site. These are those of the repository."""
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not link.startswith(("http://", "https://")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
