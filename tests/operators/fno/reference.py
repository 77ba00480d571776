"""neuraloperator's forward pass in NumPy, written from the description of its layout alone.

Arrays are channel-first with a batch axis, parameters have their names in the state dict. Nothing
of `jaxsci` is used.
"""

import math
from typing import Any

import numpy as np
from scipy.special import erf

DEFAULTS = {
    "in_channels": 2,
    "out_channels": 2,
    "hidden_channels": 4,
    "n_layers": 2,
    "lifting_channel_ratio": 2,
    "projection_channel_ratio": 2,
    "use_channel_mlp": True,
    "channel_mlp_expansion": 0.5,
    "channel_mlp_skip": "soft-gating",
    "fno_skip": "linear",
    "norm": None,
    "positional_embedding": "grid",
    "domain_padding": None,
    "stabilizer": None,
    "preactivation": False,
    "complex_data": False,
}


def weights(config, ranks: Any = None, seed=0):
    """Random parameters of every shape in the table; `ranks` of a factorised spectral weight."""
    c, rng = DEFAULTS | config, np.random.default_rng(seed)
    width, d, arrays = c["hidden_channels"], len(c["n_modes"]), {}

    def real(name, *shape):
        arrays[name] = rng.normal(size=shape) / math.sqrt(max(1, math.prod(shape[1:])))

    def compl(name, *shape, scale=1.0):
        arrays[name] = scale * (rng.normal(size=shape) + 1j * rng.normal(size=shape))

    def parts(module):
        return [f"{module}.fr", f"{module}.fi"] if c["complex_data"] else [module]

    def mlp(module, *sizes):
        for name in parts(module):
            for i, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
                real(f"{name}.fcs.{i}.weight", b, a, 1)
                real(f"{name}.fcs.{i}.bias", b)

    def skip(module, kind):
        for name in parts(module):
            if kind == "linear":
                real(f"{name}.conv.weight", width, width, 1)
            elif kind == "soft-gating":
                real(f"{name}.weight", 1, width, *[1] * d)

    features = c["in_channels"] + (d if c["positional_embedding"] else 0)
    mlp("lifting", features, int(c["lifting_channel_ratio"] * width), width)
    mlp("projection", width, int(c["projection_channel_ratio"] * width), c["out_channels"])
    last = c["n_modes"][-1] if c["complex_data"] else c["n_modes"][-1] // 2 + 1
    shape = (width, width, *c["n_modes"][:-1], last)
    for layer in range(c["n_layers"]):
        conv = f"fno_blocks.convs.{layer}"
        real(f"{conv}.bias", width, *[1] * d)
        match c.get("factorization"):
            case None:
                compl(f"{conv}.weight.tensor", *shape, scale=0.3)
            case "CP":
                compl(f"{conv}.weight.weights", ranks)
                for i, n in enumerate(shape):
                    compl(f"{conv}.weight.factors.factor_{i}", n, ranks, scale=0.5)
            case "TT":
                ends = (1, *ranks, 1)
                for i, n in enumerate(shape):
                    compl(f"{conv}.weight.factors.factor_{i}", ends[i], n, ends[i + 1], scale=0.5)
            case "Tucker":
                compl(f"{conv}.weight.core", *ranks, scale=0.5)
                for i, n in enumerate(shape):
                    compl(f"{conv}.weight.factors.factor_{i}", n, ranks[i], scale=0.5)
        skip(f"fno_blocks.fno_skips.{layer}", c["fno_skip"])
        if c["use_channel_mlp"]:
            inner = round(width * c["channel_mlp_expansion"])
            mlp(f"fno_blocks.channel_mlp.{layer}", width, inner, width)
            skip(f"fno_blocks.channel_mlp_skips.{layer}", c["channel_mlp_skip"])
        for i in (2 * layer, 2 * layer + 1):
            for name in parts(f"fno_blocks.norm.{i}") if c["norm"] == "group_norm" else ():
                real(f"{name}.weight", width)
                real(f"{name}.bias", width)
    return arrays


