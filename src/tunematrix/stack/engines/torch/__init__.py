"""PyTorch with transformers, PEFT and TRL, on any backend that PyTorch knows."""

from tunematrix.stack.engines.torch.engine import Engine

__all__ = ["Engine"]
