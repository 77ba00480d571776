"""What a model is, besides its arrays, as JSON: classes, settings and conditions; and back.

A node is a class by its import path with its fields, as an Equinox module is rebuilt by JAX anyway:
without its `__init__`. A function is its import path. An array is its dtype and shape.
"""

import base64
import builtins
import dataclasses
import enum
import functools
import hashlib
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

TRUSTED = ("jaxsci", "equinox", "lineax", "jax", "numpy")
"""The packages whose classes and functions a file may name."""
_PUBLIC = ("jax.nn", "jax.numpy", "jax.lax", "jax.scipy.special")


def describe(value: Any, numbers: bool = False) -> Any:
    """The JSON of a value; what has none is named as `{"unknown": type}`.

    **Arguments:** `numbers`: whether arrays are described with their numbers, for comparison. They
    are in the fields that a class names in `identifying`: a law that asks for something else makes
    another model, weights do not.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, enum.Enum):
        return _unknown(value)
    if isinstance(value, int | float):
        return value if np.isfinite(value) else {"float": repr(value)}
    if eqx.is_array(value) or isinstance(value, np.ndarray | np.generic | jax.ShapeDtypeStruct):
        shape = ",".join(map(str, value.shape))
        kind = "numpy" if isinstance(value, np.ndarray | np.generic) else "array"
        known = numbers and not isinstance(value, jax.ShapeDtypeStruct)
        held = f" = {_shown(np.asarray(value))}" if known else ""
        return {kind: f"{value.dtype}[{shape}]{held}"}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, list):
        return [describe(each, numbers) for each in value]
    if type(value) is tuple:
        return {"tuple": [describe(each, numbers) for each in value]}
    if type(value) is dict:
        return {"dict": [[describe(key), describe(each, numbers)] for key, each in value.items()]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _describe_object(value, numbers)
    if isinstance(value, np.dtype) or (isinstance(value, type) and _is_dtype(value)):
        return {"dtype": jnp.dtype(value).name}
    if isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
        return {"partial": [describe(part, numbers) for part in parts]}
    if callable(value) and (path := _path_of(value)) is not None:
        return {"import": path}
    return _unknown(value)


def rebuild(about: Any, where: str, trusted: tuple[str, ...] = ()) -> Any:
    """The value that was described, with placeholders for its arrays.

    **Raises:** `ValueError` for what the description or this installation does not have, and for
    import paths outside of `TRUSTED` and `trusted`.
    """

    def build(about: Any) -> Any:
        if isinstance(about, list):
            return [build(each) for each in about]
        if not isinstance(about, Mapping):
            return about
        if "class" in about:
            return _rebuild_object(about, build, where, trusted)
        ((kind, content),) = about.items()
        match kind:
            case "array" | "numpy":
                return _empty(kind, content)
            case "float":
                return float(content)
            case "bytes":
                return base64.b64decode(content)
            case "complex":
                return complex(*content)
            case "tuple":
                return tuple(build(each) for each in content)
            case "dict":
                return {build(key): build(each) for key, each in content}
            case "dtype":
                return jnp.dtype(content)
            case "import":
                return _import(content, where, trusted)
            case "partial":
                function, args, keywords = map(build, content)
                return functools.partial(function, *args, **keywords)
        raise ValueError(
            f"`{where}`: the model holds {content!r}, which a file cannot describe; pass "
            "`like=`, a model that was built in the same way"
        )

    return build(about)


def flattened(about: Any, name: str = "") -> dict[str, Any]:
    """A description by path, for comparison: `{".modes[0]": 8, ".weight": "float32[3]"}`."""
    if isinstance(about, list):
        found: dict[str, Any] = {}
        for i, each in enumerate(about):
            found |= flattened(each, f"{name}[{i}]")
        return found or {name: "empty"}
    if not isinstance(about, Mapping):
        return {name: "None" if about is None else about}
    if "class" in about:
        kind = about["class"].rpartition(".")[2]
        if kind == "Fixed":  # a number of a boundary condition: as one, where it is not many
            return {name: _numbers(**about["fields"])}
        found = {name or ".": kind}
        for field, each in about["fields"].items():
            found |= flattened(each, f"{name}.{field}")
        return found
    ((kind, content),) = about.items()
    if kind == "dict":
        found = {}
        for key, each in content:
            found |= flattened(each, f"{name}[{_key(key)}]")
        return found or {name: "empty"}
    return flattened(content, name)


def _numbers(content: Any, shape: Any, dtype: str) -> Any:
    return _shown(np.frombuffer(base64.b64decode(content["bytes"]), dtype))


def _shown(array: np.ndarray) -> Any:
    """The numbers, or, of many, what tells them from others."""
    if array.size <= 4:
        return array.ravel().tolist()
    return f"{array.size} numbers, SHA-256 {hashlib.sha256(array.tobytes()).hexdigest()[:12]}"


def _describe_object(value: Any, numbers: bool) -> Any:
    path = _path_of(type(value))
    if path is None:
        return _unknown(value)
    fields = {}
    for field in dataclasses.fields(value):
        if not hasattr(value, field.name):
            return _unknown(value)
        identifying = numbers or field.name in getattr(type(value), "identifying", ())
        fields[field.name] = describe(getattr(value, field.name), identifying)
    return {"class": path, "fields": fields}


def _rebuild_object(
    about: Mapping[str, Any], build: Callable[[Any], Any], where: str, trusted: tuple[str, ...]
) -> Any:
    cls, given = _import(about["class"], where, trusted), about["fields"]
    known = [field.name for field in dataclasses.fields(cls)]
    wrong = [f"no field {name!r}" for name in given if name not in known]
    wrong += [f"a new field {name!r}" for name in known if name not in given]
    if wrong:
        raise ValueError(
            f"`{where}`: {about['class']} has {' and '.join(wrong)} in the installed version; load "
            "it with the version that saved it, or pass `like=`"
        )
    made = {name: build(each) for name, each in given.items()}
    if not issubclass(cls, eqx.Module):
        return cls(**made)
    module = object.__new__(cls)
    for name, each in made.items():
        object.__setattr__(module, name, each)
    return module


def _empty(kind: str, content: str) -> Any:
    name, _, sizes = content.partition(" = ")[0].rstrip("]").partition("[")
    shape = tuple(int(n) for n in sizes.split(",") if n)
    if name.startswith("key<"):
        return jnp.broadcast_to(jax.random.key(0, impl=_impl(name)), shape)
    dtype = jnp.dtype(name)
    return np.zeros(shape, dtype) if kind == "numpy" else jax.ShapeDtypeStruct(shape, dtype)


def _impl(name: str) -> str:
    tags = {"fry": "threefry2x32", "rbg": "rbg", "urbg": "unsafe_rbg"}
    return tags.get(name[4:-1], name[4:-1])


def _path_of(value: Any) -> str | None:
    """Where a class or a function is imported from, if that gives the same object."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if name is None:
        return None
    where = getattr(value, "__module__", None)
    home = _named(where)
    for module in (*_PUBLIC, home):
        if module and _found(f"{module}.{name}") is value:
            return _shortest(f"{module}.{name}", value)
    # A `lambda` that a module has under a name.
    for name, each in vars(sys.modules.get(str(where), builtins)).items():
        if each is value:
            return f"{home}.{name}"
    return None


