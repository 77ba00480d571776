"""Runs exported models in a process that has JAX and nothing of this library: see test_alone.py.

`python run_alone.py FOLDER`: for each `NAME.stablehlo` there, calls it with the arrays of
`NAME-K.npz`, for all K, and writes what comes out to `NAME-K.out.npy`.
"""

import sys
from pathlib import Path

import jax
import numpy as np

folder = Path(sys.argv[1])
for file in sorted(folder.glob("*.stablehlo")):
    model = jax.export.deserialize(bytearray(file.read_bytes()))
    for inputs in sorted(folder.glob(f"{file.stem}-?.npz")):
        arrays = dict(np.load(inputs))
        x = arrays.pop("x")
        y = model.call(x, arrays) if arrays else model.call(x)
        np.save(inputs.with_suffix(".out.npy"), np.asarray(y))
forbidden = {"jaxsci", "equinox", "lineax"} & set(sys.modules)
assert not forbidden, forbidden
