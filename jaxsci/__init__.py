"""A prediction, what must hold of it, and how sure we are."""

import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .constraining import constrain as constrain

__version__ = importlib.metadata.version("jaxsci")


def __getattr__(name: str) -> Any:
    # On first use, so that `import jaxsci.grids` does not import everything.
    if name == "constrain":
        from .constraining import constrain

        return constrain
    raise AttributeError(f"module 'jaxsci' has no attribute {name!r}")
