"""What the integral of each slice must be: given, or from what flows in and out."""

import dataclasses

import jax
import numpy as np

from jaxsci.conservation import flux_balance
from jaxsci.errors import require_finite

from ._constrain_layout import Arrays, Prediction
from ._constrain_names import BALANCE, missing


@dataclasses.dataclass(frozen=True)
class Law:
    """`G u = b + e`, `e ~ N(0, R)`, for each slice.

    - `b`: `(batch, nt)`.
    - `R`: `None` (exact), variances `(batch, nt)`, or covariances between times
        `(batch, nt, nt)`.
    """

    b: np.ndarray
    R: np.ndarray | None

    @property
    def variances(self) -> np.ndarray | None:
        """The diagonal of `R`."""
        if self.R is None or self.R.ndim == 2:
            return self.R
        return np.diagonal(self.R, axis1=1, axis2=2)


def law(
    arrays: Arrays,
    found: list[str],
    prediction: Prediction,
    *,
    rule: str | None,
    domain: bool,
    noise: float,
) -> Law:
    """The right-hand side that the arrays give, with the noise of the command line added.

    **Raises:** `ValueError` if there is neither `b` nor all flux data, if there are both, or if
    one of them has the wrong shape or a bad number.
    """
    given = [name for name in BALANCE if name in arrays]
    if "b" in arrays and given:
        raise ValueError(
            f"both `b` and flux data ({', '.join(f'`{g}`' for g in given)}) are given; keep one"
        )
    if "b" in arrays:
        b = _per_slice("b", arrays["b"], prediction)
        std = arrays.get("b_std")
        R = None if std is None else _per_slice("b_std", std, prediction, positive=True) ** 2
    elif not given:
        raise missing(("b", "initial"), "what the integral is, or the flux data", found)
    else:
        if domain:
            raise ValueError(
                "flux data are those of the whole boundary; with --domain give `b` itself"
            )
        if "b_std" in arrays:
            raise ValueError(
                "`b_std` belongs to `b`; with flux data use `initial_std`, `flux_*_std`"
            )
        b, R = _balance(arrays, found, prediction, rule)
    if noise:
        extra = np.asarray(noise, b.dtype) ** 2
        if R is None:
            R = np.full_like(b, extra)
        else:
            R = R + (extra if R.ndim == 2 else extra * np.eye(R.shape[-1], dtype=b.dtype))
    if R is not None and not R.any():
        R = None
    return Law(b, R)


def _per_slice(
    name: str, values: np.ndarray, prediction: Prediction, *, positive: bool = False
) -> np.ndarray:
    _checked(name, values, positive)
    lead = prediction.lead
    try:
        full = np.broadcast_to(values, lead)
    except ValueError:
        one = f" or {prediction.mean.shape[1:2]} (one per time)" if len(lead) == 2 else ""
        per = "slice" if lead else "prediction"
        raise ValueError(
            f"`{name}` has shape {values.shape}, but the prediction has slices {lead}; expected "
            f"one number, or {lead}{one}, one for each {per}"
        ) from None
    return full.astype(prediction.mean.dtype).reshape(prediction.mean.shape[:2])


def _checked(name: str, values: np.ndarray, positive: bool) -> None:
    require_finite(None, name, values)
    if positive and (values < 0).any():
        index = tuple(int(i) for i in np.argwhere(values < 0)[0])
        raise ValueError(f"`{name}`: expected numbers >= 0, got {values[index]} at index {index}")


def _balance(
    arrays: Arrays, found: list[str], prediction: Prediction, rule: str | None
) -> tuple[np.ndarray, np.ndarray | None]:
    if not prediction.timed:
        raise missing(("t",), "the times, which flux data need", found)
    grid = prediction.space_time()
    times, space = prediction.mean.shape[1], prediction.mean.shape[2:]
    axes = [axis.name for axis in grid.spatial.axes if axis.period is None]
    shapes: dict[str, list[tuple[int, ...]]] = {"initial": [()], "source": [(), (times,)]}
    shapes["source"].append((times, *space))
    if "initial" not in arrays:
        raise missing(("initial",), "the integral at the first time", found)
    for name in axes:
        face = tuple(a.size for a in grid.spatial.axes if a.name != name)
        for side in ("low", "high"):
            flux = f"flux_{name}_{side}"
            if flux not in arrays:
                raise missing(
                    (flux,), f"the flux through the {side} face of {name}; 0 for a wall", found
                )
            shapes[flux] = [(), (times,), *([(times, *face)] if face else [])]
            shapes[f"{flux}_std"] = [(), (times,)]
    shapes["initial_std"] = [()]
    for name in BALANCE:
        if name in arrays and name not in shapes:
            raise ValueError(f"`{name}`: the grid has no open face there; its axes are {axes}")
    signals = {
        name: _signal(name, arrays[name], options, prediction)
        for name, options in shapes.items()
        if name in arrays
    }
    uncertain = any(f"flux_{a}_{s}_std" in signals for a in axes for s in ("low", "high"))

    def one(s):
        zero = np.zeros((), prediction.mean.dtype)
        low_high = {a: (s[f"flux_{a}_low"], s[f"flux_{a}_high"]) for a in axes}
        stds = {
            a: (s.get(f"flux_{a}_low_std", zero), s.get(f"flux_{a}_high_std", zero)) for a in axes
        }
        made = flux_balance(
            grid,
            s["initial"],
            low_high,
            source=s.get("source", zero),
            flux_std=stds if uncertain else None,
            initial_std=s.get("initial_std"),
            rule=rule,
        )
        return made.b, made.R

    b, R = jax.jit(jax.vmap(one))(signals)
    return np.asarray(b), None if R is None else np.asarray(R)


def _signal(
    name: str, values: np.ndarray, options: list[tuple[int, ...]], prediction: Prediction
) -> np.ndarray:
    """The values with the batch as first axis, in the dtype of the mean."""
    _checked(name, values, positive=name.endswith("_std"))
    batch = prediction.mean.shape[0]
    shared = values.shape in options
    own = prediction.batched and values.shape in [(batch, *option) for option in options]
    if shared and own:
        raise ValueError(
            f"`{name}` has shape {values.shape}, which can be read with and without the batch of "
            f"{batch}; give it as {(batch, *values.shape)}"
        )
    if not shared and not own:
        with_batch = (
            f", with or without the batch of {batch} in front" if prediction.batched else ""
        )
        raise ValueError(
            f"`{name}` has shape {values.shape}, expected "
            f"{' or '.join(str(option) for option in options)}{with_batch}"
        )
    values = values.astype(prediction.mean.dtype)
    return values if own else np.broadcast_to(values, (batch, *values.shape))
