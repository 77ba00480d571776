"""The Jacobian of a sum of small factors, as a lineax operator."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsci.precision import Policy, matmul

from ._pattern import GramPattern
from ._register import register_rectangular
from ._small import small_matmul, small_matvec
from ._symmetric import BlockSymmetric


class BlockRows(eqx.Module):
    """The rows of one factor group: `F` factors of `r` residuals each.

    - `blocks`: for each slot, i.e. each variable that a factor touches, shape `(F, r, d)`.
    - `indices`: for each slot, which variable of its group each factor touches, shape `(F,)`.
    - `variables`: for each slot, the number of the variable group.
    """

    blocks: tuple[Float[Array, "F r d"], ...]
    indices: tuple[Int[Array, " F"], ...]
    variables: tuple[int, ...] = eqx.field(static=True)

    def __check_init__(self):
        slots = len(self.blocks)
        if slots == 0 or len(self.indices) != slots or len(self.variables) != slots:
            raise ValueError(
                "`BlockRows(blocks, indices, variables)`: expected one of each per slot, got "
                f"{slots}, {len(self.indices)} and {len(self.variables)}"
            )
        factors, rows = self.blocks[0].shape[:2]
        for block, index in zip(self.blocks, self.indices, strict=True):
            if block.ndim != 3 or block.shape[:2] != (factors, rows):
                raise ValueError(
                    f"`BlockRows(blocks=...)`: expected shapes ({factors}, {rows}, d), got "
                    f"{block.shape}; all slots of a factor group have the same rows"
                )
            if index.shape != (factors,) or not jnp.issubdtype(index.dtype, jnp.integer):
                raise ValueError(
                    f"`BlockRows(indices=...)`: expected integers of shape ({factors},), got "
                    f"{index.dtype} of shape {index.shape}"
                )
            if block.dtype != self.blocks[0].dtype:
                raise ValueError(
                    f"`BlockRows(blocks=...)`: expected one dtype, got {self.blocks[0].dtype} "
                    f"and {block.dtype}; cast them first"
                )

    @property
    def shape(self) -> tuple[int, int]:
        """`(F, r)`."""
        return self.blocks[0].shape[0], self.blocks[0].shape[1]


class BlockJacobian(lx.AbstractLinearOperator):
    """A matrix whose rows are small factors, each of which touches a few variables.

    `(J x)_f = sum_slots B_(f, slot) x_index(f, slot)`. Vectors are flat: columns are the variable
    groups one after the other, each `(N, d)` in C order; rows are the factor groups, each `(F, r)`
    in C order. Products gather, multiply small blocks in batches and sum by segments; the transpose
    costs about 1.5 times the forward product on a CPU, and nothing is ever made dense.

    **Arguments:**

    - `groups`: a tuple of [`jaxsci.solvers.sparse.BlockRows`][].
    - `sizes`: for each variable group, the count `N` and the (tangent) dimension `d`.
    - `accumulate`: the dtype of vectors and of sums; that of the blocks by default. Narrower
        blocks are widened as they are read; vectors, of which there is one number for many of the
        blocks', are never rounded.

    **Raises:** `ValueError` if shapes or dtypes do not fit together.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.solvers.sparse import BlockJacobian, BlockRows
        >>> differences = BlockRows(
        ...     (-jnp.ones((2, 1, 1)), jnp.ones((2, 1, 1))),
        ...     (jnp.array([0, 1]), jnp.array([1, 2])),
        ...     (0, 0),
        ... )
        >>> J = BlockJacobian((differences,), ((3, 1),))
        >>> J.mv(jnp.array([1.0, 4.0, 9.0]))
        Array([3., 5.], dtype=float32)
        >>> J.T.mv(jnp.array([1.0, 1.0]))
        Array([-1.,  0.,  1.], dtype=float32)
    """

    groups: tuple[BlockRows, ...]
    sizes: tuple[tuple[int, int], ...] = eqx.field(static=True)
    accumulate: str | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if not self.groups or not self.sizes:
            raise ValueError(
                "`BlockJacobian(groups, sizes)`: expected at least one of each, got "
                f"{len(self.groups)} groups of rows and {len(self.sizes)} of variables"
            )
        for group in self.groups:
            for block, variable in zip(group.blocks, group.variables, strict=True):
                if not 0 <= variable < len(self.sizes):
                    raise ValueError(
                        f"`BlockJacobian(groups, sizes)`: a slot touches variable group "
                        f"{variable}, but there are {len(self.sizes)}"
                    )
                if block.shape[2] != self.sizes[variable][1]:
                    raise ValueError(
                        f"`BlockJacobian(groups, sizes)`: expected blocks with "
                        f"{self.sizes[variable][1]} columns for variable group {variable}, got "
                        f"{block.shape}"
                    )
                if block.dtype != self._stored:
                    raise ValueError(
                        f"`BlockJacobian(groups, sizes)`: expected one dtype, got {self._stored} "
                        f"and {block.dtype}; cast the blocks first"
                    )

    @property
    def _stored(self) -> jnp.dtype:
        return self.groups[0].blocks[0].dtype

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of vectors."""
        return self._stored if self.accumulate is None else jnp.dtype(self.accumulate)

    def in_structure(self):
        return jax.ShapeDtypeStruct((sum(n * d for n, d in self.sizes),), self.dtype)

    def out_structure(self):
        rows = sum(group.shape[0] * group.shape[1] for group in self.groups)
        return jax.ShapeDtypeStruct((rows,), self.dtype)

    def split_columns(self, vector: Float[Array, " n"]) -> tuple[Array, ...]:
        """The parts `(N, d)` of a flat vector, one for each variable group."""
        ends = _ends(n * d for n, d in self.sizes)
        parts = zip(ends[:-1], ends[1:], self.sizes, strict=True)
        return tuple(vector[start:end].reshape(size) for start, end, size in parts)

    def split_rows(self, vector: Float[Array, " m"]) -> tuple[Array, ...]:
        """The parts `(F, r)` of a flat vector, one for each factor group."""
        shapes = [group.shape for group in self.groups]
        ends = _ends(f * r for f, r in shapes)
        parts = zip(ends[:-1], ends[1:], shapes, strict=True)
        return tuple(vector[start:end].reshape(shape) for start, end, shape in parts)

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " m"]:
        columns = self.split_columns(vector)
        rows = []
        for group in self.groups:
            total = jnp.zeros(group.shape, self.dtype)
            for block, index, v in zip(group.blocks, group.indices, group.variables, strict=True):
                total = total + small_matvec(block, columns[v][index], self.dtype)
            rows.append(total.reshape(-1))
        return jnp.concatenate(rows)

    def transpose_mv(self, vector: Float[Array, " m"]) -> Float[Array, " n"]:
        """`J' vector`."""
        totals = [jnp.zeros(size, self.dtype) for size in self.sizes]
        for group, part in zip(self.groups, self.split_rows(vector), strict=True):
            for block, index, v in zip(group.blocks, group.indices, group.variables, strict=True):
                # Scattered into one array, in any order: as fast as sorted or padded layouts
                # measured, on rows of 3 and 6 numbers, and without a symbolic phase.
                products = small_matvec(block.swapaxes(1, 2), part, self.dtype)
                totals[v] = totals[v].at[index].add(products)
        return jnp.concatenate([total.reshape(-1) for total in totals])

    def product(self, vector: Float[Array, " n"], policy: Policy) -> Float[Array, " m"]:
        """`J vector` with blocks in `policy.matrix`, sums in `policy.product`."""
        return self.under(policy).mv(policy.cast("product", vector))

    def under(self, policy: Policy) -> "BlockJacobian":
        """This matrix with blocks stored in `policy.matrix` and summed in `policy.product`."""
        return self.astype(policy.dtype("matrix"), policy.dtype("product"))

    def astype(self, dtype, accumulate=None) -> "BlockJacobian":
        """This matrix with its blocks in another dtype, and vectors in `accumulate`."""
        dtype = jnp.dtype(dtype)
        wide = None if accumulate is None or jnp.dtype(accumulate) == dtype else accumulate
        return self._with_blocks(
            lambda block, *_: block.astype(dtype), None if wide is None else jnp.dtype(wide).name
        )

    def scale_columns(self, scales: tuple[Float[Array, "N d d"], ...]) -> "BlockJacobian":
        """`J S` for a block-diagonal `S`, given as one array `(N, d, d)` per variable group.

        A variable that must not move has the block 0.

        **Raises:** `ValueError` if a shape is not that of its variable group.
        """
        wanted = [(n, d, d) for n, d in self.sizes]
        if [scale.shape for scale in scales] != wanted:
            raise ValueError(
                f"`scale_columns(scales=...)`: expected shapes {wanted}, got "
                f"{[scale.shape for scale in scales]}"
            )
        return self._with_blocks(
            lambda block, index, v: small_matmul(block, scales[v][index], block.dtype),
            self.accumulate,
        )

    def gram_diagonal(self) -> tuple[Float[Array, "N d d"], ...]:
        """The diagonal blocks of `J' J`, one array `(N, d, d)` per variable group."""
        totals = [jnp.zeros((n, d, d), self.dtype) for n, d in self.sizes]
        for group in self.groups:
            for block, index, v in zip(group.blocks, group.indices, group.variables, strict=True):
                square = self._cross(block, block)
                totals[v] = totals[v] + jax.ops.segment_sum(square, index, self.sizes[v][0])
            both = {
                (a, b): group.indices[a] == group.indices[b]
                for a, v in enumerate(group.variables)
                for b, w in enumerate(group.variables[:a])
                if v == w
            }
            if both:
                # Few factors touch a variable twice (padded rows of a `SparseResidual` do): where
                # none does, products of two slots would cost as much as the squares for nothing.
                twice = jnp.stack([same.any() for same in both.values()]).any()
                add = functools.partial(self._with_crosses, group, both)
                totals = jax.lax.cond(twice, add, lambda totals: totals, totals)
        return tuple(totals)

    def gram_matrix(self) -> Float[Array, "n n"]:
        """`J' J`, dense.

        Factor by factor, of each the products of its few columns with one another; by dense rows
        for a group whose factors touch so many columns that these take less memory.
        """
        n = sum(n * d for n, d in self.sizes)
        total = jnp.zeros((n, n), self.dtype)
        for group in self.groups:
            if sum(block.shape[2] for block in group.blocks) ** 2 > group.shape[1] * n:
                rows = self._dense(group)
                total = total + matmul(rows.T, rows)
                continue
            slots = zip(group.indices, group.variables, strict=True)
            columns = jnp.concatenate([self._columns(index, v) for index, v in slots], 1)
            blocks = jnp.concatenate(group.blocks, 2)
            products = self._cross(blocks, blocks)
            total = total.at[columns[:, :, None], columns[:, None, :]].add(products)
        return total

    def _columns(self, index: Int[Array, " F"], v: int) -> Int[Array, "F d"]:
        """Which columns belong to variables of a group."""
        start, d = _ends(n * d for n, d in self.sizes)[v], self.sizes[v][1]
        return start + index.astype(jnp.int32)[:, None] * d + jnp.arange(d, dtype=jnp.int32)[None]

    def gram(self, pattern: GramPattern) -> BlockSymmetric:
        """`J' J`, for one variable group, by a pattern that the host has found.

        **Arguments:**

        - `pattern`: from [`jaxsci.solvers.sparse.gram_pattern`][] for the
            [`jaxsci.solvers.sparse.slot_pairs`][] of this matrix.

        **Raises:** `ValueError` for several variable groups, or another number of pairs.
        """
        if len(self.sizes) != 1:
            raise ValueError(
                f"`BlockJacobian.gram(...)`: expected one variable group, got {len(self.sizes)}"
            )
        d, places = self.sizes[0][1], len(pattern.rows)
        products = [jnp.zeros((0, d, d), self.dtype)]
        for group in self.groups:
            for number, b in enumerate(group.blocks):
                products.extend(self._cross(a, b) for a in group.blocks[:number])
        pairs = jnp.concatenate(products)
        if len(pairs) != len(pattern.position):
            raise ValueError(
                f"`BlockJacobian.gram(pattern=...)`: expected {len(pairs)} pairs, got "
                f"{len(pattern.position)}; make the pattern from `slot_pairs` of this matrix"
            )
        turned = jnp.asarray(pattern.transposed)[:, None, None]
        pairs = jnp.where(turned, pairs.swapaxes(1, 2), pairs)
        lower = jax.ops.segment_sum(pairs, pattern.position, places + 1)[:places]
        rows, cols = jnp.asarray(pattern.rows), jnp.asarray(pattern.cols)
        return BlockSymmetric(self.gram_diagonal()[0], lower, rows, cols)

    def transpose(self) -> "TransposedBlockJacobian":
        return TransposedBlockJacobian(self)

    def as_matrix(self) -> Float[Array, "m n"]:
        return jnp.concatenate([self._dense(group) for group in self.groups])

    def _dense(self, group: BlockRows) -> Float[Array, "rows n"]:
        (factors, rows), n = group.shape, sum(n * d for n, d in self.sizes)
        dense = jnp.zeros((factors, rows, n), self.dtype)
        row = jnp.arange(factors, dtype=jnp.int32)[:, None, None]
        within = jnp.arange(rows, dtype=jnp.int32)[None, :, None]
        for block, index, v in zip(group.blocks, group.indices, group.variables, strict=True):
            column = self._columns(index, v)[:, None, :]
            dense = dense.at[row, within, column].add(block.astype(self.dtype))
        return dense.reshape(factors * rows, -1)

    def _with_blocks(self, change, accumulate: str | None) -> "BlockJacobian":
        groups = []
        for group in self.groups:
            slots = zip(group.blocks, group.indices, group.variables, strict=True)
            blocks = tuple(change(*slot) for slot in slots)
            groups.append(BlockRows(blocks, group.indices, group.variables))
        return BlockJacobian(tuple(groups), self.sizes, accumulate)

    def _with_crosses(
        self, group: BlockRows, both: dict[tuple[int, int], Array], totals: list[Array]
    ) -> list[Array]:
        """Diagonal blocks and what slots add that act on one variable together."""
        totals = list(totals)
        for (a, b), same in both.items():
            v = group.variables[a]
            cross = self._cross(group.blocks[a], group.blocks[b])
            cross = jnp.where(same[:, None, None], cross + cross.swapaxes(1, 2), 0)
            more = jax.ops.segment_sum(cross, group.indices[a], self.sizes[v][0])
            totals[v] = totals[v] + more
        return totals

    def _cross(self, a: Array, b: Array) -> Array:
        """`a' b` of each factor."""
        return small_matmul(a.swapaxes(1, 2), b, self.dtype)


