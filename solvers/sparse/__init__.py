"""Block-sparse operators for lineax, and sparse Jacobians of any function by colouring."""

from ._jacobian import BlockJacobian as BlockJacobian
from ._jacobian import BlockRows as BlockRows
from ._jacobian import TransposedBlockJacobian as TransposedBlockJacobian
from ._jacobian import slot_pairs as slot_pairs
from ._pattern import GramPattern as GramPattern
from ._pattern import gram_pattern as gram_pattern
from ._scaling import block_scaling as block_scaling
from ._symmetric import BlockDiagonal as BlockDiagonal
from ._symmetric import BlockSymmetric as BlockSymmetric
from ._register import register_positive as register_positive
from ._register import register_rectangular as register_rectangular
