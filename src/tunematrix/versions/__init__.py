"""Sets of package versions: named, resolved, laid over the environment, and tried.

A set is asked for by a date, a lock, pins or a Python (`asked`), resolved by uv into exact versions
(`resolving`), installed into a folder that comes before the environment's own packages
(`overlays`), and cells or relations are run with it in a process of its own (`trials`).
"""
