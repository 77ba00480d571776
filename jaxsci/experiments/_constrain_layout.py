"""From the arrays of a file to one prediction of known layout, or one clear line why not."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxsci.errors import lookup, require_finite
from jaxsci.grids import Axis, Grid

from ._constrain_names import AXES, SPACE, SPREADS, missing

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A prediction, or a batch of them, on a grid of times (`nt`, 1 without) and space points.

    - `coordinates`: as given: times, points, edges, periods.
    - `mean`: `(batch, nt, *space)`.
    - `kind`: `"variance"`, `"samples"`, `"cov"`, or `None` if there is no uncertainty.
    - `spread`: `(batch, nt, *space)`; `(batch, nt, M, *space)`; `(batch, nt, ns, ns)` or, if
        `joint_cov`, `(batch, nt * ns, nt * ns)`.
    - `source`: the name of the array that `spread` comes from.
    """

    coordinates: dict[str, np.ndarray]
    axes: tuple[str, ...]
    mean: np.ndarray
    kind: str | None
    spread: np.ndarray | None
    source: str | None
    joint_cov: bool
    batched: bool

    @property
    def timed(self) -> bool:
        """Whether there is a time axis."""
        return "t" in self.axes

    @property
    def lead(self) -> tuple[int, ...]:
        """The axes of one number per slice, as the file has them."""
        batch, times = self.mean.shape[:2]
        return ((batch,) if self.batched else ()) + ((times,) if self.timed else ())

    @property
    def variance(self) -> np.ndarray | None:
        """The marginal variances, `(batch, nt, *space)`."""
        if self.spread is None or self.kind == "variance":
            return self.spread
        if self.kind == "samples":
            return self.spread.var(axis=2, ddof=1)
        return np.diagonal(self.spread, axis1=-2, axis2=-1).reshape(self.mean.shape)

    def space(self) -> Grid:
        """The space grid, in the dtype of the mean."""
        return Grid(*(self._axis(name) for name in self.axes if name != "t"))

    def space_time(self) -> Grid:
        """The whole grid, in the dtype of the mean."""
        return Grid(*(self._axis(name) for name in self.axes))

    def _axis(self, name: str) -> Axis:
        dtype = self.mean.dtype
        edges, period = (self.coordinates.get(f"{what}_{name}") for what in ("edges", "period"))
        if edges is not None:
            edges = edges.astype(dtype)
            return Axis(name, (edges[:-1] + edges[1:]) / 2, edges=edges)
        points = self.coordinates[name].astype(dtype)
        return Axis(name, points, period=None if period is None else float(period))


def lay_out(arrays: Arrays, found: list[str], spread: str | None, precision: str | None):
    """The [`Prediction`] that the arrays hold, all numbers checked.

    **Arguments:** `found`: the names of everything in the file, for the messages; `spread`,
    `precision`: as in `ConstrainSettings`.

    **Raises:** `ValueError` that names the array, what was expected and what is there.
    """
    coordinates, sizes = _coordinates(arrays, found)
    source = _source(arrays, found, spread)
    for name in ("mean", source):
        if name is not None and name in arrays:
            require_finite(None, name, arrays[name])
    mean = _mean(arrays, found, source, sizes)
    dtype = _dtype(mean, arrays.get(source) if source else None, precision)
    axes = tuple(sizes)
    batched = mean.ndim == len(axes) + 1
    batch = mean.shape[0] if batched else 1
    times = sizes.get("t", 1)
    space = tuple(n for name, n in sizes.items() if name != "t")
    canonical = (batch, times, *space)

    kind, values, joint = None, None, False
    if source is not None:
        values = np.asarray(arrays[source])
        kind = "variance" if source == "std" else source
        if kind == "variance":
            _same_shape(source, values, mean)
            _not_negative(source, values)
            values = values.astype(dtype).reshape(canonical)
            values = values**2 if source == "std" else values
        elif kind == "samples":
            members = len(values)
            values = values.astype(dtype).reshape(members, *canonical)
            values = np.moveaxis(values, 0, 2)
        else:
            values, joint = _covariances(values.astype(dtype), mean.shape, batched, times, space)
    return Prediction(
        coordinates,
        axes,
        mean.astype(dtype).reshape(canonical),
        kind,
        values,
        source,
        joint,
        batched,
    )


def _coordinates(arrays: Arrays, found: list[str]):
    """Coordinates as given, and the number of points of each axis, in order."""
    kept: dict[str, np.ndarray] = {}
    sizes: dict[str, int] = {}
    for name in AXES:
        points, edges = arrays.get(name), arrays.get(f"edges_{name}")
        if points is None and edges is None:
            continue
        if points is not None:
            kept[name] = _increasing(name, points, 1 if name == "t" or edges is not None else 2)
            sizes[name] = len(points)
        if edges is not None:
            kept[f"edges_{name}"] = _increasing(f"edges_{name}", edges, 2)
            sizes[name] = len(edges) - 1
            if points is not None:
                _inside(name, points, edges)
        period = arrays.get(f"period_{name}")
        if period is not None:
            if period.shape != () or not np.isfinite(period) or edges is not None:
                raise ValueError(
                    f"`period_{name}`: expected one finite number, and points `{name}` rather "
                    f"than edges, got shape {period.shape}"
                )
            kept[f"period_{name}"] = period
    if not any(name in sizes for name in SPACE):
        raise missing(("x", "edges_x"), "coordinates of at least one space axis", found)
    return kept, sizes


