"""Shared settings: strict promotion, four CPU devices, 32-bit unless a test asks for more."""

import contextlib
import os
import random
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("MPLBACKEND", "Agg")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    # Added to what is there: a caller's own flags must not cost the tests their devices.
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    ).strip()

import hypothesis  # noqa: E402  (the device count must be set before jax starts)
import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The first example compiles, so that a deadline would fail at random; the same examples each time.
hypothesis.settings.register_profile(
    "jaxsci", deadline=None, derandomize=True, max_examples=20, database=None
)
hypothesis.settings.load_profile("jaxsci")

TYPECHECK = os.environ.get("JAXSCI_TYPECHECK", "0") == "1"
_pytest_raises: Any = pytest.raises


@contextlib.contextmanager
def _raises_unchecked(*args: Any, **kwargs: Any):
    """`pytest.raises` with the type checks off: bad input must meet the library's own message."""
    with _pytest_raises(*args, **kwargs) as info:
        jaxtyping.config.update("jaxtyping_disable", True)
        try:
            yield info
        finally:
            jaxtyping.config.update("jaxtyping_disable", False)


if TYPECHECK:
    # Every annotated shape and dtype of the library is checked at each call that a test makes.
    jaxtyping.install_import_hook("jaxsci", "beartype.beartype")
    pytest.raises = _raises_unchecked


def pytest_addoption(parser):
    parser.addoption(
        "--time-limit",
        type=float,
        metavar="SECONDS",
        help="skip, with a reason, the tests that would start after this many seconds",
    )


def pytest_configure(config):
    config.stash[_STARTED] = time.monotonic()


@pytest.hookimpl(tryfirst=True)  # before `-m "not slow"` chooses
def pytest_collection_modifyitems(config, items):
    """Marks cases as slow, and, under a time limit, takes one test of every file after another."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("slow_but"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for name, all_of_it in cases.items():
        count = all_of_it[0].get_closest_marker("slow_but").args[0]
        # Drawn, so that no kind is left out by the order; by name, so that they stay the same.
        kept = random.Random(name).sample(all_of_it, min(count, len(all_of_it)))
        for item in all_of_it:
            if item not in kept:
                item.add_marker(pytest.mark.slow)
    if config.getoption("--time-limit") is None:
        return
    seen: dict[Path, int] = {}
    order = []
    for item in items:
        seen[item.path] = seen.get(item.path, -1) + 1
        order.append(seen[item.path])
    items[:] = [
        item for _, item in sorted(zip(order, items, strict=True), key=lambda pair: pair[0])
    ]


_STARTED = pytest.StashKey[float]()


def pytest_runtest_setup(item):
    limit = item.config.getoption("--time-limit")
    if limit is not None and time.monotonic() - item.config.stash[_STARTED] > limit:
        pytest.skip(f"not run: the time limit of {limit:.0f} s was reached")


_MAPS = Path("/proc/self/maps")


@pytest.fixture(autouse=True, scope="module")
def _room_for_programs():
    """Forgets what was compiled before Linux stops the process for it.

    Each program is a few mappings of memory, of which a process may have 65 530 by default.
    """
    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
    yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def x64():
    """Runs the test with 64-bit types switched on."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def data_dir(repository: Path) -> Path:
    """The reference data, which a user's clone does not have."""
    path = repository.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("reference data (../shared/data) is not part of a clone")
    return path
