"""Training in this process, watched while a block of it runs: for scripts and notebooks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunematrix.checks.judge import judge_group
from tunematrix.checks.verdict import Claim, Verdict
from tunematrix.checks.watched import seen_in
from tunematrix.configuration.cell import WATCH
from tunematrix.configuration.watch import asked_for
from tunematrix.evidence import Evidence, Exit
from tunematrix.evidence.run_dir import RunDir
from tunematrix.evidence.watched import read_probes
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.report.saying import show
from tunematrix.run.probing import probing
from tunematrix.watching.asking import watched_cell, watched_config
from tunematrix.watching.carrying import NO_LIMIT
from tunematrix.watching.view import shown_verdicts

_NAME = "block"


class WatchedBlock:
    """What came of a block that was watched; empty until it has ended.

    Attributes:
        verdicts: of all checks that could be made.
    """

    def __init__(self) -> None:
        self.verdicts: tuple[Verdict, ...] = ()

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed; none where all is well."""
        return tuple(one.name for one in self.verdicts if one.outcome == "failed")


@contextmanager
def watching(
    *, device: str | None = None, strict: bool = False, quiet: bool = False
) -> Iterator[WatchedBlock]:
    """Watch what trains in the block; see `tunematrix.watch`."""
    found, asked = WatchedBlock(), asked_for(device, strict=strict)
    with tempfile.TemporaryDirectory(prefix="tunematrix-watch-") as folder:
        with probing(Path(folder)):
            yield found
        evidence = Evidence(
            Exit(0, None, False, (), 0.0, "foreground"),
            *((), "", "", ()),
            read_probes(RunDir(Path(folder)).probe),
        )
    groups = read_groups((shipped_configs(),))
    cell = watched_cell(_NAME, groups, NO_LIMIT)
    claim = Claim(cell.spec, watched_config(cell, groups, asked))
    found.verdicts = judge_group(WATCH, evidence, claim)
    if not quiet:
        show(shown_verdicts(found.verdicts, seen_in(evidence)))
