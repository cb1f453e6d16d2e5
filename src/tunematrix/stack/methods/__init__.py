"""What is trained: every parameter, PEFT's adapters, or a reference LoRA of our own."""