def _shortest(path: str, value: Any) -> str:
    """Without private modules, where a folder hands the name on: that lasts longer."""
    parts = path.split(".")
    public = [part for part in parts if not part.startswith("_")]
    return shorter if _found(shorter := ".".join(public)) is value else path


def _found(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(_module(module), name, None)
    except ImportError:
        return None


def _named(module: str | None) -> str | None:
    """The name under which another process imports a module: a script has that of its file."""
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return spec.name
    return module if file is None else Path(file).stem


def _module(name: str) -> ModuleType:
    """A module by that name; never the running script a second time."""
    if name == _named("__main__"):
        return sys.modules["__main__"]
    return importlib.import_module(name)


def _import(path: str, where: str, trusted: tuple[str, ...]) -> Any:
    top = path.partition(".")[0]
    if top not in (*TRUSTED, *trusted):
        raise ValueError(
            f"`{where}`: the file names {path!r}, and what a file names is imported and run; if "
            f"you trust it, pass trusted=({top!r},)"
        )
    found = _found(path)
    if found is None:
        raise ValueError(
            f"`{where}`: there is no {path!r} in the installed version; load it with the version "
            "that saved it, or pass `like=`"
        )
    home = _named(getattr(found, "__module__", None)) or getattr(found, "__name__", "")
    if str(home).partition(".")[0] not in (*TRUSTED, *trusted):
        raise ValueError(
            f"`{where}`: the file names {path!r}, which is not of that package but {home}"
        )
    return found


def _is_dtype(value: type) -> bool:
    try:
        return value not in vars(builtins).values() and jnp.dtype(value) is not None
    except TypeError:
        return False


def _key(about: Any) -> str:
    content = about["tuple"] if isinstance(about, Mapping) and "tuple" in about else about
    return repr(tuple(content)) if isinstance(content, list) else repr(content)


def _unknown(value: Any) -> dict[str, str]:
    name = getattr(value, "__qualname__", None)
    return {"unknown": f"{type(value).__name__} {name}" if name else type(value).__name__}
