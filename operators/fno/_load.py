"""Weights of PyTorch's neuraloperator, read and written."""

import json
import os
import re
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxsci.errors import lookup
from jaxsci.operators.layers import Identity
from jaxsci.operators.spectral import Method
from jaxsci.precision import Policy

from ._fno import FNO
from ._layout import entries

# Arguments of the reference in the order in which they may be given without a name.
_POSITIONAL = ("n_modes", "in_channels", "out_channels", "hidden_channels", "n_layers")
_FACTORIZATIONS = {"dense": None, "tucker": "tucker", "cp": "cp", "tt": "tt"}
_NORMS = {"instance_norm": "instance", "group_norm": "group"}
# What has no effect on a forward pass with given weights.
_IGNORED = {
    "name", "source", "cls", "args", "_name", "_version", "verbose", "rank", "fixed_rank_modes",
    "implementation", "decomposition_kwargs", "channel_mlp_dropout", "factorization", "n_layers",
    "channel_mlp_expansion", "lifting_channel_ratio", "projection_channel_ratio", "out_channels",
    "hidden_channels", "use_channel_mlp", "fno_skip", "channel_mlp_skip", "complex_data",
    "in_channels",
}  # fmt: skip
# What we do not have, and the values that mean that it is not used.
_REFUSED = {
    "separable": (False, None),
    "resolution_scaling_factor": (None, 1),
    "max_n_modes": (None,),
    "fno_block_precision": ("full",),
}


def load_neuraloperator(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    config: Mapping[str, Any] | None = None,
    method: Method = "auto",
    policy: Policy | None = None,
    dtype: Any = None,
) -> FNO:
    """An FNO with the weights of one of PyTorch's neuraloperator (2.0): `FNO` and `TFNO`.

    Sizes, factorisation and kinds of skips are seen in the names and shapes of the arrays. What
    leaves no trace there is taken from the configuration: `n_modes` (as a check), `domain_padding`,
    `stabilizer`, `preactivation`, `positional_embedding`, `norm`, `non_linearity`.

    **Arguments:**

    - `source`: path of an `.npz` file, with arrays under their names in the state dict, behind
        `w/` or not, and the configuration as a JSON string `cfg`; or a state dict, `model.
        state_dict()` itself (tensors are converted, and its `_metadata` is the configuration).
    - `config`: constructor arguments of the reference by name, over those of the source.
    - `method`, `policy`, `dtype`: of our [`jaxsci.operators.fno.FNO`][]; by default the dtype of
        the arrays.

    **Raises:** `ValueError` that names every array that is missing, unexpected, of another shape
    or not finite, and for what the reference has and we do not: separable weights, resolution
    scaling, a `max_n_modes` (whose surplus is never used), precisions other than full (pass a
    `policy`), batch and adaptive norms.

    What the reference is known to compute wrongly is computed right: odd sizes of an axis that is
    not the last (release 2.0.0), and complex data, whose wavenumbers it displaces; there the
    weights mean another function than in the reference.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.operators.fno import FNO, load_neuraloperator, neuraloperator_weights
        >>> model = FNO(1, 1, modes=8, width=6, layers=2, key=jax.random.key(0))
        >>> weights = neuraloperator_weights(model)
        >>> weights["fno_blocks.convs.0.weight.tensor"].shape
        (6, 6, 5)
        >>> x = jnp.ones((1, 16))
        >>> bool((load_neuraloperator(weights)(x) == model(x)).all())
        True

    Reference: Kossaifi et al., *A Library for Learning Neural Operators*, 2024.
    """
    arrays, found, where = _read(source)
    config = {**found, **(config or {})}
    for name, unused in _REFUSED.items():
        if (value := config.get(name, unused[0])) not in unused:
            raise ValueError(
                f"{where}: `{name}={value!r}` is not supported; expected {unused[0]!r}"
            )
    shell, classic = _shell(arrays, config, where, method, policy)
    wanted = entries(shell)
    problems = _problems(arrays, wanted)
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise ValueError(f"{where}: {count}: {'; '.join(problems)}")
    if policy is not None:
        dtype = policy.dtype("params")
    elif dtype is None:
        dtype = jax.dtypes.canonicalize_dtype(arrays[wanted[0].name].dtype)
    leaves = [jnp.asarray(entry.ours(arrays[entry.name]), dtype) for entry in wanted]
    shapes, rest = eqx.partition(shell, lambda leaf: not callable(leaf))
    model = eqx.combine(jax.tree.unflatten(jax.tree.structure(shapes), leaves), rest)
    if not classic:
        return model
    # Without a channel MLP the reference goes on to its second norm and activation all the same.
    blocks = tuple(
        eqx.tree_at(lambda b: b.mlp, block, Identity(), is_leaf=lambda leaf: leaf is None)
        for block in model.blocks
    )
    return eqx.tree_at(lambda m: m.blocks, model, blocks)