def forward(w, config, x):
    """The five steps of the description, in float64."""
    c = DEFAULTS | config
    d, grid = len(c["n_modes"]), x.shape[2:]

    def through(module, f, z):
        """A real map, or a pair of them for complex data."""
        if not c["complex_data"]:
            return f(module, z)
        fr, fi = (lambda a: f(f"{module}.fr", a)), (lambda a: f(f"{module}.fi", a))
        return fr(z.real) - fi(z.imag) + 1j * (fr(z.imag) + fi(z.real))

    def conv1x1(name, z):
        y = np.einsum("oc,bc...->bo...", w[f"{name}.weight"][..., 0], z)
        bias = w.get(f"{name}.bias")
        return y if bias is None else y + bias.reshape(1, -1, *[1] * d)

    def mlp(name, z):
        return conv1x1(f"{name}.fcs.1", gelu(conv1x1(f"{name}.fcs.0", z)))

    def skip(name, z):
        if f"{name}.conv.weight" in w:
            return conv1x1(f"{name}.conv", z)
        return w.get(f"{name}.weight", 1.0) * z

    def norm(i, z):
        if c["norm"] is None:
            return z
        axes = tuple(range(2 if c["norm"] == "instance_norm" else 1, 2 + d))

        def f(name, z):
            y = (z - z.mean(axes, keepdims=True)) / np.sqrt(z.var(axes, keepdims=True) + 1e-5)
            if c["norm"] == "instance_norm":
                return y
            return y * channels(w[f"{name}.weight"]) + channels(w[f"{name}.bias"])

        return through(f"fno_blocks.norm.{i}", f, z)

    def channels(a):
        return a.reshape(1, -1, *[1] * d)

    def pointwise(f, z):
        return f(z.real) + 1j * f(z.imag) if c["complex_data"] else f(z)

    def spectral(name, z):
        z = pointwise(np.tanh, z) if c["stabilizer"] else z
        axes, n = tuple(range(2, 2 + d)), z.shape[2:]
        W, count = dense(w, f"{name}.weight"), math.prod(n)
        k = [np.arange(m) - m // 2 for m in c["n_modes"]]
        if not c["complex_data"]:
            k[-1] = np.arange(c["n_modes"][-1] // 2 + 1)
        at = (slice(None), slice(None), *np.ix_(*(a % m for a, m in zip(k, n, strict=True))))
        X = (np.fft.fftn if c["complex_data"] else np.fft.rfftn)(z, axes=axes) / count
        Y = np.zeros((len(z), W.shape[1], *X.shape[2:]), complex)
        Y[at] = np.einsum("bi...,io...->bo...", X[at], W)
        y = np.fft.ifftn(Y, axes=axes) if c["complex_data"] else np.fft.irfftn(Y, n, axes=axes)
        return y * count + w[f"{name}.bias"][None]

    if c["positional_embedding"]:
        mesh = np.meshgrid(*(np.arange(n) / n for n in grid), indexing="ij")
        x = np.concatenate([x, np.broadcast_to(np.stack(mesh), (len(x), d, *grid))], 1)
    x = through("lifting", mlp, x)
    fraction = c["domain_padding"] or 0.0
    fraction = fraction if isinstance(fraction, list) else [fraction] * d
    margin = [round(f * n) for f, n in zip(fraction, grid, strict=True)]
    x = np.pad(x, [(0, 0), (0, 0), *((m, m) for m in margin)])
    for l in range(c["n_layers"]):  # noqa: E741
        last, blocks = l == c["n_layers"] - 1, "fno_blocks"
        act = lambda z: pointwise(gelu, z)  # noqa: E731
        end = (lambda z: z) if last else act
        if c["preactivation"]:
            x = norm(2 * l, act(x))
        a = 0 if c["fno_skip"] is None else through(f"{blocks}.fno_skips.{l}", skip, x)
        b = 0
        if c["use_channel_mlp"] and c["channel_mlp_skip"] is not None:
            b = through(f"{blocks}.channel_mlp_skips.{l}", skip, x)
        x = spectral(f"{blocks}.convs.{l}", x)
        x = end((x if c["preactivation"] else norm(2 * l, x)) + a)
        x = norm(2 * l + 1, x) if c["preactivation"] else x
        if c["use_channel_mlp"]:
            x = through(f"{blocks}.channel_mlp.{l}", mlp, x) + b
        x = x if c["preactivation"] else end(norm(2 * l + 1, x))
    inner = (slice(m, n + m) for m, n in zip(margin, grid, strict=True))
    return through("projection", mlp, x[(slice(None), slice(None), *inner)])


def dense(w, name):
    """The spectral weight in full."""
    if f"{name}.tensor" in w:
        return w[f"{name}.tensor"]
    factors = [w[key] for i in range(6) if (key := f"{name}.factors.factor_{i}") in w]
    if f"{name}.core" in w:
        whole = w[f"{name}.core"]
        for axis, f in enumerate(factors):
            whole = np.moveaxis(np.tensordot(f, whole, (1, axis)), 0, axis)
        return whole
    if f"{name}.weights" in w:
        total = 0
        for r, weight in enumerate(w[f"{name}.weights"]):
            outer = weight
            for f in factors:
                outer = np.multiply.outer(outer, f[:, r])
            total = total + outer
        return total
    whole = np.ones((1, 1))
    for f in factors:
        whole = np.tensordot(whole, f, 1)
    return whole[0, ..., 0]


def gelu(x):
    return x * (1 + erf(x / math.sqrt(2))) / 2
