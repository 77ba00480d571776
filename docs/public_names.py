"""Fails on a public name that the documentation does not have: `python docs/public_names.py`.

Public is what the `__init__.py` of a folder under `jaxsci` hands on without a leading underscore.
Each such name needs a docstring, and so does each of its public methods unless a base class has it;
and each needs its `::: jaxsci.folder.Name` line in a page under `docs/api`. With `--write`, missing
lines are added to `docs/api/folder.md`. A name that a public folder inside has handed on already
is documented there, and needs a link in `docs/api/folder.md`: `[Name][jaxsci.folder.inner.Name]`.
The code is read, not imported, so this takes no time.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def exports(init: Path) -> Iterator[tuple[str, Path, str]]:
    """Name, defining file and name there, of everything that an `__init__.py` makes public."""
    for node in ast.parse(init.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            inner = init.parent.joinpath(*node.module.split("."))
            file = inner / "__init__.py" if inner.is_dir() else inner.with_suffix(".py")
            for alias in node.names:
                if not (alias.asname or alias.name).startswith("_"):
                    yield alias.asname or alias.name, file, alias.name
        elif isinstance(node, Definition) and not node.name.startswith("_"):
            yield node.name, init, node.name


def definition(file: Path, name: str) -> tuple[ast.AST | None, str | None]:
    """The node that defines `name` in a file, and its docstring."""
    body = ast.parse(file.read_text()).body if file.exists() else []
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, Definition) and node.name == name:
            return node, ast.get_docstring(node)
        if name in assigned(node):
            match after:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    return node, text
            return node, None
    if file.name == "__init__.py":
        for exported, inner, original in exports(file):
            if exported == name:
                return definition(inner, original)
    return None, None


def assigned(node: ast.stmt) -> list[str]:
    """The names that a statement assigns to."""
    match node:
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def methods(node: ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The public methods and properties that a class body defines."""
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = [d.attr for d in inner.decorator_list if isinstance(d, ast.Attribute)]
            setter = "setter" in decorators or "deleter" in decorators
            if not inner.name.startswith("_") and not setter:
                yield inner


def bases(node: ast.ClassDef) -> list[str]:
    """The names of the bases of a class, without their modules and parameters."""
    return [ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases]


def classes(root: Path) -> dict[str, tuple[list[str], set[str]]]:
    """For each class under `jaxsci`: the names of its bases, and its methods with a docstring."""
    found = {}
    for file in source_files(root):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                documented = {m.name for m in methods(node) if ast.get_docstring(m)}
                found[node.name] = bases(node), documented
    return found


def source_files(root: Path) -> Iterator[Path]:
    for folder in ("jaxsci", "solvers", "operators"):
        yield from sorted((root / folder).rglob("*.py"))


def inherits(name: str, method: str, table: dict[str, tuple[list[str], set[str]]]) -> bool:
    """Whether a class or one of its bases documents a method.

    An abstract base that is not ours is another library's interface, documented there.
    """
    if name not in table:
        return name.startswith("Abstract")
    above, documented = table[name]
    return method in documented or any(inherits(base, method, table) for base in above)


def packages(root: Path) -> dict[str, Path]:
    """Each public package, by its import name, and its folder."""
    found = {}
    for file in source_files(root):
        if file.name == "__init__.py":
            parts = file.parent.relative_to(root).parts
            name = ".".join(parts if parts[0] == "jaxsci" else ("jaxsci", *parts))
            if "._" not in name:
                found[name] = file.parent
    return found


def listed(root: Path) -> set[str]:
    """Every name that a page under `docs/api` has a `:::` line for."""
    text = "\n".join(page.read_text() for page in (root / "docs/api").glob("*.md"))
    return {line.split()[1] for line in text.splitlines() if line.startswith("::: ")}


def linked(page: Path) -> set[str]:
    """Every name that a page links to."""
    text = page.read_text() if page.exists() else ""
    return set(re.findall(r"\]\[(jaxsci[\w.]+)\]", text))


def problems(root: Path, write: bool = False) -> list[str]:
    """One line for each public name that is undocumented, and for each stale `:::` line."""
    table, on_pages, found = classes(root), listed(root), []
    folders = packages(root)
    public = set(folders)
    for module, package in folders.items():
        page = root / "docs/api" / f"{module.split('.')[-1]}.md"
        where = page.relative_to(root)
        for name, file, original in exports(package / "__init__.py"):
            full, inner = f"{module}.{name}", f"{module}.{file.parent.name}"
            public.add(full)
            if file.parent != package and inner in folders:
                if f"{inner}.{original}" not in linked(page):
                    found.append(f"{full}: add [`{name}`][{inner}.{original}] to {where}")
                continue
            if full not in on_pages:
                if write:
                    with page.open("a") as out:
                        out.write(f"\n::: {full}\n")
                else:
                    found.append(f"{full}: on no page; add `::: {full}` to {where}")
            node, text = definition(file, original)
            if not text:
                what = "no docstring" if node else "not defined"
                found.append(f"{full}: {what} ({file.relative_to(root)})")
            if isinstance(node, ast.ClassDef):
                found += [
                    f"{full}.{method.name}: no docstring ({file.relative_to(root)}:{method.lineno})"
                    for method in methods(node)
                    if not ast.get_docstring(method)
                    and not any(inherits(base, method.name, table) for base in bases(node))
                ]
    stale = sorted(on_pages - public)
    return found + [f"{name}: on a page under docs/api, but not public" for name in stale]


if __name__ == "__main__":
    lines = problems(ROOT, write="--write" in sys.argv[1:])
    print("\n".join(lines) or "every public name is documented")
    sys.exit(bool(lines))
