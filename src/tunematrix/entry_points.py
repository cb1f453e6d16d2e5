"""What installed distributions add by entry points, and how messages name them."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points


def points_in(group: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of a group, in the order of their names."""
    return tuple(sorted(entry_points(group=group), key=lambda point: (point.name, point.value)))


def origin(point: EntryPoint) -> str:
    """Return the distribution of an entry point, and where in it the entry point stands."""
    of = f"entry point {point.name} = {point.value} of {point.group}"
    return f"{point.dist.name} {point.dist.version} ({of})" if point.dist else of
