"""Checks and wording shared by every floor: near-miss names, finiteness, concreteness."""

from ._checks import is_concrete as is_concrete
from ._checks import require_finite as require_finite
from ._checks import require_symmetric as require_symmetric
from ._names import lookup as lookup
