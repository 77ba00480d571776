"""What an operator must beat: the mean of the training outputs, and a linear map."""

import dataclasses

import numpy as np
from jaxtyping import Float

from jaxsci.equations.families import Sample

_STRENGTHS = tuple(10.0**power for power in range(-14, 1))


@dataclasses.dataclass(frozen=True)
class PODRidge:
    """Ridge regression between coefficients of proper orthogonal decompositions, in closed form.

    ```
    A = [inputs, boundary data] - means = U S V'        each block divided by its deviation
    outputs(a) = mean + ((a - means) V) S / (S^2 + strength S_0^2) U' (outputs - mean)
    ```

    The columns of `V` are the POD modes of all that the operators are told, and `(a - means) V` are
    the coefficients; the outputs are combinations of the outputs that were seen. What a family with
    one parameter leaves to a network is what this does not get right.

    - `strength`: relative to the largest singular value squared.
    - `modes`: how many there are.
    """

    means: Float[np.ndarray, " features"]
    deviations: Float[np.ndarray, " features"]
    directions: Float[np.ndarray, "features modes"]
    answers: Float[np.ndarray, "modes *outputs"]
    mean: Float[np.ndarray, "*outputs"]
    strength: float

    @property
    def modes(self) -> int:
        """How many coefficients of inputs and boundary data are used."""
        return self.directions.shape[1]

    def __call__(self, batch: Sample) -> Float[np.ndarray, "batch *outputs"]:
        """The outputs for a stacked sample."""
        coefficients = (_features(batch) - self.means) / self.deviations @ self.directions
        return self.mean + np.tensordot(coefficients, self.answers, 1)


def fit_pod_ridge(
    train: Sample, validation: Sample | None = None, *, strengths: tuple[float, ...] = _STRENGTHS
) -> PODRidge:
    """The regression with the strength that errs least, relatively, on the validation functions.

    **Arguments:**

    - `train`, `validation`: stacked samples; without the latter, the last fifth of `train` is held
        back to choose, and the regression is then done on all.
    - `strengths`: those tried, relative to the largest singular value squared.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.equations.families import Sample
        >>> from jaxsci.experiments import fit_pod_ridge
        >>> x = jnp.arange(12.0).reshape(6, 1, 2)
        >>> ridge = fit_pod_ridge(Sample(x, 3 * x + 1, {}, x[:, 0]))
        >>> bool(abs(ridge(Sample(x + 12, x, {}, x[:, 0])) - (3 * x + 37)).max() < 1e-4)
        True
    """
    if validation is None:
        kept = len(train.inputs) - max(1, len(train.inputs) // 5)
        first = fit_pod_ridge(_part(train, 0, kept), _part(train, kept, None), strengths=strengths)
        strengths, validation = (first.strength,), train
    features = _features(train)
    means, deviations = features.mean(0), _deviations(train, features)
    U, S, Vt = np.linalg.svd((features - means) / deviations, full_matrices=False)
    there = np.finfo(np.float32).eps * max(S[0], np.finfo(np.float32).tiny) < S
    U, S, Vt = U[:, there], S[there], Vt[there]
    outputs = np.asarray(train.outputs, np.float64)
    mean = outputs.mean(0)
    answers = np.tensordot(U.T, outputs - mean, 1)
    shape = (-1, *[1] * mean.ndim)

    def regression(strength: float) -> PODRidge:
        filtered = S / (S**2 + strength * S[:1] ** 2)
        weighed = filtered.reshape(shape) * answers
        return PODRidge(means, deviations, Vt.T, weighed, mean, strength)

    tried = [regression(strength) for strength in strengths]
    return min(tried, key=lambda each: relative_errors(each(validation), validation).mean())


def relative_errors(
    predictions: Float[np.ndarray, "batch *outputs"], batch: Sample
) -> Float[np.ndarray, " batch"]:
    """`|u - truth| / |truth|` of each sample, in double precision."""
    truth = np.asarray(batch.outputs, np.float64).reshape(len(batch.outputs), -1)
    off = np.asarray(predictions, np.float64).reshape(truth.shape) - truth
    return np.linalg.norm(off, axis=1) / np.linalg.norm(truth, axis=1)


def _blocks(batch: Sample) -> list[np.ndarray]:
    arrays = [batch.inputs[:, c] for c in range(batch.inputs.shape[1])]
    arrays += [batch.values[face] for face in sorted(batch.values)]
    return [np.asarray(array, np.float64).reshape(len(batch.inputs), -1) for array in arrays]


def _features(batch: Sample) -> np.ndarray:
    return np.concatenate(_blocks(batch), axis=1)


def _deviations(batch: Sample, features: np.ndarray) -> np.ndarray:
    """Of each block as a whole (root of the sum of the variances), so that all weigh alike."""
    each = []
    for block in _blocks(batch):
        total = np.sqrt(block.var(0).sum())
        constant = total <= 1e-6 * np.sqrt((block**2).sum(1).mean())
        each.append(np.full(block.shape[1], 1.0 if constant else total))
    return np.concatenate(each)


def _part(batch: Sample, start: int, stop: int | None) -> Sample:
    values = {face: value[start:stop] for face, value in batch.values.items()}
    return Sample(
        batch.inputs[start:stop], batch.outputs[start:stop], values, batch.parameters[start:stop]
    )
