"""Bases: exact inverses, the same by FFT, and the condition that each function satisfies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.operators.spectral import (
    ChebyshevShen,
    Cosine,
    ExtendedFourier,
    Fourier,
    QuarterWave,
    Sine,
)

REAL = [
    *(basis(samples=s) for basis in (Sine, Cosine) for s in ("ends", "centres")),
    *(QuarterWave(zero, s) for zero in ("left", "right") for s in ("ends", "centres")),
    ChebyshevShen(),
    ChebyshevShen((0, 1), (0, 1)),
    ChebyshevShen((1.0, -0.3), (2.0, 0.5)),
    ChebyshevShen(None, (1.0, 0.0)),
    ChebyshevShen(None, None),
]
BASES = [Fourier(), *REAL]
FRAMES = [ExtendedFourier(), ExtendedFourier(1 / 3)]


def functions(basis, k, x):
    """What the docstrings say, in closed form, at any x."""
    match basis:
        case Sine():
            return np.sin(k * np.pi * x)
        case Cosine():
            return np.cos(k * np.pi * x)
        case QuarterWave(zero="left"):
            return np.sin((k + 0.5) * np.pi * x)
        case QuarterWave():
            return np.cos((k + 0.5) * np.pi * x)
        case ChebyshevShen():
            matrix = basis.combination(k + 1)
            return np.polynomial.chebyshev.chebval(2 * x - 1, matrix[:, k])
        case _:
            return np.exp(2j * np.pi * k * x)


def matrices(basis, points, modes, half=False):
    pair = [f(points, modes, half) for f in (basis.analysis, basis.synthesis)]
    return [m[0] + 1j * m[1] if isinstance(m, tuple) else m for m in pair]


@pytest.mark.parametrize("basis", BASES, ids=str)
@pytest.mark.parametrize("points", [9, 12])
def test_analysis_is_the_inverse_of_synthesis_up_to_the_limit(basis, points):
    limit = basis.limit(points)
    for modes in (1, 4, limit):
        analysis, synthesis = matrices(basis, points, modes)
        scale = np.abs(analysis).max() * np.abs(synthesis).max() * points
        np.testing.assert_allclose(analysis @ synthesis, np.eye(modes), atol=1e-14 * scale)
        x = basis.coordinates(points)
        expected = np.stack([functions(basis, k, x) for k in basis.wavenumbers(modes)], -1)
        np.testing.assert_allclose(synthesis, expected, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("basis", BASES, ids=str)
def test_coefficients_do_not_depend_on_the_number_of_points(basis):
    c = np.random.default_rng(0).normal(size=5)
    for points in (8, 13, 30):
        values = matrices(basis, points, 5)[1] @ c
        np.testing.assert_allclose(matrices(basis, points, 5)[0] @ values, c, atol=1e-12)


@pytest.mark.parametrize("basis", FRAMES, ids=str)
def test_a_longer_circle_has_the_integrals_of_what_ends(basis):
    # Those of exp(x) on [0, 1], in closed form, to the second order of the trapezoidal rule.
    length = 1 + basis.extension
    w = 2j * np.pi * basis.wavenumbers(6) / length
    exact = (np.exp(1 - w) - 1) / (1 - w) / length
    errors = []
    for points in (20, 39, 77):
        u = np.exp(basis.coordinates(points))
        errors.append(np.abs(matrices(basis, points, 6)[0] @ u - exact).max())
        x = basis.coordinates(points)
        found = matrices(basis, points, 6)[1]
        np.testing.assert_allclose(found, np.exp(np.multiply.outer(x, w)), atol=1e-13)
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4, rtol=0.02)


@pytest.mark.parametrize("basis, points, more", [(FRAMES[0], 9, 2), (FRAMES[1], 16, 5)])
def test_a_longer_circle_is_one_with_zeros_beside_the_axis(basis, points, more):
    # Where its points are whole in number: those of Fourier, on the values and 0.
    u = np.random.default_rng(5).normal(size=points)
    weighted = u * np.where(np.arange(points) % (points - 1), 1, 0.5)
    continued = np.concatenate([weighted, np.zeros(more - 1)])
    for half in (True, False):
        analysis, synthesis = matrices(basis, points, 5, half)
        whole = matrices(Fourier(), points - 1 + more, 5, half)
        np.testing.assert_allclose(analysis @ u, whole[0] @ continued, atol=1e-14)
        np.testing.assert_allclose(synthesis, whole[1][:points], atol=1e-13)


@pytest.mark.parametrize("points", [8, 9])
@pytest.mark.parametrize("modes", [1, 4, 5, 8])
def test_half_of_fourier_is_the_real_fft(points, modes):
    u = np.random.default_rng(1).normal(size=points)
    analysis, synthesis = matrices(Fourier(), points, modes, half=True)
    c = np.fft.rfft(u)[: modes // 2 + 1] / points
    np.testing.assert_allclose(analysis @ u, c, atol=1e-14)
    c = c + 1j * np.random.default_rng(2).normal(size=c.shape)  # an imaginary part at k = 0, too
    expected = np.fft.irfft(c, points) * points
    np.testing.assert_allclose((synthesis @ c).real, expected, atol=1e-13)


@pytest.mark.parametrize("basis", [*BASES, *FRAMES], ids=str)
@pytest.mark.parametrize("points", [9, 12])
def test_fft_gives_the_same(basis, points, x64):
    rng = np.random.default_rng(3)
    u = rng.normal(size=(2, points))
    for modes in (3, basis.limit(points)):
        for half in (True, False) if basis.complex else (False,):
            analysis, synthesis = matrices(basis, points, modes, half)
            got = jax.jit(lambda u, n=modes, h=half: basis.fast_analysis(u, n, h))(u)
            scale = np.abs(analysis).max() * points
            np.testing.assert_allclose(got, u @ analysis.T, atol=1e-14 * scale)
            c = rng.normal(size=(2, len(analysis)))
            c = c + 1j * rng.normal(size=c.shape) if basis.complex else c
            got = jax.jit(lambda c, h=half: basis.fast_synthesis(c, points, h))(c)
            expected = (c @ synthesis.T).real if half else c @ synthesis.T
            np.testing.assert_allclose(got, expected, atol=1e-14 * np.abs(synthesis).max() * points)


@pytest.mark.parametrize("basis", [Fourier(), *REAL[:8]], ids=str)
@pytest.mark.parametrize("points", [9, 12])
def test_the_inverse_fft_is_given_the_spectrum_of_a_real_function(basis, points, x64, monkeypatch):
    # What cuFFT makes of another one depends on how many there are.
    seen, irfft = [], jnp.fft.irfft

    def strict(spectrum, length):
        seen.append(np.asarray(spectrum)[..., :: length // 2 if length % 2 == 0 else length])
        return irfft(spectrum, length)

    monkeypatch.setattr(jnp.fft, "irfft", strict)
    half = basis.complex
    n = len(basis.wavenumbers(basis.limit(points), half))
    rng = np.random.default_rng(0)
    c = rng.normal(size=(2, n)) + (1j * rng.normal(size=(2, n)) if half else 0)
    basis.fast_synthesis(jnp.asarray(c), points, half)
    assert seen and all((each.imag == 0).all() for each in seen)


def test_conditions_hold_by_construction():
    random = np.random.default_rng(4).normal(size=6)
    h = 1e-6
    for basis, left, right in [
        (Sine(), (1, 0), (1, 0)),
        (Cosine(), (0, 1), (0, 1)),
        (QuarterWave("left"), (1, 0), (0, 1)),
        (QuarterWave("right"), (0, 1), (1, 0)),
        *((b, b.left, b.right) for b in REAL if isinstance(b, ChebyshevShen)),
    ]:

        def u(x, basis=basis):
            k = basis.wavenumbers(6)
            return sum(c * functions(basis, int(i), x) for c, i in zip(random, k, strict=True))

        for x, condition in ((0.0, left), (1.0, right)):
            if condition is not None:
                alpha, beta = condition
                slope = (u(x + h) - u(x - h)) / (2 * h)
                assert abs(alpha * u(x) + beta * slope) < 1e-5


def test_boundary_values_are_zeros_exactly():
    for basis, ends in [
        (Sine(), (0, -1)),
        (QuarterWave("left"), (0,)),
        (QuarterWave("right"), (-1,)),
        (ChebyshevShen(), (0, -1)),
        (ChebyshevShen((0, 1), (1, 0)), (-1,)),
    ]:
        modes = basis.limit(50)
        assert not basis.synthesis(50, modes)[list(ends)].any()
        c = jnp.ones(modes)
        assert not np.asarray(basis.fast_synthesis(c, 50))[list(ends)].any()


def test_chebyshev_shen_converges_exponentially():
    # (u, u') = (1, -1) at 0 and (e, -e) at 1, so that u + u' = 0 at both ends.
    basis, x = ChebyshevShen((1, 1), (1, 1)), ChebyshevShen().coordinates(40)
    u = np.exp(-x)
    errors = []
    for modes in (4, 8, 12):
        analysis, synthesis = matrices(basis, 40, modes)
        errors.append(np.abs(synthesis @ (analysis @ u) - u).max())
    assert errors[0] < 1e-3 and errors[1] < 1e-8 and errors[2] < 1e-12


def test_large_angles_lose_nothing_in_float32():
    for basis in (Fourier(), Sine(), Cosine("centres"), ExtendedFourier()):
        exact = matrices(basis, 1024, 500)[1]
        single = basis.synthesis(1024, 500, xp=jnp)
        single = np.asarray(single)
        single = single[0] + 1j * single[1] if basis.complex else single
        np.testing.assert_allclose(single, exact, atol=1e-6)


@pytest.mark.parametrize(
    "basis", [b for b in [*BASES, *FRAMES] if not isinstance(b, ChebyshevShen)], ids=str
)
@pytest.mark.parametrize("points", [64, 81, 1000])
def test_matrices_made_in_float32_are_rounded_about_once(basis, points):
    """Those of an exported file, beside those of the model."""

    @jax.jit
    def single():
        return [f(points, 12, xp=jnp) for f in (basis.analysis, basis.synthesis)]

    double = basis.analysis(points, 12), basis.synthesis(points, 12)
    for found, exact in zip(jax.tree.leaves(single()), jax.tree.leaves(double), strict=True):
        off = np.abs(found - exact).max() / np.abs(exact).max()
        assert off <= 2 * np.finfo(np.float32).eps


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: Sine("middle"), r"`Sine\(samples=...\)`: expected 'ends' or 'centres'"),
        (lambda: ExtendedFourier(0.0), r"`ExtendedFourier\(extension=...\)`: expected a ratio"),
        (lambda: ExtendedFourier(2**0.5), "at most 64, above 0 and at most 4, got 1.41"),
        (lambda: ExtendedFourier(float("nan")), "above 0 and at most 4, got nan"),
        (lambda: ExtendedFourier(5.0), "at most 4, got 5.0"),
        (lambda: QuarterWave("top"), r"`QuarterWave\(zero=...\)`: expected 'left' or 'right'"),
        (lambda: ChebyshevShen((0, 0)), r"left=.*finite and not both 0"),
        (lambda: ChebyshevShen(right=(1, 2, 3)), r"right=.*expected \(alpha, beta\)"),
        (lambda: ChebyshevShen((5, 1), (1, 0)).combination(3), "and none does"),
    ],
)
def test_bad_settings_are_named(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_bases_are_static():
    traces = []

    @jax.jit
    def f(basis, u):
        traces.append(basis)
        return basis.fast_analysis(u, 3)

    for basis in (Sine(), Sine("ends"), Sine("centres")):
        f(basis, jnp.ones(8))
    assert len(traces) == 2


def test_an_extension_is_a_number_of_any_kind():
    assert ExtendedFourier(np.float32(0.25)) == ExtendedFourier() == ExtendedFourier(1 / 4)


def test_angles_of_a_file_are_whole_numbers_that_fit():
    basis, points = ExtendedFourier(4 - 1 / 64), 100_000
    single = jax.jit(lambda: basis.synthesis(points, 64, True, jnp)[0])()
    exact = basis.synthesis(points, 64, True)[0]
    assert np.abs(single - exact).max() < 1e-6
