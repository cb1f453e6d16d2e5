"""A model's folder, and an adapter's over it → the model itself, in MLX."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
from hydra.utils import instantiate
from mlx import nn
from mlx_lm.tuner.utils import load_adapters

from tunematrix.configuration import Configuration
from tunematrix.errors import WrongSetting
from tunematrix.stack.adapters import Format
from tunematrix.stack.engines.mlx.loading import MlxQuantizer, load
from tunematrix.stack.steps.sources import ROUTE, UNREADABLE, ModelSource, unreadable

READS: Format = "mlx-lm"
"""The adapters that mlx-lm loads."""


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Tell what mlx-lm can't load from every other error.

    Raises:
        WrongSetting: it can't.
    """
    try:
        yield
    except TypeError as error:
        # Its models are data classes, made of what config.json has.
        text = f"{folder} can't be loaded by mlx-lm ({error}); likely its config.json is written"
        advice = "otherwise than mlx-lm knows it: take another model, or another device"
        raise WrongSetting(ROUTE, f"{text} {advice}") from None
    except UNREADABLE as error:
        raise unreadable(str(folder), error) from None


def load_base(
    source: ModelSource, config: Configuration, dtype: str = "float32"
) -> tuple[nn.Module, dict[str, Any]]:
    """Load the base model as the cell's quantizer stores it.

    Returns:
        The model, and the configuration that `mlx_lm.utils.save` wants beside it.

    Raises:
        WrongSetting: mlx-lm can't load it.
    """
    quantizer: MlxQuantizer = instantiate(config.quantizer.implementation, _convert_="all")
    with reading(source.path):
        model, settings = load(source.base, getattr(mx, dtype), quantizer)
    _try(model, source.path)
    return model, settings


def _try(model: nn.Module, folder: Path) -> None:
    """Compute two tokens.

    Raises:
        WrongSetting: mlx-lm has loaded the model, and can't compute it.
    """
    try:
        mx.eval(model(mx.array([[0, 0]])))
    except Exception as error:  # whatever a model's own code raises
        text = f"{folder} is loaded by mlx-lm, and can't be computed ({type(error).__name__}: "
        cause = "likely mlx-lm expects another size, such as more layers, of this architecture"
        advice = "take another model, or another device"
        raise WrongSetting(ROUTE, f"{text}{error}); {cause}: {advice}") from error


def load_as_trained(source: ModelSource, config: Configuration, dtype: str) -> nn.Module:
    """Load a model with its adapter, if it has one, over the base as it was trained."""
    model, _ = load_base(source, config, dtype)
    if source.adapter is not None:
        model = load_adapters(model, str(source.adapter))
    model.eval()
    return model
