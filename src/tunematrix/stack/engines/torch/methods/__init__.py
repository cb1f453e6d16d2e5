"""What is trained: every parameter, PEFT's adapters, or a reference LoRA of our own."""

from tunematrix.stack.engines.torch.methods.custom_lora import CustomLora
from tunematrix.stack.engines.torch.methods.full import Full
from tunematrix.stack.engines.torch.methods.lora import Lora

__all__ = ["CustomLora", "Full", "Lora"]
