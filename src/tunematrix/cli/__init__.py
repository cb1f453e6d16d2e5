"""The command line: verbs only; each hands over to the rooms that do the work."""

from tunematrix.cli import (
    baseline,
    configs,
    download,
    fleet,
    history,
    machine,
    proof,
    prove,
    records,
    start,
    steps,
    suite,
    upgrade,
    versions,
    watch,
    wheels,
)
from tunematrix.cli.app import app, main

__all__ = [
    "app",
    "baseline",
    "configs",
    "download",
    "fleet",
    "history",
    "machine",
    "main",
    "proof",
    "prove",
    "records",
    "start",
    "steps",
    "suite",
    "upgrade",
    "versions",
    "watch",
    "wheels",
]
