"""Write constraints.txt from environments that pass: `python .ci/constraints.py .venv .venv-3.13`.

The first environment is Python 3.11, the second a newer one. A version that both share is one plain
line; where they differ, each gets the marker of its interpreter.
"""

import subprocess
import sys


def frozen(environment: str) -> dict[str, str]:
    """Name and version of everything installed in an environment, this project left out."""
    listing = subprocess.run(
        [f"{environment}/bin/python", "-m", "pip", "list", "--format=freeze", "--exclude-editable"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    pairs = (line.split("==") for line in listing.splitlines() if "==" in line)
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def merged(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """One line for each package and version."""
    lines = []
    for name in sorted((old.keys() | new.keys()) - {"pip"}):
        versions = old.get(name), new.get(name)
        if None in versions or versions[0] == versions[1]:
            lines.append(f"{name}=={versions[0] or versions[1]}")
        else:
            lines.append(f'{name}=={versions[0]}; python_version < "3.12"')
            lines.append(f'{name}=={versions[1]}; python_version >= "3.12"')
    return lines


if __name__ == "__main__":
    print(
        "# Versions that the tests passed with. Made by .ci/constraints.py; ranges: pyproject.toml."
    )
    print("\n".join(merged(*(frozen(environment) for environment in sys.argv[1:3]))))
