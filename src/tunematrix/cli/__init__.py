"""The command line: verbs only; each hands over to the rooms that do the work."""

from tunematrix.cli import machine, proof, records, suite
from tunematrix.cli.app import app, main

__all__ = ["app", "machine", "main", "proof", "records", "suite"]
