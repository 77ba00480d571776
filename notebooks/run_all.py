"""Run every notebook here: `python notebooks/run_all.py [NAME.ipynb ...]`.

Fails where a notebook raises, takes longer than three minutes, or was saved with its outputs
(`jupyter nbconvert --clear-output --inplace` takes them out). Nothing is written.
"""

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

FOLDER = Path(__file__).resolve().parent
LIMIT = 180


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


if __name__ == "__main__":
    paths = [Path(name).resolve() for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb"))
    failures = 0
    for path in paths:
        start = time.monotonic()
        problem = run(path)
        failures += problem is not None
        seconds = time.monotonic() - start
        print(f"{path.name}: {problem or 'ok'} ({seconds:.0f} s)", flush=True)
    print(f"{len(paths)} notebooks, {failures} failed")
    sys.exit(failures > 0)
