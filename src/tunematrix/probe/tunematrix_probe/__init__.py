"""Looks into any process that trains with PyTorch, and changes nothing in it."""
