"""Tests and doctests compile quickly where they are asked to; set before jax starts."""

import os
from importlib.metadata import version

# The newer way of compiling loops for a CPU takes twice as long. A flag of these versions: others
# may stop at it.
_FLAG = "--xla_cpu_use_fusion_emitters"
_given = os.environ.get("XLA_FLAGS", "")
_asked = os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS") == "1"
if _asked and _FLAG not in _given and version("jaxlib").startswith("0.10."):
    os.environ["XLA_FLAGS"] = f"{_given} {_FLAG}=false".strip()
