"""The documentation knows every public name, and the check that says so can tell."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def public_names(repository: Path) -> ModuleType:
    path = repository / "docs" / "public_names.py"
    spec = importlib.util.spec_from_file_location("public_names", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_documented(repository: Path, public_names: ModuleType):
    found = public_names.problems(repository)
    assert not found, "\n".join(found)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_what_is_missing_is_named(tmp_path: Path, public_names: ModuleType):
    write(
        tmp_path,
        {
            "jaxsci/__init__.py": "",
            "jaxsci/fruit/__init__.py": (
                "from ._apple import Apple as Apple\nfrom ._apple import TABLE as TABLE\n"
                "from ._apple import peel as peel\nfrom ._apple import core as _core\n"
            ),
            "jaxsci/fruit/_apple.py": (
                "class _Fruit:\n    def eat(self):\n        '''Eat.'''\n\n"
                "class Apple(_Fruit):\n    '''An apple.'''\n"
                "    def eat(self): ...\n    def plant(self): ...\n    def _rot(self): ...\n\n"
                "TABLE: dict = {}\n'''Every apple.'''\n\ndef peel(): ...\n\ndef core(): ...\n"
            ),
            "solvers/__init__.py": "from ._dense import dense as dense\n",
            "solvers/_dense.py": "def dense():\n    '''Solve.'''\n",
            "docs/api/fruit.md": "::: jaxsci.fruit.Apple\n\n::: jaxsci.fruit.TABLE\n\n"
            "::: jaxsci.fruit.gone\n",
        },
    )
    found = public_names.problems(tmp_path)
    assert found == [
        "jaxsci.fruit.Apple.plant: no docstring (jaxsci/fruit/_apple.py:8)",
        "jaxsci.fruit.peel: on no page; add `::: jaxsci.fruit.peel` to docs/api/fruit.md",
        "jaxsci.fruit.peel: no docstring (jaxsci/fruit/_apple.py)",
        "jaxsci.solvers.dense: on no page; add `::: jaxsci.solvers.dense` to docs/api/solvers.md",
        "jaxsci.fruit.gone: on a page under docs/api, but not public",
    ]


def test_what_an_inner_folder_hands_on_is_linked(tmp_path: Path, public_names: ModuleType):
    write(
        tmp_path,
        {
            "jaxsci/fruit/__init__.py": (
                "from .stone import plum as plum\nfrom .stone import peach as peach\n"
            ),
            "jaxsci/fruit/stone/__init__.py": (
                "from ._stone import plum as plum\nfrom ._stone import peach as peach\n"
            ),
            "jaxsci/fruit/stone/_stone.py": (
                "def plum():\n    '''A plum.'''\n\ndef peach():\n    '''A peach.'''\n"
            ),
            "docs/api/fruit.md": "[`plum`][jaxsci.fruit.stone.plum]\n",
            "docs/api/stone.md": "::: jaxsci.fruit.stone.plum\n\n::: jaxsci.fruit.stone.peach\n",
        },
    )
    assert public_names.problems(tmp_path) == [
        "jaxsci.fruit.peach: add [`peach`][jaxsci.fruit.stone.peach] to docs/api/fruit.md"
    ]


def test_write_adds_the_missing_lines(tmp_path: Path, public_names: ModuleType):
    write(
        tmp_path,
        {
            "jaxsci/pear/__init__.py": "from ._pear import pear as pear\n",
            "jaxsci/pear/_pear.py": "def pear():\n    '''A pear.'''\n",
            "docs/api/pear.md": "# jaxsci.pear\n",
        },
    )
    public_names.problems(tmp_path, write=True)
    assert "::: jaxsci.pear.pear\n" in (tmp_path / "docs/api/pear.md").read_text()
    assert public_names.problems(tmp_path) == []


def test_every_page_is_in_the_navigation(repository: Path):
    navigation = (repository / "mkdocs.yml").read_text()
    pages = (p.relative_to(repository / "docs") for p in (repository / "docs").rglob("*.md"))
    assert [str(page) for page in pages if f": {page}\n" not in navigation] == []


def python_blocks() -> list[tuple[str, str]]:
    """Page and text of each block of Python in the README and the pages written by hand."""
    root = Path(__file__).resolve().parents[1]
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    fence = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [
        (f"{page.name}-{number}", block)
        for page in pages
        for number, block in enumerate(fence.findall(page.read_text()))
    ]


@pytest.mark.parametrize("block", [pytest.param(text, id=name) for name, text in python_blocks()])
def test_code_runs_as_pasted(block: str, tmp_path: Path):
    # A process of its own: pasted code meets JAX's default settings, not those of the tests.
    result = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
