"""The figures of a record that are held against a baseline, and how narrow a band may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CHECK = "baseline_"
"""Begins the names of these verdicts, and of no check: baseline_heldout_loss."""


@dataclass(frozen=True)
class HeldFigure:
    """One metric of records.

    Attributes:
        unit: of the figure, and of `least`.
        share: of the median, by which a band reaches to either side at least.
        least: the same as a figure, where the median is near 0.
        repeats: whether it comes out the same again under the same seed.
    """

    unit: str
    share: float
    least: float
    repeats: bool = False

    def reach(self, known: float) -> float:
        """Return how far a figure may be from a known one of the same cell and seed, in `unit`."""
        return max((SAME_SEED if self.repeats else self.share) * abs(known), self.least)


HELD: Mapping[str, HeldFigure] = {
    "heldout_loss": HeldFigure("nats/token", 0.002, 1e-4, repeats=True),
    "logged_loss": HeldFigure("nats/token", 0.002, 1e-4, repeats=True),
    "stored_mb": HeldFigure("MB", 0.001, 0.001),
    "allocator_peak_mb": HeldFigure("MB", 0.01, 0.1),
    # Of a process, pages of shared libraries count as well, and how many depends on the hour.
    "process_peak_mb": HeldFigure("MB", 0.5, 20.0),
    "logit_error": HeldFigure("", 0.02, 1e-6),
}
"""By name. The share of the gap follows from the held-out loss; times depend on what else runs."""


SAME_SEED = 0.1
"""How far a figure that repeats may be from the recorded one, as a share, under the same seed."""


def check_of(metric: str) -> str:
    """Return the name of the verdict on a metric."""
    return CHECK + metric
