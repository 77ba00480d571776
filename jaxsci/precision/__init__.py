"""How precisely each step is computed: compensated sums, full products, dtype policies."""

from ._compensated import compensated_dot as compensated_dot
from ._compensated import compensated_sum as compensated_sum
from ._compensated import two_product as two_product
from ._compensated import two_sum as two_sum
from ._finite import all_finite as all_finite
from ._finite import largest as largest
from ._matmul import contract as contract
from ._matmul import matmul as matmul
from ._policy import PRESETS as PRESETS
from ._policy import ROLES as ROLES
from ._policy import Policy as Policy
from ._safe import safe_sqrt as safe_sqrt
