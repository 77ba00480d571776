"""The entry point: choose a subcommand, run it, print a report or JSON."""

import contextlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ._commands import COMMANDS

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
_HELP = """usage: jaxsci [-h] [--version] {{{names}}} ...

Predictions that obey their conservation laws, with calibrated uncertainty.

{summaries}

jaxsci SUBCOMMAND --help shows its options.

examples:
{examples}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `jaxsci` and return its exit code.

    A report, or with `--json` one JSON object, goes to stdout; progress goes to stderr. A failure
    is one line on stderr (with `--debug` after the traceback) and nothing on stdout.

    **Arguments:** `argv`: the words after `jaxsci`; those of the process by default.

    **Returns:** 0; 1 if the work failed, 2 if the words cannot be understood, 130 if interrupted.

    !!! example
        >>> from jaxsci.cli import main
        >>> main(["--version"])  # doctest: +ELLIPSIS
        jaxsci ...
        0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; stop Python from flushing into the closed pipe.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _dispatch(words: list[str]) -> int:
    if not words:
        print(_help(), end="", file=sys.stderr)
        return MISUSED
    first, *rest = words
    if first in ("-h", "--help"):
        print(_help(), end="")
        return 0
    if first == "--version":
        import importlib.metadata

        print(f"jaxsci {importlib.metadata.version('jaxsci')}")
        return 0
    if rest and f"{first} {rest[0]}" in COMMANDS:
        first, rest = f"{first} {rest[0]}", rest[1:]
    if first not in COMMANDS:
        from jaxsci.errors import lookup

        try:
            lookup("subcommand", first, COMMANDS)
        except ValueError as error:
            return _complain("jaxsci", error, MISUSED)
    return _run(first, rest)


def _run(name: str, words: list[str]) -> int:
    from ._json import to_json
    from ._parse import UsageError, parse

    program = f"jaxsci {name}"
    debug = "--debug" in words
    try:
        command = COMMANDS[name].for_words(words)
        settings_type, function = command.load()
        parsed = parse(name, command, settings_type, words)
        began = time.perf_counter()
        # What libraries print is progress too: stdout is for the result alone.
        with contextlib.redirect_stdout(sys.stderr):
            results = function(parsed.settings, progress=_say)
        report, results = _split(results)
        if parsed.json:
            print(to_json(parsed.settings, results, time.perf_counter() - began), flush=True)
        else:
            print(report, flush=True)
        return 0
    except SystemExit as stop:  # after --help
        return stop.code if isinstance(stop.code, int) else 0
    except UsageError as error:
        return _complain(program, error, MISUSED, debug)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        return _complain(program, error, FAILED, debug)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _split(results: Any) -> tuple[str, Any]:
    """The report to print and the results for JSON."""
    if not isinstance(results, Mapping):
        return str(results), results
    rest = {key: value for key, value in results.items() if key != "report"}
    lines = "\n".join(f"{key}: {value}" for key, value in rest.items())
    return str(results.get("report", lines)), rest


def _complain(program: str, error: Exception, code: int, debug: bool = False) -> int:
    if debug:
        import traceback

        traceback.print_exception(error)
    text = " ".join(str(error).split())
    # Those are what bad input raises; anything else is worth a look at where it comes from.
    expected = isinstance(error, ValueError | TypeError | OSError | ImportError) or code == MISUSED
    if not expected or not text:
        text = f"{type(error).__name__}: {text or 'no message'}"
        text += "" if debug else " (--debug shows where)"
    print(f"{program}: {text}", file=sys.stderr, flush=True)
    return code


def _help() -> str:
    width = max(len(name) for name in COMMANDS)
    return _HELP.format(
        names=",".join(COMMANDS),
        summaries="\n".join(f"  {name:<{width}}  {c.summary}" for name, c in COMMANDS.items()),
        examples="\n".join(f"  {example}" for c in COMMANDS.values() for example in c.examples),
    )
