"""Whether a model of unknown origin wants a random key."""

import inspect
from collections.abc import Callable
from typing import Any


def takes_key(model: Callable[..., Any]) -> bool:
    """Whether `model(inputs, key=key)` is possible: it has a parameter `key`, or takes any keyword.

    **Arguments:** `model`: any callable.

    **Returns:** `False` also where a callable hides its signature.

    !!! example
        >>> from jaxsci.interop import takes_key
        >>> takes_key(lambda x: x), takes_key(lambda x, *, key: x)
        (False, True)
    """
    try:
        parameters = inspect.signature(model).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.name == "key" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
