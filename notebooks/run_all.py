"""Run every notebook here: `python notebooks/run_all.py [NAME.ipynb ...]`.

Fails where a notebook raises, hangs for ten minutes in a cell, or was saved with its outputs
(`jupyter nbconvert --clear-output --inplace` takes them out). Nothing is written.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

FOLDER = Path(__file__).resolve().parent
LIMIT = 600


def stored_outputs(notebook: nbformat.NotebookNode) -> list[int]:
    """The numbers of the cells that were saved with an output or an execution count."""
    return [
        number
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count is not None)
    ]


def run(path: Path) -> str | None:
    """Run one notebook; what is wrong with it, or `None`."""
    notebook = nbformat.read(path, as_version=4)
    if cells := stored_outputs(notebook):
        return f"saved with outputs in cells {cells}; clear them"
    try:
        NotebookClient(
            notebook,
            timeout=LIMIT,
            resources={"metadata": {"path": FOLDER}},
            extra_arguments=["--log-level=ERROR"],
        ).execute()
    except (CellExecutionError, CellTimeoutError) as error:
        return str(error)
    return None


def report(path: Path) -> bool:
    """Run one notebook and print how it went; whether it went well."""
    start = time.monotonic()
    problem = run(path)
    print(f"{path.name}: {problem or 'ok'} ({time.monotonic() - start:.0f} s)", flush=True)
    return problem is None


if __name__ == "__main__":
    paths = [Path(name).resolve() for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb"))
    with ThreadPoolExecutor(2) as pool:  # each has a kernel, a process of its own
        failures = list(pool.map(report, paths)).count(False)
    print(f"{len(paths)} notebooks, {failures} failed")
    sys.exit(failures > 0)
