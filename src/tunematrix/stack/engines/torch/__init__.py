"""PyTorch with transformers, PEFT and TRL, on any backend that PyTorch knows."""

from tunematrix.stack.engines.torch.engine import Engine, load_original

__all__ = ["Engine", "load_original"]
