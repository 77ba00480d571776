"""The wheel holds every folder, under the right name, and works from where it is installed."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

SOURCES = {"jaxsci": "jaxsci", "solvers": "jaxsci/solvers", "operators": "jaxsci/operators"}


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def packages(repository: Path) -> set[str]:
    """Each package folder on disk, as the path that it must have in the wheel."""
    found = set()
    for source, target in SOURCES.items():
        for init in (repository / source).rglob("__init__.py"):
            inner = init.parent.relative_to(repository / source)
            found.add((Path(target) / inner).as_posix())
    return found


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy, so that the build leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in SOURCES:
        shutil.copytree(repository / folder, copy / folder, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, copy / name)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", "dist")
    built = run(sys.executable, "-m", "pip", "wheel", ".", *options, cwd=copy)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (copy / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("target")
    options = ("--no-deps", "--no-index", "--target", str(target))
    result = run(sys.executable, "-m", "pip", "install", *options, str(wheel), cwd=target)
    assert result.returncode == 0, result.stdout + result.stderr
    return target


def test_every_package_is_listed(repository: Path):
    settings = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(settings["packages"]) == {p.replace("/", ".") for p in packages(repository)}


def test_every_file_is_in_the_wheel(repository: Path, wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    for source, target in SOURCES.items():
        for file in (repository / source).rglob("*.py"):
            assert (Path(target) / file.relative_to(repository / source)).as_posix() in names
    assert "jaxsci/py.typed" in names


def test_nothing_else_is_in_the_wheel(wheel: Path):
    top = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"jaxsci"}


@pytest.mark.parametrize("name", ["jaxsci", "jaxsci.solvers", "jaxsci.operators"])
def test_installed_wheel_imports(installed: Path, name: str):
    # The path is set in the program: an editable install of the checkout must not be found first.
    program = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); import {name} as m; print(m.__file__)"
    )
    result = run(sys.executable, "-c", program, cwd=installed)
    assert result.returncode == 0, result.stderr
    expected = installed / name.replace(".", "/") / "__init__.py"
    assert Path(result.stdout.strip()).resolve() == expected.resolve()


@pytest.mark.parametrize("name", ["solvers", "operators"])
def test_bare_import_says_the_right_name(repository: Path, name: str):
    result = run(sys.executable, "-c", f"import {name}", cwd=repository)
    assert result.returncode != 0
    assert f"ImportError: write `import jaxsci.{name}`" in result.stderr
