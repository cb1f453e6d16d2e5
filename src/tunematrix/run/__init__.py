"""A run directory goes in, a process of its own runs the cell in it, an Exit comes out."""
