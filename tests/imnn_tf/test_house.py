"""What keeps the code easy to follow: few calls from a fit to the model, and small rooms."""

import ast
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import reference

import imnn_tf
import rim_tf
from imnn_tf import IMNN

PACKAGES = [Path(package.__file__).parent for package in (imnn_tf, rim_tf)]
MODULES = [path for package in PACKAGES for path in sorted(package.rglob("*.py"))]

# What Keras's own models have, and a model of ours may set.
OF_KERAS = {"built"}


class Probe(keras.layers.Layer):
    """Passes its input on, and records our own frames on the stack of each call."""

    def __init__(self):
        super().__init__()
        self.stacks = []

    def call(self, inputs):
        frame, names = sys._getframe(), []
        while frame is not None:
            if frame.f_code.co_filename.startswith(str(PACKAGES[0])):
                names.append(frame.f_code.co_name)
            frame = frame.f_back
        self.stacks.append(names)
        return inputs


@pytest.mark.parametrize(("at_once", "frames"), [(None, 11), (20, 17)])
def test_the_way_from_a_fit_to_the_model_is_short(at_once, frames):
    fiducial, derivative = reference.simulations(0, n_s=60)
    probe = Probe()
    imnn = IMNN(
        fiducial=fiducial,
        derivative=derivative,
        θ_fid=reference.THETA_FID,
        δθ=reference.DELTA_THETA,
        model=keras.Sequential([keras.Input((10,)), probe, keras.layers.Dense(2)]),
        at_once=at_once,
        verbose=False,
    )
    probe.stacks.clear()
    imnn.fit(1)
    updates = [stack for stack in probe.stacks if "_gradient" in stack]
    assert updates
    assert max(map(len, updates)) <= frames, updates


def attributes(class_):
    """The attributes that the methods of a class set on its objects."""
    methods = [each for each in class_.body if isinstance(each, ast.FunctionDef)]
    return {
        each.attr
        for method in methods
        for each in ast.walk(method)
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, ast.Store)
        and isinstance(each.value, ast.Name)
        and each.value.id == "self"
    } - OF_KERAS


def test_classes_are_small():
    seen = 0
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                seen += 1
                assert node.end_lineno - node.lineno < 400, f"{path}: {node.name}"
                assert len(attributes(node)) <= 15, f"{path}: {node.name}"
    assert seen > 50


def test_folders_have_few_modules():
    folders = [path.parent for path in MODULES if path.name != "__init__.py"]
    counts = np.unique([str(folder) for folder in folders], return_counts=True)
    too_full = {name: count for name, count in zip(*counts, strict=True) if count > 12}
    assert not too_full
