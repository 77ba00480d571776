"""A griffe extension: doctests in docstrings become code blocks, since markdown knows no `>>>`."""

from typing import Any

import griffe


def fenced(text: str) -> str:
    """The text with a fence around each run of lines from a `>>>` to the next blank line."""
    lines, inside, indent = [], False, ""
    for line in text.splitlines():
        if not inside and line.lstrip().startswith(">>> "):
            indent = line[: len(line) - len(line.lstrip())]
            # An admonition's text is a paragraph of its own until a blank line ends it.
            lines += ["", f"{indent}```pycon"]
            inside = True
        elif inside and not line.strip():
            lines.append(f"{indent}```")
            inside = False
        lines.append(line)
    return "\n".join([*lines, f"{indent}```"] if inside else lines)


class DoctestFences(griffe.Extension):
    """Applies `fenced` to every docstring that is loaded."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
