"""The steps of a pipeline on MLX, by mlx-lm: its trainer, its adapters, its answers, its server."""
