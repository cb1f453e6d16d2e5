"""MLX with mlx-lm: its loader, its trainer, its adapters, its fusing and its sampling."""

from tunematrix.stack.engines.mlx.engine import Engine, load_original

__all__ = ["Engine", "load_original"]
