"""No quantizer: weights stay as the checkpoint has them."""

from __future__ import annotations

from typing import Any

from mlx import nn


class MlxUnquantized:
    """Leaves a model as it is."""

    def store(self, model: nn.Module, config: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
        """Return both unchanged."""
        return model, config


Unquantized = MlxUnquantized
"""Under the name that configurations give it, whatever the engine."""
