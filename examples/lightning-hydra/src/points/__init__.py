"""Denoises points."""