def neuraloperator_weights(model: FNO) -> dict[str, np.ndarray]:
    """The arrays of a model as the reference's state dict has them: what is read back.

    **Raises:** `ValueError` for a part that the reference does not have.
    """
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_array))
    named = zip(entries(model), leaves, strict=True)
    return {entry.name: entry.theirs(np.asarray(leaf)) for entry, leaf in named}


def _read(source: Any) -> tuple[dict[str, np.ndarray], dict[str, Any], str]:
    """Arrays, configuration and what to call the source."""
    if isinstance(source, Mapping):
        where, content = "`load_neuraloperator(source)`", dict(source)
        config = dict(content.pop("_metadata", None) or {})
    else:
        where = f"`load_neuraloperator({os.fspath(source)!r})`"
        with np.load(source, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        config = json.loads(str(content.pop("cfg", "{}")))
    config |= dict(zip(_POSITIONAL, config.get("args", ()), strict=False))
    if any(name.startswith("w/") for name in content):
        content = {n.removeprefix("w/"): a for n, a in content.items() if n.startswith("w/")}
    arrays = {}
    for name, array in content.items():
        if type(array).__module__.startswith("torch"):
            array = array.detach().cpu().numpy()
        arrays[str(name)] = np.asarray(array)
    return arrays, config, where


def _shell(
    arrays: dict[str, np.ndarray],
    config: dict[str, Any],
    where: str,
    method: Method,
    policy: Policy | None,
) -> tuple[FNO, bool]:
    """A model of the same kind and sizes without arrays, and whether it has no channel MLPs."""
    names = list(arrays)
    # The parts of complex maps are alike: one of them says all.
    plain = {re.sub(r"\.fr\b", "", n): arrays[n].shape for n in names if ".fi." not in n}
    for key in ("lifting.fcs.0.weight", "projection.fcs.1.weight", "fno_blocks.convs.0.bias"):
        if key not in plain:
            raise ValueError(
                f"{where}: expected the state dict of an FNO, got no {key!r} among "
                f"{len(names)} arrays{': ' + ', '.join(names[:5]) if names else ''}"
            )
    width, *ones = plain["fno_blocks.convs.0.bias"]
    dimensions = len(ones)
    layers = 1 + max(int(m[1]) for n in plain if (m := re.match(r"fno_blocks\.convs\.(\d+)", n)))
    kind, rank, kept = _weight_kind(plain, dimensions, where)
    complex_data = any(".fr." in name for name in names)
    modes = kept if complex_data else (*kept[:-1], max(1, 2 * (kept[-1] - 1)))
    if "n_modes" in config:
        given = config["n_modes"]
        given = (given,) if isinstance(given, int) else tuple(given)
        expected = given if complex_data else (*given[:-1], given[-1] // 2 + 1)
        if expected != kept:
            raise ValueError(
                f"{where}: `n_modes={given}` needs weights for {expected} modes, got {kept}"
            )
        modes = given
    features, positional = plain["lifting.fcs.0.weight"][1], config.get("positional_embedding")
    positional = "grid" if "positional_embedding" not in config else positional
    if positional not in ("grid", None):
        raise ValueError(f"{where}: `positional_embedding`: expected 'grid' or None")
    in_channels = features - (dimensions if positional else 0)
    if config.get("in_channels", in_channels) != in_channels or in_channels < 1:
        raise ValueError(
            f"{where}: the lifting takes {features} channels, expected in_channels"
            f"{f' and {dimensions} coordinates' if positional else ''}; with other inputs pass "
            "config={'positional_embedding': None}"
        )
    activation = config.get("non_linearity")
    if activation is not None and getattr(activation, "__name__", str(activation)) != "gelu":
        raise ValueError(f"{where}: `non_linearity`: expected gelu, got {activation!r}")
    if (stabilizer := config.get("stabilizer")) not in (None, "tanh"):
        raise ValueError(f"{where}: `stabilizer`: expected None or 'tanh', got {stabilizer!r}")
    norm = config.get("norm")
    if norm is None and "fno_blocks.norm.0.weight" in plain:
        norm = "group_norm"
    mlp = plain.get("fno_blocks.channel_mlp.0.fcs.0.weight")
    hidden = [plain[f"{part}.fcs.0.weight"][0] for part in ("lifting", "projection")]
    settings: dict[str, Any] = {
        "layers": layers,
        "factorization": kind,
        "rank": rank,
        "lifting_ratio": hidden[0] / width,
        "projection_ratio": hidden[1] / width,
        # The second norm of a block exists with or without what it follows.
        "mlp_expansion": None if mlp is None and norm is None else (mlp or (1,))[0] / width,
        "skip": _skip(plain, config, "fno_skip", "fno_skips"),
        "mlp_skip": _skip(plain, config, "channel_mlp_skip", "channel_mlp_skips"),
        "norm": None if norm is None else lookup("norm of neuraloperator", norm, _NORMS),
        "positional_grid": positional == "grid",
        "padding": config.get("domain_padding"),
        "complex_data": complex_data,
        "stabilizer": stabilizer == "tanh",
        "preactivation": bool(config.get("preactivation", False)),
        "method": method,
        "policy": policy,
    }
    lookup_all(config, where)
    out_channels = plain["projection.fcs.1.weight"][0]
    shell = eqx.filter_eval_shape(
        lambda: FNO(in_channels, out_channels, modes, width, **settings, key=jax.random.key(0))
    )
    if mlp is None and norm is not None:
        blocks = [eqx.tree_at(lambda b: (b.mlp, b.mlp_skip), b, (None, None)) for b in shell.blocks]
        shell = eqx.tree_at(lambda m: m.blocks, shell, tuple(blocks))
    return shell, mlp is None


def lookup_all(config: Mapping[str, Any], where: str) -> None:
    """Raise `ValueError` for an argument that the reference does not have."""
    used = {"n_modes", "positional_embedding", "non_linearity", "stabilizer", "norm"}
    used |= {"domain_padding", "preactivation", "conv_module"}
    known = sorted(used | _IGNORED | set(_REFUSED))
    for name in config:
        if name not in known:
            raise ValueError(f"{where}: unknown argument {name!r} of neuraloperator's FNO")


def _weight_kind(plain: Mapping[str, Any], dimensions: int, where: str) -> Any:
    """Factorisation, ranks and modes of the first spectral weight."""
    prefix = "fno_blocks.convs.0.weight."
    if (dense := plain.get(prefix + "tensor")) is not None:
        if len(dense) != 2 + dimensions:
            raise ValueError(
                f"{where}: {prefix}tensor has {len(dense)} axes, expected {2 + dimensions}; "
                "separable weights are not supported"
            )
        return None, 1, dense[2:]
    names = [f"{prefix}factors.factor_{i}" for i in range(2 + dimensions)]
    factors = [plain[name] for name in names if name in plain]
    if len(factors) < len(names):
        raise ValueError(f"{where}: no spectral weight {prefix}tensor or {prefix}factors")
    if prefix + "core" in plain:
        return "tucker", [f[1] for f in factors], tuple(f[0] for f in factors[2:])
    if prefix + "weights" in plain:
        return "cp", factors[0][1], tuple(f[0] for f in factors[2:])
    return "tt", [f[2] for f in factors[:-1]], tuple(f[1] for f in factors[2:])


def _skip(plain: Mapping[str, Any], config: Mapping[str, Any], name: str, prefix: str) -> Any:
    if f"fno_blocks.{prefix}.0.conv.weight" in plain:
        return "linear"
    if f"fno_blocks.{prefix}.0.weight" in plain:
        return "soft-gating"
    # No arrays: the identity, or nothing, which must have been said.
    return config.get(name, "identity") and "identity"


def _problems(arrays: Mapping[str, np.ndarray], wanted: list[Any]) -> list[str]:
    expected = {entry.name: entry for entry in wanted}
    problems = [f"missing array {name!r}" for name in expected if name not in arrays]
    problems += [f"unexpected array {name!r}" for name in arrays if name not in expected]
    for name, entry in expected.items():
        if name not in arrays:
            continue
        array, kind = arrays[name], np.complexfloating if entry.complex else np.floating
        if array.shape != entry.shape:
            problems.append(f"{name!r} has shape {array.shape}, expected {entry.shape}")
        elif not np.issubdtype(array.dtype, kind):
            wanted_kind = "complex" if entry.complex else "real"
            problems.append(f"{name!r} is {array.dtype}, expected {wanted_kind} floats")
        elif not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            problems.append(f"{name!r} is {array[index]} at index {index}")
    return problems
