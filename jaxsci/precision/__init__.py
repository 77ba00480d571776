"""How precisely each step is computed: compensated sums, and dtype policies."""

from ._compensated import compensated_dot as compensated_dot
from ._compensated import two_product as two_product
from ._compensated import two_sum as two_sum
