"""The modules of `imnn_tf.lfi`: what they may import, and what their names must not hide."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import imnn_tf.lfi
from imnn_tf.lfi import (
    ApproximateBayesianComputation,
    Execution,
    GaussianApproximation,
    Marginals,
    NeuralPosterior,
    PopulationMonteCarlo,
    Posterior,
    simulate,
    triangle,
)

ROOT = Path(imnn_tf.lfi.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    .removesuffix("__init__")
    .rstrip("."): path
    for path in sorted(ROOT.rglob("*.py"))
    if path != ROOT / "__init__.py"
}
# Every layer may import itself and the layers after it.
LAYERS = ["", "calibration", "neural", "methods", "density", "posterior", "running", "plots"]
# Modules at the top that all layers may import.
LEAVES = ["arguments", "prior"]


@pytest.mark.parametrize("order", [1, -1], ids=["forwards", "backwards"])
def test_importing_modules_hides_no_public_name(order):
    names = [f"imnn_tf.lfi.{module}" for module in MODULES][::order]
    script = (
        f"import importlib, inspect\nfor name in {names}: importlib.import_module(name)\n"
        "import imnn_tf.lfi as lfi\n"
        "assert inspect.isfunction(lfi.simulate) and inspect.isfunction(lfi.triangle)\n"
        "for name in lfi.__all__:\n"
        "    value = getattr(lfi, name)\n"
        "    assert inspect.ismodule(value) == (name == 'calibration'), name\n"
        "from imnn_tf.lfi import simulate\n"
        "assert callable(simulate)\n"
        "import imnn_tf.lfi.density, imnn_tf.lfi.posterior\n"
        "assert lfi.posterior.Posterior is lfi.Posterior\n"
        "assert lfi.posterior.hpd_levels is lfi.density.hpd_levels\n"
        "assert lfi.prior.Prior and lfi.calibration.sbc_ranks\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def imported(path):
    """The modules of this package that a module imports when it runs."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
    }
    return [
        node.module.removeprefix("imnn_tf.lfi.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and id(node) not in for_types
        if (node.module or "").startswith("imnn_tf.lfi.")
    ]


def layer(module):
    return LAYERS.index(module.split(".")[0] if "." in module or module in LAYERS else "")


def test_imports_run_one_way():
    for module, path in MODULES.items():
        for other in imported(path):
            if other not in LEAVES:
                assert module not in LEAVES, (module, other)
                assert layer(module) <= layer(other), (module, other)


def test_imports_have_no_circles():
    graph = {}
    for module, path in MODULES.items():
        others = imported(path)
        # Importing a module imports the folder above it first, unless that has begun already.
        folders = {other.split(".")[0] for other in others if "." in other} - {module.split(".")[0]}
        graph[module] = {*others, *folders}
    while graph:
        ready = [module for module, needs in graph.items() if not needs & set(graph)]
        assert ready, f"circle among {list(graph)}"
        for module in ready:
            del graph[module]


def test_no_folder_holds_more_than_twelve_modules():
    for folder in {path.parent for path in MODULES.values()}:
        assert len(list(folder.glob("*.py"))) <= 12, folder


@pytest.mark.parametrize(
    "documented",
    [
        ApproximateBayesianComputation,
        PopulationMonteCarlo,
        GaussianApproximation,
        Posterior,
        Execution,
        simulate,
        triangle,
        Marginals.of_grid,
        *(
            getattr(cls, name)
            for cls in (ApproximateBayesianComputation, PopulationMonteCarlo)
            for name in ("__call__", "posterior", "marginals", "plot", "scatter_plot", "add")
        ),
        GaussianApproximation.plot,
        NeuralPosterior,
        *(
            getattr(NeuralPosterior, name)
            for name in ("__call__", "train", "result", "results", "log_prob", "posterior", "add")
        ),
        *(
            getattr(NeuralPosterior, name)
            for name in ("marginals", "plot", "scatter_plot", "plot_history", "save", "load")
        ),
        Posterior.plot,
    ],
    ids=lambda documented: documented.__qualname__,
)
def test_help_describes_every_argument(documented):
    parameters = dict(inspect.signature(documented).parameters)
    parameters.pop("self", None)
    text = inspect.getdoc(documented)
    arguments = text.split("Args:\n")[1].split("\n\n")[0]
    for name, parameter in parameters.items():
        assert parameter.kind is not inspect.Parameter.VAR_POSITIONAL
        stars = r"**" if parameter.kind is inspect.Parameter.VAR_KEYWORD else ""
        assert f"    {stars}{name}: " in "\n" + arguments, name


def test_no_object_has_many_attributes(box_prior):
    arguments = [np.zeros((1, 10)), box_prior, np.eye(2), lambda data: data[:, :2]]
    for cls, more in (
        (GaussianApproximation, []),
        (ApproximateBayesianComputation, [lambda theta: theta]),
        (PopulationMonteCarlo, [lambda theta: theta]),
    ):
        assert len(vars(cls(*arguments, *more))) <= 15
    assert len(vars(NeuralPosterior(arguments[0], box_prior))) <= 15
