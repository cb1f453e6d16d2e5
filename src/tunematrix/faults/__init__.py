"""Deliberate sabotages of the stack, to see which check notices.

A fault is a context manager that takes the cell's composed configuration. The worker enters it
before the recipe runs: `--fault tunematrix.faults.data:labels_shuffled`.
"""
