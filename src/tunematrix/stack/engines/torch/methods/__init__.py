"""What is trained: every parameter, PEFT's adapters, or a reference LoRA of our own."""

from tunematrix.stack.engines.torch.methods.custom_lora import CustomLora
from tunematrix.stack.engines.torch.methods.full import TorchFull
from tunematrix.stack.engines.torch.methods.lora import TorchLora

Full, Lora = TorchFull, TorchLora
"""Under the names that configurations give them, whatever the engine."""

__all__ = ["CustomLora", "Full", "Lora", "TorchFull", "TorchLora"]
