"""The only rooms in which an ML library is imported; entered from `run.worker` alone."""