class TransposedBlockJacobian(lx.AbstractLinearOperator):
    """The transpose of a [`jaxsci.solvers.sparse.BlockJacobian`][], made by its `transpose`."""

    jacobian: BlockJacobian

    def mv(self, vector: Float[Array, " m"]) -> Float[Array, " n"]:
        return self.jacobian.transpose_mv(vector)

    def as_matrix(self) -> Float[Array, "n m"]:
        return self.jacobian.as_matrix().T

    def transpose(self) -> BlockJacobian:
        return self.jacobian

    def in_structure(self):
        return self.jacobian.out_structure()

    def out_structure(self):
        return self.jacobian.in_structure()


def slot_pairs(J: BlockJacobian) -> tuple[np.ndarray, np.ndarray]:
    """The two variables of each factor and each pair of its slots: what `gram_pattern` needs.

    Factor groups one after the other; in each the pairs of slots (0, 1), (0, 2), (1, 2), ...; for
    each pair all factors.

    **Raises:** `ValueError` unless there is one variable group.
    """
    if len(J.sizes) != 1:
        raise ValueError(
            f"`slot_pairs(J)`: expected one variable group, got {len(J.sizes)}; for several use "
            "a preconditioner made for them, or CGNR, which needs no J'J"
        )
    first, second = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for group in J.groups:
        for b in range(len(group.indices)):
            for a in range(b):
                first.append(np.asarray(group.indices[a]))
                second.append(np.asarray(group.indices[b]))
    return np.concatenate(first), np.concatenate(second)


def _ends(lengths) -> list[int]:
    ends = [0]
    for length in lengths:
        ends.append(ends[-1] + length)
    return ends


register_rectangular(BlockJacobian)
register_rectangular(TransposedBlockJacobian)
