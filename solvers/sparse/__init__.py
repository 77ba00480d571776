"""Block-sparse operators for lineax, and sparse Jacobians of any function by colouring."""

from ._jacobian import BlockJacobian as BlockJacobian
from ._jacobian import BlockRows as BlockRows
from ._jacobian import TransposedBlockJacobian as TransposedBlockJacobian
