import inspect
import io
import pydoc

import numpy as np
import pytest

from imnn_tf import IMNN
from imnn_tf.utils import display


class Thing(display.Shown):
    def _facts(self):
        return {"size": "<3>", "error": display.number(1.23456, 0.0345)}


def test_an_object_says_what_it_is_as_a_line_and_as_a_table():
    assert repr(Thing()) == "Thing(size: <3>, error: 1.235 ± 0.035)"
    table = Thing()._repr_html_()
    assert "&lt;3&gt;" in table
    assert table.count("<tr>") == 2


def test_numbers_without_an_error_have_none():
    assert display.number(2.0) == display.number(2.0, np.nan) == "2"
    assert display.numbers([1, 20000], [0.5, 1e3]) == "1 ± 0.5, 2e+04 ± 1e+03"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_writes_few_lines_into_a_file(terminal):
    file = io.StringIO()
    file.isatty = lambda: terminal
    with display.bar(total=10_000, file=file, mininterval=0 if terminal else 30) as bar:
        for _ in range(10_000):
            bar.update()
    lines = file.getvalue().count("\r")
    assert lines > 100 if terminal else lines <= 3


def test_help_has_the_type_and_the_meaning_of_every_attribute():
    text = pydoc.plain(pydoc.render_doc(IMNN))
    for wanted in (
        "F\n |      tf.Tensor: Fisher information of the summaries",
        "n_s\n |      int: Number of fiducial simulations",
        "history\n |      dict[str, list]: Numbers of each update",
    ):
        assert wanted in text
    for name, member in inspect.getmembers(IMNN, lambda each: isinstance(each, property)):
        assert name.startswith("_") or member.__doc__, name
