"""Policies: names in, names out, and one compilation each."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from jaxsci.precision import PRESETS, ROLES, Policy

WIDTH = {"float64": 64, "float32": 32, "bfloat16": 16, "float16": 16}
CHOICES = st.lists(st.sampled_from(sorted(WIDTH)), min_size=len(ROLES), max_size=len(ROLES))


def _possible(roles: dict[str, str]) -> bool:
    wide = WIDTH[roles["product"]] >= WIDTH[roles["matrix"]]
    return wide and WIDTH[roles["output"]] >= WIDTH[roles["compute"]]


@settings(max_examples=300)
@given(CHOICES)
def test_every_policy_is_read_back_from_its_text(dtypes):
    roles = dict(zip(ROLES, dtypes, strict=True))
    if not _possible(roles):
        with pytest.raises(ValueError, match="must be at least as wide as"):
            Policy(**roles)
        return
    policy = Policy(**roles)
    assert Policy.parse(str(policy)) == policy
    assert hash(Policy.parse(str(policy))) == hash(policy)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_read_back(name):
    assert Policy.parse(name) == PRESETS[name]
    assert str(PRESETS[name]) == name


def test_short_names_dtypes_and_spaces():
    assert Policy.parse(" single , update = f64 ").update == "float64"
    assert Policy.parse("compute=bf16,params=f16").compute == "bfloat16"
    assert Policy(residual=jnp.float16, krylov=np.dtype("float32")).residual == "float16"
    assert Policy.parse("residual=fp16") == Policy(residual="float16")


@pytest.mark.parametrize(
    "text, match",
    [
        ("doubel", "unknown policy 'doubel'; did you mean 'double'"),
        ("", "unknown policy ''"),
        ("single,krilov=f32", "unknown role 'krilov'; did you mean 'krylov'"),
        ("single,krylov=float23", "unknown dtype of krylov 'float23'; did you mean 'float32'"),
        ("krylov=f32,krylov=f64", "role 'krylov' is given twice"),
        ("single,krylov", "expected role=dtype, got 'krylov'"),
        ("single,", "expected role=dtype, got ''"),
        ("matrix=f32,product=bf16", "`product` must be at least as wide as `matrix`"),
        ("output=f16", "`output` must be at least as wide as `compute`.*output='float32'"),
    ],
)
def test_bad_text_is_named(text, match):
    with pytest.raises(ValueError, match=match):
        Policy.parse(text)


def test_bad_types_are_named():
    with pytest.raises(TypeError, match="expected a string, got int"):
        Policy.parse(32)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="unknown dtype of update 'int32'"):
        Policy(update=jnp.int32)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="unknown dtype of update"):
        Policy(update=3.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="unknown role 'step'"):
        Policy().dtype("step")


def test_float64_needs_64_bit_types():
    policy = PRESETS["double"]
    with pytest.raises(ValueError, match="needs 64-bit types.*jax_enable_x64"):
        policy.dtype("update")
    with jax.enable_x64(True):
        assert policy.cast("update", jnp.ones(2, jnp.float32)).dtype == jnp.float64


@pytest.mark.parametrize("name", ["bundle_adjustment", "pose_graph", "naive_half"])
def test_presets_of_solvers_need_no_64_bit_types(name):
    policy = PRESETS[name]
    assert {str(policy.dtype(role)) for role in ROLES} <= {"float16", "float32"}


def test_static_under_jit_one_compilation_for_each_policy():
    traced = []

    @jax.jit
    def double(policy, x):
        traced.append(policy)
        return policy.cast("compute", x) * 2

    x = jnp.ones(3)
    for name in ("single", "bf16", "single"):
        policy = Policy.parse(name)
        assert double(policy, x).dtype == policy.dtype("compute")
    double(Policy(compute="float32"), x)
    assert len(traced) == 2
    assert jax.tree.leaves(Policy()) == []


def test_policies_cannot_be_changed():
    with pytest.raises(AttributeError, match="cannot assign"):
        Policy().update = "float64"  # pyright: ignore[reportAttributeAccessIssue]


def test_no_dtype_is_not_float64():
    with pytest.raises(ValueError, match="None"):
        Policy(params=None)
