"""Block-sparse operators for lineax, and sparse Jacobians of any function by colouring."""

from ._colouring import Colouring as Colouring
from ._colouring import colour_columns as colour_columns
from ._colouring import detect_sparsity as detect_sparsity
from ._colouring import sparse_jacobian as sparse_jacobian
from ._entries import SparseEntries as SparseEntries
from ._entries import from_bcoo as from_bcoo
from ._entries import from_scipy as from_scipy
from ._entries import symmetric_from_scipy as symmetric_from_scipy
from ._jacobian import BlockJacobian as BlockJacobian
from ._jacobian import BlockRows as BlockRows
from ._jacobian import TransposedBlockJacobian as TransposedBlockJacobian
from ._jacobian import slot_pairs as slot_pairs
from ._pattern import GramPattern as GramPattern
from ._pattern import gram_pattern as gram_pattern
from ._register import register_positive as register_positive
from ._register import register_rectangular as register_rectangular
from ._scaling import block_scaling as block_scaling
from ._small import inverse_cholesky as inverse_cholesky
from ._small import small_matmul as small_matmul
from ._small import small_matvec as small_matvec
from ._symmetric import BlockDiagonal as BlockDiagonal
from ._symmetric import BlockSymmetric as BlockSymmetric
