"""What a silent error in a loop is, and how one is written down."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """Text that occurs once in a loop, and what stands there instead."""

    old: str
    new: str


@dataclass(frozen=True)
class Planted:
    """A silent error.

    Attributes:
        name: of it, in one word; loop: the script's name; edits: what makes it wrong.
        checks: any of these has to warn or fail, without their prefix.
        kind: what goes wrong, in the words of the page.
        arguments: of the script; ranks: processes under torchrun, 0 without it.
        why_not: why nobody could tell from inside the run; empty where it has to be told.
    """

    name: str
    loop: str
    edits: tuple[Edit, ...]
    checks: tuple[str, ...]
    kind: str
    arguments: tuple[str, ...] = ()
    ranks: int = 0
    why_not: str = ""


def edited(
    loop: str,
    name: str,
    checks: tuple[str, ...],
    kind: str,
    *edits: tuple[str, str],
    arguments: str = "",
    ranks: int = 0,
    why_not: str = "",
) -> Planted:
    """Plant something into another loop."""
    both = tuple(Edit(*edit) for edit in edits)
    return Planted(name, loop, both, checks, kind, tuple(arguments.split()), ranks, why_not)
