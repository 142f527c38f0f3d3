"""Who reads a batch once more for a provider of signals: the policy that sampled, an average of its past, or another model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from credit.signals.contract import Models, Rows


class Reader:
    """Mixin of a provider: the policy that sampled."""

    stands_still_in_evaluation = True
    _model: Any = None

    def model_for(self, rows: Rows) -> Any:
        """What `rows` take for `model`."""
        return self._model


class AverageReader(Reader):
    """A moving average of the policy, moved once for each generation batch of training; its state is the provider's."""

    decay: float
    _models: Models | None = None

    def average_with(self, decay: float, whose: str) -> None:
        """Raises ValueError: `decay` is not from 0 to 1, 1 excluded."""
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay={decay} of {whose} must be at least 0 and below 1; at 1 it would stay the start.")
        self.decay = decay

    def prepare(self, models: Models) -> None:
        self._models, self._model = models, models.copy_of_policy()

    def model_for(self, rows: Rows) -> Any:
        if rows.training and self._models is not None:
            self._models.follow(self._model, self.decay)
        return self._model

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self._models is None else self._models.weights_of(self._model)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if self._models is not None:
            self._models.put_weights(self._model, state)


class ModelReader(Reader):
    """Another model, which reads the same token ids: `name`, its folder or hub id."""

    name: str | None
    nameless = "a reader that is another model has no name"  # what is said where nobody names it

    def prepare(self, models: Models) -> None:
        self._model = models.load(self.name)
