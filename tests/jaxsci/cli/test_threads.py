"""Which threads `jaxsci run` asks for before JAX is there."""

import importlib.metadata
import os
import sys

import pytest

from jaxsci.cli._threads import quieten

NAMES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "XLA_FLAGS")


@pytest.fixture
def unset(monkeypatch):
    for name in NAMES:  # set first, so that the original is restored whatever happens to it
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "jax")


def found():
    return [os.environ.get(name) for name in NAMES]


@pytest.mark.parametrize("version", ["0.10.2", "0.12.0"])
def test_one_at_a_time_where_the_flag_exists(version, unset, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    quieten()
    flag = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
    assert found() == ["1", "1", flag if version == "0.10.2" else None]


def test_what_the_user_says_stays(unset, monkeypatch):
    said = ["4", "2", "--xla_cpu_enable_concurrency_optimized_scheduler=true --a=b"]
    for name, value in zip(NAMES, said, strict=True):
        monkeypatch.setenv(name, value)
    quieten()
    assert found() == said


def test_nothing_changes_once_jax_is_there(unset, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", object())
    quieten()
    assert found() == [None, None, None]
