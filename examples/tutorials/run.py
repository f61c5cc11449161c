"""Runs the tutorials, and makes the notebooks from them.

A tutorial is a plain Python file in jupytext's percent format, which is what is edited. Its
notebook is made from it, executed, and is committed beside it.

    python examples/tutorials/run.py                  run all, and check the notebooks' code
    python examples/tutorials/run.py --write          run all, and write the notebooks
    python examples/tutorials/run.py 01 08 --write    run some
"""

import argparse
import base64
import io
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent
TUTORIALS = sorted(HERE.glob("[0-9][0-9]_*.py"))
MOST_BYTES = 300_000

# What TensorFlow writes before its log is set up; see docs/install.md.
STARTING = re.compile(
    r"^([IE]0000 00:00:.*|WARNING: All log messages before absl::.*)\n?", re.M
)

# Dots per inch and colours of the pictures in a notebook, so that it stays small.
DPI, COLOURS = 80, 64


def execute(source: Path) -> nbformat.NotebookNode:
    """The notebook of a tutorial, executed in a temporary folder."""
    notebook = jupytext.read(source)
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # the same in every run
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "matplotlibrc"
        settings.write_text(f"figure.dpi: {DPI}\n")
        client = NotebookClient(
            notebook,
            timeout=600,
            resources={"metadata": {"path": folder}},
            record_timing=False,
        )
        client.execute()
    return notebook


def smaller(picture: str) -> str:
    """A picture with fewer colours, as base64."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    file = io.BytesIO()
    image.quantize(COLOURS).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook as it is committed: without the lines of TensorFlow's start and without bars."""
    for cell in notebook.cells:
        kept = []
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == "stderr":
                output.text = STARTING.sub("", output.text)
                if not output.text.strip():
                    continue
            if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
                continue  # a bar, which a page without a kernel cannot show
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
            kept.append(output)
        if "outputs" in cell:
            cell.outputs = kept
    notebook.metadata.pop("widgets", None)
    notebook.metadata.pop("language_info", None)
    return notebook


def code_of(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """Kind and text of all cells."""
    return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


def run(source: Path, *, write: bool) -> None:
    """Runs a tutorial, and writes its notebook or compares the committed one with it."""
    path, started = source.with_suffix(".ipynb"), time.perf_counter()
    notebook = tidied(execute(source))
    text = nbformat.writes(notebook)
    if len(text) > MOST_BYTES:
        raise SystemExit(
            f"{path.name} has {len(text)} bytes, more than {MOST_BYTES}"
        )
    if write:
        path.write_text(text + "\n", encoding="utf-8")
    elif code_of(nbformat.read(path, 4)) != code_of(notebook):
        raise SystemExit(
            f"{path.name} is not made from {source.name}: run.py --write"
        )
    seconds = time.perf_counter() - started
    print(
        f"{source.stem:32} {seconds:6.1f} s {len(text) / 1000:6.0f} kB", flush=True
    )


def main() -> None:
    """Runs the tutorials that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", help="beginnings of names; all by default"
    )
    parser.add_argument("--write", action="store_true", help="write the notebooks")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["PYTHONHASHSEED"] = "0"
    names = tuple(options.names)
    chosen = [
        path for path in TUTORIALS if not names or path.name.startswith(names)
    ]
    if not chosen:
        sys.exit(f"no tutorial begins with {options.names}")
    for source in chosen:
        run(source, write=options.write)


if __name__ == "__main__":
    main()
