"""What a row of planted faults holds."""

from collections.abc import Callable

from tests.unit.conftest import Run

Table = dict[str, tuple[Callable[[Run], Run], float | str | None, str, str]]
"""Check: what is planted, the measured value, the bound, a part of the cause."""
