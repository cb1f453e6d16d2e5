"""The options that tunematrix adds to pytest's, and the keys to its configuration."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Protocol

import pytest

from tunematrix.plugin import inspected
from tunematrix.plugin.portions import BY_DEFAULT, shard
from tunematrix.project import FOLDERS

_MANY: Mapping[str, Any] = {"action": "append", "default": []}
"""Settings of an option that can be repeated."""


class AddOption(Protocol):
    """Adds one of tunematrix's options to pytest's, to be read as tunematrix_NAME."""

    def __call__(self, flag: str, **settings: Any) -> None:
        """Add an option; `settings` are those of argparse."""


def add_options(parser: pytest.Parser) -> None:
    """Add tunematrix's options and ini keys."""
    group = parser.getgroup("tunematrix")

    def option(flag: str, **settings: Any) -> None:
        name = flag.strip("-").replace("-", "_")
        group.addoption(flag, **{"dest": f"tunematrix_{name}", **settings})

    _add_choices(option)
    _add_ways(option)
    for key, what in zip(FOLDERS, ("specs", "config groups of your own"), strict=True):
        parser.addini(key, f"folders with {what}", type="linelist", default=[])
    inspected.add_settings(parser)
    text = "whether real trainers (marker integration) run where nothing else is said"
    parser.addini(BY_DEFAULT, text, type="bool", default=True)


def _add_choices(option: AddOption) -> None:
    """Add what decides which cells run."""
    environment = "run the cells of this environment, by default cpu; without a path: of all specs"
    option("--environment", metavar="NAME", help=environment)
    required = "fail if something that this environment needs is missing"
    option("--require", **_MANY, metavar="NAME", help=required)
    selected = "run only cells with this option, such as method=lora,dora; can be repeated"
    option("--axis", **_MANY, metavar="AXIS=OPTION", help=selected)
    combined = "pairs, triples or product of options, instead of what specs say"
    option("--strategy", metavar="STRATEGY", default="", help=combined)
    light = (
        "run each configuration of the project's trainers once, with the arguments of their "
        "debug lists alone, and each of their launchers once"
    )
    option("--debug-mode", action="store_true", help=light)
    seeded = "run each cell N times, with the seeds 0 to N-1"
    option("--seeds", type=_positive, metavar="N", help=seeded)
    part = "run only part K of N, so that several machines share a suite; no file is divided"
    option("--shard", type=_shard, metavar="K/N", help=part)


def _add_ways(option: AddOption) -> None:
    """Add what decides how cells run, how they are judged, and what is shown and kept of them."""
    live = "show cells in a matrix that fills in where somebody watches, elsewhere line by line"
    option("--live", action="store_true", help=live)
    apart = "how cells are kept apart; foreground: in this process, so that breakpoints work"
    ways = ["auto", "forkserver", "spawn", "foreground"]
    option("--isolation", choices=ways, default="auto", help=apart)
    kept = "keep the output folders of cells that passed"
    option("--keep-output", action="store_true", help=kept)
    seen = "judge cells that train with PyTorch by what is seen inside as well (checks watched…)"
    option("--watch", action="store_true", help=seen)
    strict = "fail cells with a figure that leaves the band of its baseline, instead of warning"
    option("--strict-baseline", action="store_true", help=strict)
    fleet = "run cells on the workers of the scheduler at this address, such as 192.168.1.5:8786"
    option("--fleet", metavar="ADDRESS", default="", help=fleet)
    members = "folder with the certificates of the fleet"
    option("--certificates", metavar="FOLDER", default="", help=members)
    error = "put a deliberate error into every cell, to see which check notices"
    named = {"dest": "tunematrix_faults", "metavar": "MODULE:NAME"}
    option("--fault", **_MANY, **named, help=error)


def _shard(text: str) -> tuple[int, int]:
    """Read --shard as an option of pytest wants it."""
    try:
        return shard(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> int:
    """Return a number of one or more, as an option wants it."""
    if not text.isdigit() or not int(text):
        message = f"expected a number of seeds, 1 or more, got {text}"
        raise argparse.ArgumentTypeError(message)
    return int(text)
