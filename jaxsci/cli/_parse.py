"""From command-line words to settings, by tyro; errors in one line."""

import contextlib
import dataclasses
import io
import re
import textwrap
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from ._commands import Command


class UsageError(Exception):
    """The words do not fit the options; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Parsed:
    """Settings of a subcommand, and what every subcommand has."""

    settings: Any
    json: bool
    debug: bool


def parse(name: str, command: Command, settings: type, words: Sequence[str]) -> Parsed:
    """The settings that the words give.

    **Raises:** `UsageError` if they give none, or values that the settings class refuses;
    `SystemExit` after `--help`.
    """
    options = dataclasses.make_dataclass(
        "Options",
        [
            ("settings", Annotated[settings, tyro.conf.arg(name="")]),
            (
                "json",
                Annotated[
                    bool,
                    tyro.conf.arg(
                        help="Print one JSON object: settings, results, versions, seconds."
                    ),
                ],
                dataclasses.field(default=False),
            ),
            (
                "debug",
                Annotated[bool, tyro.conf.arg(help="On failure, show the whole traceback.")],
                dataclasses.field(default=False),
            ),
        ],
    )
    examples = "\n".join(f"  {example}" for example in command.examples)
    kind = "example" if len(command.examples) == 1 else "examples"
    complaint = io.StringIO()
    try:
        # tyro's panels go into one line: a failure is one line, whatever failed.
        with contextlib.redirect_stderr(complaint):
            parsed = tyro.cli(
                options,
                args=list(words),
                prog=f"jaxsci {name}",
                description=f"{textwrap.fill(command.description, 78)}\n\n{kind}:\n{examples}",
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as error:
        if error.code in (0, None):
            raise
        raise UsageError(one_line(complaint.getvalue(), f"jaxsci {name}")) from None
    except ValueError as error:  # a value that the settings class refuses
        raise UsageError(str(error)) from error
    return Parsed(parsed.settings, parsed.json, parsed.debug)


def one_line(panel: str, program: str) -> str:
    """What a panel of tyro says, without its frame and the help that it repeats."""
    lines = panel.splitlines()
    framed = any(line.startswith("╭") for line in lines)
    lines = [line.strip("│ ") for line in lines if not line.startswith(("╭", "╰"))]
    parts: list[list[str]] = [[]]
    for line in lines:
        if re.fullmatch(r"[─-]{5,}", line):
            parts.append([])
        elif line:
            parts[-1].append(line)
    if not framed and len(parts) > 1:  # where the frame cannot be shown, the title has a part
        parts = parts[1:]
    said = " ".join(" ".join(parts[0]).split()).rstrip(".") or "the options cannot be read"
    if said.startswith("Missing from") and len(parts[0]) > 1:
        said = f"missing: {parts[0][1].split()[0]}"
    for part in parts[1:]:
        if part and part[0].startswith("Perhaps you meant"):
            names = [line.split()[0] for line in part[1:] if line.startswith("--")]
            said += f"; did you mean {' or '.join(dict.fromkeys(names))}?"
    return f"{said[:1].lower()}{said[1:]} (see {program} --help)"
