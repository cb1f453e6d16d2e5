"""Environments → a workflow for GitHub's machines: each pull request, each night, one report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tunematrix.environments.table import Environment
from tunematrix.scaffold.changes import FileChange, read

FILE = Path(".github/workflows/tunematrix.yml")

_TEMPLATE = """\
# Written by `tunematrix init --ci` from the environments of this project; it is yours to change.
#
# A pull request runs the smoke cells and all checks of configs, on GitHub's machines alone: its
# code may be anybody's, so machines of your own never run it. Each night, and whenever you ask for
# it, everything runs, shared out to machines side by side; machines of your own are found by their
# labels. The last job merges all records into one report, shown on the page of the run.
name: tunematrix

on:
  pull_request:
  schedule:
    - cron: "17 3 * * *"
  workflow_dispatch:
    inputs:
      quick:
        description: Leave out all that has the marker integration, and trains for long
        type: boolean
        default: false

permissions:
  contents: read

concurrency:
  group: ${{ github.workflow }}-${{ github.event_name }}-${{ github.ref }}
  cancel-in-progress: ${{ github.event_name == 'pull_request' }}

defaults:
  run:
    shell: bash

env:
  TUNEMATRIX: @TUNEMATRIX@

jobs:
@CHANGE@  everything:
    name: ${{ matrix.target.environment }} ${{ matrix.shard }}
    if: github.event_name != 'pull_request'
    runs-on: ${{ matrix.target.runner }}
    timeout-minutes: 120
    strategy:
      fail-fast: false
      matrix:
        target:
@EVERYWHERE@
        # What little a quick run has, one machine does.
        shard: ${{ fromJSON(inputs.quick && '["1/1"]' || '@SHARDS@') }}
    env:
      ENVIRONMENT: ${{ matrix.target.environment }}
      SHARD: ${{ matrix.shard }}
      # 1 runs what has the marker integration, 0 leaves it out.
      TUNEMATRIX_INTEGRATION: ${{ inputs.quick && '0' || '1' }}
    steps:
@PREPARE@
      - run: nox -s "$ENVIRONMENT" -- --shard "$SHARD"
@KEEP@

  report:
    needs: @NEEDS@
    if: always() && !cancelled()
    runs-on: ubuntu-24.04
    timeout-minutes: 10
    steps:
      - uses: actions/setup-python@v6
        with:
          python-version: "3.12"
      - run: python -m pip install "$TUNEMATRIX"
      - uses: actions/download-artifact@v5
        with:
          pattern: records-*
          path: records
      - name: Merge the records into one report
        run: |
          find records -name results.jsonl | sort | xargs cat > results.jsonl
          tunematrix report results.jsonl | tee report.txt
          tunematrix report results.jsonl --markdown - | tee report.md >> "$GITHUB_STEP_SUMMARY"
      - uses: actions/upload-artifact@v4
        with:
          name: report
          path: |
            results.jsonl
            report.*
"""

_CHANGE = """\
  change:
    name: ${{ matrix.target.environment }}, smoke and configs
    if: github.event_name == 'pull_request'
    runs-on: ${{ matrix.target.runner }}
    timeout-minutes: 45
    strategy:
      fail-fast: false
      matrix:
        target:
@HOSTED@
    env:
      ENVIRONMENT: ${{ matrix.target.environment }}
    steps:
@PREPARE@
      - run: nox -s "$ENVIRONMENT" -- -m "smoke or config"
@KEEP@

"""

_PREPARE = """\
      - uses: actions/checkout@v5
        with:
          persist-credentials: false
      - uses: actions/setup-python@v6
        with:
          python-version: "3.12"
      - run: python -m pip install "$TUNEMATRIX" "nox[uv]"\
"""

_KEEP = """\
      - name: Keep the records, and the logs of each cell
        if: always()
        uses: actions/upload-artifact@v4
        with:
          name: records-${{ matrix.target.environment }}-${{ strategy.job-index }}
          include-hidden-files: true
          path: |
            .tunematrix/*/results.jsonl
            .tunematrix/*/junit.xml
            .tunematrix/*/runs/\
"""


def workflow(rows: Iterable[Environment], tunematrix: str, shards: int) -> str:
    """Return the text of a workflow.

    Args:
        rows: the locked environments that it runs.
        tunematrix: requirement that installs it.
        shards: how many machines share the nightly run of an environment.
    """
    rows = list(rows)
    hosted = [row for row in rows if is_hosted(row)]
    parts = [f"{number}/{shards}" for number in range(1, shards + 1)]
    filled = {
        "@CHANGE@": _CHANGE if hosted else "",
        "@NEEDS@": "[change, everything]" if hosted else "[everything]",
        "@HOSTED@": _machines(hosted),
        "@EVERYWHERE@": _machines(rows),
        "@PREPARE@": _PREPARE,
        "@KEEP@": _KEEP,
        "@SHARDS@": json.dumps(parts),
        "@TUNEMATRIX@": json.dumps(tunematrix),
    }
    text = _TEMPLATE
    for mark, value in filled.items():
        text = text.replace(mark, value)
    return text


def workflow_change(root: Path, rows: Sequence[Environment], tunematrix: str) -> FileChange:
    """Work out the workflow of a project; one that is there is kept."""
    path = root / FILE
    if read(path) is not None:
        return FileChange(path, "kept", "is yours; move it, to have another written")
    names = ", ".join(row.name for row in rows)
    return FileChange(path, "wrote", f"for {names}", workflow(rows, tunematrix, shards=2))


def is_hosted(row: Environment) -> bool:
    """Whether an environment runs on a machine of GitHub's, thrown away after each job."""
    return bool(row.runs_on) and "self-hosted" not in row.runs_on


def _machines(rows: Iterable[Environment]) -> str:
    """Return the entries of a matrix: each environment with its runner's labels."""
    lines = []
    for row in rows:
        labels = list(row.runs_on or ("self-hosted", row.name))
        lines.append(f"          - environment: {json.dumps(row.name)}")
        lines.append(f"            runner: {json.dumps(labels)}")
    return "\n".join(lines)
