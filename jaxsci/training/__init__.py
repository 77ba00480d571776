"""One training loop: compiled epochs, checkpoints that survive a kill, metrics in CSV and JSON."""

from ._checkpoint import load_model as load_model
from ._fit import fit as fit
from ._history import History as History
from ._parts import value_and_grad_in_parts as value_and_grad_in_parts
from ._result import FitResult as FitResult
from ._result import NonFiniteLoss as NonFiniteLoss
