"""What training ends with: a result, or an exception that keeps what was reached."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Int

from ._history import History

Model = TypeVar("Model")


@dataclass(frozen=True)
class FitResult(Generic[Model]):
    """A trained model and how it came about.

    **Arguments:**

    - `model`: the model at the smallest validation loss; the last one if there was none.
    - `last_model`: the model after the last step.
    - `best_epoch`, `best_loss`: when (from 1) and how small that validation loss was, or None.
    - `history`: one row for each epoch.
    - `settings`: what the run depends on: sizes, the random key, shapes and dtypes of model, data
        and optimiser state, a hash of the initial weights.
    - `versions`: of jax, equinox and optax, and the platform.
    - `seconds`: spent in training and validation, over all sessions.
    - `resumed_at`: the number of updates found in the checkpoint; 0 if the run started afresh.
    """

    model: Model
    last_model: Model
    best_epoch: int | None
    best_loss: float | None
    history: History
    settings: dict[str, Any]
    versions: dict[str, str]
    seconds: float
    resumed_at: int


class NonFiniteLoss(FloatingPointError):
    """Training stopped because the loss, or the parameters after an update, were not finite.

    **Arguments:**

    - `message`: epoch, step and samples in words.
    - `model`: the model before the bad step.
    - `best_model`: the model at the smallest validation loss so far, or None.
    - `epoch`, `step`: when, both from 1; `step` counts the updates since the start.
    - `samples`: indices into `data` of the batch, shape `(batch_size,)`.
    - `loss`: the loss of that batch.
    - `history`: the epochs before.
    """

    def __init__(
        self,
        message: str,
        *,
        model: Any,
        best_model: Any,
        epoch: int,
        step: int,
        samples: Int[np.ndarray, " batch"],
        loss: float,
        history: History,
    ):
        FloatingPointError.__init__(self, message)
        self.model = model
        self.best_model = best_model
        self.epoch = epoch
        self.step = step
        self.samples = samples
        self.loss = loss
        self.history = history
