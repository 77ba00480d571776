"""Exports in a process that has JAX and nothing of this library: the numbers of the live model."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsci.export import export_stablehlo

pytest.importorskip("flatbuffers", reason="jax writes exports with flatbuffers: jaxsci[export]")

SCRIPT = Path(__file__).with_name("run_alone.py")
NAMES = ("fno", "default", "lifted", "adapted", "boon", "default-plane", "circle")


def numbers(args):
    """The arrays of a call by the names that a file of them has, `x` and those of the values."""
    x, *values = args
    return {"x": x} | {"_".join(face): g for face, g in (values[0] if values else {}).items()}


@pytest.fixture(scope="module")
def written(case_of, tmp_path_factory):
    """A folder with an export of each case, its inputs at three sizes, and what came out alone."""
    folder = tmp_path_factory.mktemp("exports")
    for name in NAMES:
        case = case_of(name)
        export_stablehlo(folder / f"{name}.stablehlo", case.model, case.args, case.shapes)
        for k, sizes in enumerate(case.sizes):
            np.savez(folder / f"{name}-{k}.npz", **numbers(case.batch(*sizes)))
    # Not a folder from which the library could be imported, nor a path that leads to it.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_same_numbers_alone(name, written, case_of, relative):
    case = case_of(name)
    for k, sizes in enumerate(case.sizes):
        expected = jax.jit(jax.vmap(case.model))(*case.batch(*sizes))
        found = np.load(written / f"{name}-{k}.out.npy")
        assert relative(found, expected) <= 1e-6, sizes
