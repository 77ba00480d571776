"""The command `jaxsci`."""

from ._main import main as main
