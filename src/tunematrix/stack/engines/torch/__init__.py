"""PyTorch with transformers, PEFT and TRL, on any backend that PyTorch knows.

What configurations name is the same in every engine's package: `Engine`, `methods.Lora`,
`methods.Full`, `unquantized.Unquantized`.
"""

from tunematrix.stack.engines.torch.engine import TorchEngine
from tunematrix.stack.engines.torch.models import load_original

Engine = TorchEngine

__all__ = ["Engine", "TorchEngine", "load_original"]
