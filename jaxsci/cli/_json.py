"""Results as one JSON object."""

import dataclasses
import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def to_json(settings: Any, results: Any, seconds: float) -> str:
    """`{"settings", "results", "versions", "seconds"}` on one line; strict JSON."""
    return json.dumps(
        {
            "settings": plain(settings),
            "results": plain(results),
            "versions": versions(),
            "seconds": round(seconds, 3),
        },
        allow_nan=False,
    )


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    packages = {name: importlib.metadata.version(name) for name in ("jaxsci", "jax", "numpy")}
    return packages | {"python": platform.python_version()}


def plain(value: Any) -> Any:
    """As Python numbers, strings, lists and dictionaries; NaN and infinities become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    tolist = getattr(value, "tolist", None)  # numpy and jax arrays and scalars
    return plain(tolist()) if callable(tolist) else str(value)
