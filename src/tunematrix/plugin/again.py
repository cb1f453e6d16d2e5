"""The one command that repeats an item of a run, as it has to be typed where that was started."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Container
from pathlib import Path

from tunematrix.plugin.suite import Suite
from tunematrix.project import SHIPPED
from tunematrix.report.again import run_again
from tunematrix.results.record import Record

ON_REQUEST = ("probe", "planted")
"""Markers of items that are there only if -m names them."""


def command_again(suite: Suite, record: Record, keywords: Container[str] = ()) -> str:
    """Return the one command that repeats an item, in the folder that pytest was started in.

    Args:
        suite: the run's. record: the item's.
        keywords: the item's; some are markers without which it isn't there at all.
    """
    config, option = suite.config, suite.config.option
    session = os.environ.get("NOX_CURRENT_SESSION", "")
    way: str = option.tunematrix_isolation
    options = [] if way == "auto" else [f"--isolation={way}"]
    if option.tunematrix_fleet:
        options += [f"--fleet={option.tunematrix_fleet}"]
    if option.tunematrix_certificates:
        options += [f"--certificates={option.tunematrix_certificates}"]
    options += ["--strict-baseline"] if suite.context.baselines.strict else []
    # A session of Nox requires what it always does.
    options += [] if session else [f"--require={name}" for name in option.tunematrix_require]
    spec = record.spec
    if not spec.startswith(f"{SHIPPED}/"):
        spec = os.path.relpath(suite.root / spec, config.invocation_params.dir)
    return run_again(
        record,
        session=session,
        program=_program(),
        spec=spec,
        marker=next((name for name in ON_REQUEST if name in keywords), ""),
        options=options,
    )


def _program() -> tuple[str, ...]:
    """Return how tunematrix is called here: by its name, if that leads to this virtualenv's."""
    named = shutil.which("tunematrix")
    own = Path(sys.executable).parent
    if named is not None and Path(named).parent == own:
        return ("tunematrix",)
    return (sys.executable, "-m", "tunematrix")
