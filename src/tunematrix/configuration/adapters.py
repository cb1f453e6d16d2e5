"""What the settings of a method say of one layer's adapter: its rank and its factor."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any


def rank(settings: Mapping[str, Any], layer: str) -> int:
    """Return the configured rank of the adapter on a layer, by the layer's full name."""
    return int(_of_layer(settings, "rank_pattern", layer, settings["rank"]))


def factor(settings: Mapping[str, Any], layer: str) -> float:
    """Return the configured s: alpha / rank, or alpha / sqrt(rank) (rsLoRA, arXiv 2312.03732)."""
    own = rank(settings, layer)
    alpha = float(_of_layer(settings, "alpha_pattern", layer, settings["alpha"]))
    return alpha / (math.sqrt(own) if settings.get("use_rslora") else own)


def idle_patterns(settings: Mapping[str, Any], layers: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns of ranks and alphas that none of some layers has the name of."""
    names = list(layers)
    return tuple(
        f"{kind}.{pattern}"
        for kind in ("rank_pattern", "alpha_pattern")
        for pattern in settings.get(kind) or {}
        if not any(_is_meant(pattern, layer) for layer in names)
    )


def has_company(settings: Mapping[str, Any]) -> bool:
    """Whether a second adapter takes part from the start, so that it isn't the base that starts."""
    return settings.get("beside") in ("frozen", "trained")


def _of_layer(settings: Mapping[str, Any], patterns: str, layer: str, default: Any) -> Any:
    """Return the value of the first pattern that is a layer's name, or the end of it."""
    found = settings.get(patterns) or {}
    return next((value for one, value in found.items() if _is_meant(one, layer)), default)


def _is_meant(pattern: str, layer: str) -> bool:
    return re.fullmatch(rf"(?:.*\.)?(?:{pattern})", layer) is not None
