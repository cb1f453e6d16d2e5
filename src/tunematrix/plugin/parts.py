"""The plugins that a run with specs needs: what records it, what shows it, what runs its cells."""

from __future__ import annotations

from contextlib import suppress

from tunematrix.errors import BadInput, TunematrixError
from tunematrix.plugin.at_once import AtOnce
from tunematrix.plugin.ledger import LEDGER, register
from tunematrix.plugin.live import can_be_watched
from tunematrix.plugin.loop import SideBySide, take_over_workers, takes_the_loop
from tunematrix.plugin.over_fleet import OverFleet
from tunematrix.plugin.recorder import Recorder
from tunematrix.plugin.suite import Suite
from tunematrix.run.local.room import cells_at_once

JUNIT = "junit.xml"


def forget_older(suite: Suite) -> None:
    """Remove an earlier run's JUnit file: it would be taken for this one's, which ran nothing."""
    with suppress(TunematrixError, OSError):
        (suite.project.folder / JUNIT).unlink(missing_ok=True)


def register_parts(suite: Suite) -> None:
    """Register those plugins, and name the JUnit file before pytest's own looks for it."""
    config = suite.config
    register(config, Recorder(suite, config.stash[LEDGER]), "tunematrix-recorder")
    config.pluginmanager.register(AtOnce(config), "tunematrix-at-once")
    asked = take_over_workers(suite)
    live: bool = config.getoption("tunematrix_live")
    if takes_the_loop(suite):
        suite.is_watched = live and can_be_watched(config)
        loop = _loop(suite, asked)
        config.pluginmanager.register(loop, "tunematrix-loop")
    elif suite.fleet is not None:
        message = "--fleet runs cells by itself: leave out --isolation=foreground, --pdb, xdist's "
        raise BadInput(f"{message}--dist, and Python tests beside -n")
    if live and not suite.is_watched:
        # A line for each cell, where neither silence nor more is asked for.
        config.option.verbose = config.option.verbose or 1
    if not config.getoption("xmlpath", default=None):
        config.option.xmlpath = str(suite.context.folder / JUNIT)


def _loop(suite: Suite, asked: int | None) -> SideBySide:
    """Return what runs the cells: this machine, as many at once as it has room for, or a fleet."""
    if (fleet := suite.fleet) is not None:
        return OverFleet(suite, fleet)
    return SideBySide(suite, cells_at_once(asked, gpu=suite.has_gpu))
