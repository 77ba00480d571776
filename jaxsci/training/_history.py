"""What happened in each epoch, and its CSV and JSON."""

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxsci.checkpoints import write_atomically

Row = dict[str, Any]


@dataclass(frozen=True)
class History:
    """One row for each finished epoch.

    Columns: `epoch` (from 1), `step` (updates so far), `train_loss` (mean over the epoch's steps,
    each taken before its update), `train_NAME` for each metric that the loss returns,
    `validation_loss` and `validation_NAME` (None in an epoch without validation),
    `learning_rate` (if the optimiser's state knows it, see `optax.inject_hyperparams`) and
    `seconds` (training and validation so far, over all sessions of the run).

    **Arguments:**

    - `rows`: one dictionary for each epoch, all with the same keys.

    !!! example
        >>> history = History(({"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": 0.25}))
        >>> history.column("train_loss")
        array([0.5 , 0.25])
        >>> print(history.to_csv(), end="")
        epoch,train_loss
        1,0.5
        2,0.25
    """

    rows: tuple[Row, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns; empty before the first epoch has ended."""
        return tuple(self.rows[0]) if self.rows else ()

    def column(self, name: str) -> np.ndarray:
        """One column as an array of shape `(epochs,)`, `nan` where there is no value.

        **Raises:** `ValueError` if there is no such column.
        """
        if self.rows and name not in self.columns:
            raise ValueError(
                f"`History.column({name!r})`: expected one of {', '.join(self.columns)}"
            )
        return np.array([math.nan if row[name] is None else row[name] for row in self.rows])

    def to_csv(self) -> str:
        """The rows as CSV under a header; missing values are empty, numbers read back exactly."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def to_json(self, **about: Any) -> str:
        """One JSON object: everything in `about`, then `"history"`, a list of rows.

        JSON has no infinities and no NaN: they are written as null.
        """
        return json.dumps(_json_ready({**about, "history": list(self.rows)}), indent=1)

    def write(self, folder: str | Path, **about: Any) -> None:
        """Write `history.csv` and `history.json` into `folder`, each whole or not at all."""
        csv_text, json_text = self.to_csv().encode(), self.to_json(**about).encode()
        # not durable, which is slow: the checkpoint has the same rows and writes them again
        write_atomically(Path(folder) / "history.csv", csv_text, durable=False)
        write_atomically(Path(folder) / "history.json", json_text, durable=False)


def _json_ready(value: Any) -> Any:
    """`value` with non-finite floats replaced by None, which JSON can hold."""
    if isinstance(value, Mapping):
        return {key: _json_ready(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_json_ready(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
