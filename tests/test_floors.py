"""The floors: what import-linter reads is all there is, and no import goes up."""

import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

LINT = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]


def test_linter_sees_every_module(repository: Path):
    # The linked folders are the ones that a walk of the disk could miss without a word.
    graph = grimp.build_graph("jaxsci", cache_dir=None)
    folders = {"jaxsci": "jaxsci", "solvers": "jaxsci.solvers", "operators": "jaxsci.operators"}
    for folder, package in folders.items():
        for file in (repository / folder).rglob("*.py"):
            inner = file.relative_to(repository / folder).with_suffix("").parts
            name = ".".join([package, *inner]).removesuffix(".__init__")
            assert name in graph.modules


def test_no_import_goes_up(repository: Path):
    lint = subprocess.run(LINT, cwd=repository, capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout + lint.stderr


@pytest.mark.parametrize(
    ("lower", "upper", "contract"),
    [
        ("grids", "jaxsci.surrogates", "An import goes down only"),
        ("solvers", "jaxsci.metrics", "The solvers do not know what must hold"),
        ("conservation", "jaxsci.solvers", "What must hold does not know the solvers"),
    ],
)
def test_a_wrong_import_is_found(repository: Path, tmp_path: Path, lower, upper, contract):
    """The contracts bite: in an empty copy of the folders, one wrong import breaks its contract."""
    text = (repository / "pyproject.toml").read_text()
    for package in tomllib.loads(text)["tool"]["setuptools"]["packages"]:
        folder = tmp_path.joinpath(*package.split("."))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(text)
    (tmp_path / "jaxsci" / lower / "__init__.py").write_text(f"import {upper}\n")
    lint = subprocess.run(LINT, cwd=tmp_path, capture_output=True, text=True)
    assert lint.returncode != 0
    assert f"{contract} BROKEN" in lint.stdout
