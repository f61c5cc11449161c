"""Runs the examples in docstrings."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest
from documentation import contexts

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("imnn_tf", "rim_tf")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name, monkeypatch):
    contexts.train_little(monkeypatch)
    result = doctest.testmod(import_module(name))
    assert result.attempted
    assert not result.failed


def test_there_are_examples():
    assert len(MODULES) >= 5
