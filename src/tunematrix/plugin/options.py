"""The options that tunematrix adds to pytest's, and the keys to its configuration."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from tunematrix.plugin import inspected
from tunematrix.plugin.portions import BY_DEFAULT, shard
from tunematrix.project import FOLDERS


def add_options(parser: pytest.Parser) -> None:
    """Add tunematrix's options and ini keys."""
    group = parser.getgroup("tunematrix")

    def option(flag: str, **settings: Any) -> None:
        group.addoption(flag, dest="tunematrix_" + flag.strip("-").replace("-", "_"), **settings)

    environment = "run the cells of this environment, by default cpu; without a path: of all specs"
    option("--environment", metavar="NAME", help=environment)
    live = "show cells in a matrix that fills in where somebody watches, elsewhere line by line"
    option("--live", action="store_true", help=live)
    many: dict[str, Any] = {"action": "append", "default": []}
    required = "fail if something that this environment needs is missing"
    option("--require", **many, metavar="NAME", help=required)
    selected = "run only cells with this option, such as method=lora,dora; can be repeated"
    option("--axis", **many, metavar="AXIS=OPTION", help=selected)
    combined = "pairs, triples or product of options, in the place of what specs say"
    option("--strategy", metavar="STRATEGY", default="", help=combined)
    option(
        "--isolation",
        choices=["auto", "forkserver", "spawn", "foreground"],
        default="auto",
        help="how cells are separated; foreground: in this process, so that breakpoints work",
    )
    option(
        "--keep-output", action="store_true", help="keep the output folders of cells that passed"
    )
    option(
        "--watch",
        action="store_true",
        help="judge cells that train with PyTorch by what is seen inside as well (checks watched…)",
    )
    option(
        "--debug-mode",
        action="store_true",
        help="run each configuration of the project's trainers once, with the arguments of their "
        "debug lists alone, and each of their launchers once",
    )
    option(
        "--seeds",
        type=_positive,
        metavar="N",
        help="run each cell N times, with the seeds 0 to N-1",
    )
    strict = "fail cells with a figure that leaves the band of its baseline, instead of warning"
    option("--strict-baseline", action="store_true", help=strict)
    option(
        "--shard",
        type=_shard,
        metavar="K/N",
        help="run only the part K of N; several machines share a suite so, whole files each",
    )
    fleet = "run cells on the workers of the scheduler there, such as 192.168.1.5:8786"
    option("--fleet", metavar="ADDRESS", default="", help=fleet)
    kept = "folder with the certificates of the fleet"
    option("--certificates", metavar="FOLDER", default="", help=kept)
    group.addoption(
        "--fault",
        dest="tunematrix_faults",
        **many,
        metavar="MODULE:NAME",
        help="put a deliberate error into every cell, to see which check notices",
    )
    for key, what in zip(FOLDERS, ("specs", "config groups of your own"), strict=True):
        parser.addini(key, f"folders with {what}", type="linelist", default=[])
    inspected.add_settings(parser)
    text = "whether real trainers (marker integration) run where nothing else is said"
    parser.addini(BY_DEFAULT, text, type="bool", default=True)


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