def _increasing(name: str, values: np.ndarray, fewest: int) -> np.ndarray:
    if values.ndim != 1 or values.size < fewest:
        raise ValueError(
            f"`{name}`: expected a 1-D array of at least {fewest} coordinates, got shape "
            f"{values.shape}"
        )
    require_finite(None, name, values)
    steps = np.diff(values.astype(float))
    if (steps <= 0).any():
        i = int(np.argmax(steps <= 0))
        raise ValueError(
            f"`{name}`: expected strictly increasing coordinates, got {values[i]} followed by "
            f"{values[i + 1]} at index {i + 1}"
        )
    return values


def _inside(name: str, points: np.ndarray, edges: np.ndarray) -> None:
    if len(points) != len(edges) - 1:
        raise ValueError(
            f"`{name}` has {len(points)} points but `edges_{name}` has {len(edges)} edges; "
            f"expected {len(points) + 1} edges"
        )
    outside = (points < edges[:-1]) | (points > edges[1:])
    if outside.any():
        i = int(outside.argmax())
        raise ValueError(
            f"`{name}`: point {points[i]} at index {i} is outside its cell "
            f"[{edges[i]}, {edges[i + 1]}] of `edges_{name}`"
        )


def _source(arrays: Arrays, found: list[str], spread: str | None) -> str | None:
    if spread is not None:
        lookup("spread", spread, dict.fromkeys(SPREADS))
        if spread not in arrays:
            raise missing((spread,), "the spread that was asked for", found)
        return spread
    return next((name for name in SPREADS if name in arrays), None)


def _mean(arrays: Arrays, found: list[str], source: str | None, sizes: dict[str, int]):
    samples = np.asarray(arrays["samples"]) if source == "samples" else None
    if "mean" in arrays:
        mean = np.asarray(arrays["mean"])
    elif samples is not None and len(samples.shape) > 1:
        mean = samples.astype(np.result_type(samples, np.float32)).mean(axis=0)
    else:
        raise missing(("mean",), "the prediction", found)
    _fits("mean" if "mean" in arrays else "samples", mean.shape, sizes)
    if samples is not None and (samples.shape[1:] != mean.shape or len(samples) < 2):
        raise ValueError(
            f"`samples` has shape {samples.shape}, expected (M, {_list(mean.shape)}) with M >= 2 "
            f"as `mean` has shape {mean.shape}"
        )
    return mean


def _fits(name: str, shape: tuple[int, ...], sizes: dict[str, int]) -> None:
    grid = tuple(sizes.values())
    if shape[-len(grid) :] == grid and len(shape) in (len(grid), len(grid) + 1) and 0 not in shape:
        return
    axes = ", ".join(f"`{axis}` ({n})" for axis, n in sizes.items())
    hint = ""
    if sorted(shape) == sorted(grid) and len(shape) == len(grid):
        hint = f"; transpose it: the axes are in the order {', '.join(sizes)}"
    raise ValueError(
        f"`{name}` has shape {shape}, but the coordinates {axes} make a grid of shape {grid} "
        f"(or (batch, {_list(grid)})){hint}"
    )


def _same_shape(name: str, values: np.ndarray, mean: np.ndarray) -> None:
    if values.shape != mean.shape:
        raise ValueError(
            f"`{name}` has shape {values.shape}, but `mean` has shape {mean.shape}; "
            "expected the same"
        )


def _not_negative(name: str, values: np.ndarray, what: str = "numbers >= 0") -> None:
    if (values < 0).any():
        index = tuple(int(i) for i in np.argwhere(values < 0)[0])
        raise ValueError(f"`{name}`: expected {what}, got {values[index]} at index {index}")


def _covariances(
    cov: np.ndarray,
    shape: tuple[int, ...],
    batched: bool,
    times: int,
    space: tuple[int, ...],
) -> tuple[np.ndarray, bool]:
    batch, ns = (shape[:1] if batched else ()), int(np.prod(space))
    timed = len(shape) > len(space) + len(batch)
    per_slice = (*batch, *((times,) if timed else ()), ns, ns)
    whole = (*batch, times * ns, times * ns)
    if cov.shape not in (per_slice, whole):
        either = f"{per_slice} (one matrix per time) or {whole} (over space-time)"
        raise ValueError(
            f"`cov` has shape {cov.shape}, but `mean` has shape {shape}; expected "
            f"{either if timed else per_slice}"
        )
    diagonal = np.diagonal(cov, axis1=-2, axis2=-1)
    _not_negative("cov", diagonal, "variances >= 0 on the diagonal")
    skew = np.abs(cov - np.swapaxes(cov, -1, -2))
    if skew.max() > 1e3 * np.finfo(cov.dtype).eps * np.abs(cov).max():
        index = tuple(int(i) for i in np.unravel_index(int(skew.argmax()), skew.shape))
        raise ValueError(
            f"`cov`: expected symmetric matrices, got {cov[index]} at index {index}, which "
            f"differs from its mirror image by {skew[index]:.3g}"
        )
    joint = timed and cov.shape == whole and cov.shape != per_slice
    size = times * ns if joint else ns
    n_batch = shape[0] if batched else 1
    return cov.reshape(n_batch, *(() if joint else (times,)), size, size), joint


def _dtype(mean: np.ndarray, spread: np.ndarray | None, precision: str | None) -> np.dtype:
    """That asked for, else the wider of mean and spread; integers and halves are widened."""
    if precision is not None:
        lookup("precision", precision, {"float32": 32, "float64": 64})
        return np.dtype(precision)
    given = [a.dtype if a.dtype.kind == "f" else np.dtype(float) for a in (mean,)]
    if spread is not None and spread.dtype.kind == "f":
        given.append(spread.dtype)
    wide = np.result_type(np.float32, *given)
    return wide if wide in (np.float32, np.float64) else np.dtype(np.float64)


def _list(shape: tuple[int, ...]) -> str:
    return ", ".join(str(n) for n in shape)
