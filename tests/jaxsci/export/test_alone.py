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
OTHERS = (
    "constrained",
    "default",
    "padded",
    "boon",
    "lifted",
    "adapted",
    "default-plane",
    "circle",
)
NAMES = ["fno", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]


def numbers(args):
    """The arrays of a call by the names that a file of them has, `x` and those of the values."""
    x, *values = args
    return {"x": x} | {"_".join(face): g for face, g in (values[0] if values else {}).items()}


def alone(name, case, folder):
    """What an export gives in a process of its own for its inputs at three sizes."""
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
    return [np.load(folder / f"{name}-{k}.out.npy") for k in range(len(case.sizes))]


@pytest.mark.parametrize("name", NAMES)
def test_same_numbers_alone(name, case_of, relative, tmp_path):
    case = case_of(name)
    for sizes, found in zip(case.sizes, alone(name, case, tmp_path), strict=True):
        expected = jax.jit(jax.vmap(case.model))(*case.batch(*sizes))
        if name == "constrained":  # mean and variance, each in its own unit
            assert relative(found[:, 1], expected[:, 1]) <= 1e-6, sizes
            found, expected = found[:, 0], expected[:, 0]
        assert relative(found, expected) <= 1e-6, sizes
