"""Threads that do not wait for each other, set before the libraries that have them are loaded."""

import importlib.metadata
import os
import sys

_FLAG = "xla_cpu_enable_concurrency_optimized_scheduler"


def quieten() -> None:
    """One thread for each small factorisation, and one factorisation at a time.

    Operators that are corrected in each layer (BOON) factorise many small matrices. Each by threads
    of its own is ten times slower; several at the same time wait for each other for ever, on two
    cores with jaxlib 0.10. What the user has set stays. Too late once JAX has been imported.
    """
    if "jax" in sys.modules:
        return
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    flags = os.environ.get("XLA_FLAGS", "")
    # XLA stops the process at a flag that it does not know: only where it is known to exist.
    known = importlib.metadata.version("jaxlib").startswith("0.10.")
    if known and _FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{_FLAG}=false".strip()
