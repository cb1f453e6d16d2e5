"""MLX with mlx-lm: its loader, its trainer, its adapters, its fusing and its sampling.

What configurations name is the same in every engine's package: `Engine`, `methods.Lora`,
`methods.Full`, `unquantized.Unquantized`.
"""

from tunematrix.stack.engines.mlx.engine import MlxEngine
from tunematrix.stack.engines.mlx.models import load_original

Engine = MlxEngine

__all__ = ["Engine", "MlxEngine", "load_original"]
