"""The diagnosis as a terminal shows it: rows for every state, then the three tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunematrix.doctor.findings import (
    BackendFinding,
    Diagnosis,
    EnvironmentFinding,
    QuantizerFinding,
)
from tunematrix.doctor.view import FindingRow, backend_row, environment_row, notes, tables
from tunematrix.errors import Obstacle
from tunematrix.report.terminal import render

CPU = EnvironmentFinding("cpu", "PyTorch", True, None, "nox -s cpu", "absent", active=False)
MPS = replace(CPU, name="mps", possible=False, obstacle=Obstacle("a Mac", "Linux", "buy"))
WORKS = BackendFinding(
    "cuda",
    "PyTorch on a GPU",
    "works",
    versions={"peft": "0.21", "torch": "2.13.0"},
    device={"name": "H200", "memory_bytes": 141e9, "runtime": "CUDA 13.0", "driver": "580.1"},
    dtypes=("float32", "bfloat16"),
    refused={"float16": "RuntimeError: no"},
    seconds=0.7,
)
AGREES = QuantizerFinding("hqq-int4", "cuda", "agrees", bits_per_weight=4.9999, seconds=0.71)
LACKING = QuantizerFinding("bnb-nf4", "cuda", "unavailable", "needs bnb", fix="pip install bnb")


@pytest.mark.parametrize(
    ("found", "row"),
    [
        (CPU, FindingRow("cpu", "✓", ("PyTorch", "can be built: nox -s cpu"))),
        (
            replace(CPU, virtualenv="built"),
            FindingRow("cpu", "✓", ("PyTorch", "built: nox -s cpu")),
        ),
        (
            replace(CPU, virtualenv="unfinished"),
            FindingRow("cpu", "✓", ("PyTorch", "half built; this repairs it: nox -s cpu")),
        ),
        (
            replace(CPU, virtualenv="built", active=True),
            FindingRow("cpu", "✓", ("PyTorch", "active: nox -s cpu")),
        ),
        (MPS, FindingRow("mps", "·", ("looked for: a Mac", "found: Linux", "to do: buy"))),
        (
            replace(CPU, possible=None, command="pip install"),
            FindingRow(
                "cpu", "?", ("PyTorch", "no pyproject.toml here describes it; try: pip install")
            ),
        ),
    ],
)
def test_environments(found: EnvironmentFinding, row: FindingRow) -> None:
    """Each state of an environment."""
    assert environment_row(found) == row


@pytest.mark.parametrize(
    ("found", "symbol", "lines"),
    [
        (
            WORKS,
            "✓",
            (
                "H200, 141.0 GB, CUDA 13.0, driver 580.1",
                "float32, bfloat16",
                "not float16: RuntimeError: no",
                "peft 0.21, torch 2.13.0",
            ),
        ),
        (
            BackendFinding(
                "cuda",
                "",
                "broken",
                reason="too old",
                fix="update it",
                seconds=1,
                evidence="runs/a",
            ),
            "✗",
            ("too old", "to do: update it", "evidence: runs/a"),
        ),
        (
            BackendFinding("cuda", "", "not installed", reason="needs torch", fix="pip install"),
            "?",
            ("needs torch", "to do: pip install"),
        ),
        (
            BackendFinding("cuda", "", "not here", reason="looked for: a GPU", fix="buy"),
            "·",
            ("not on this machine: its environment, above, says why",),
        ),
        (
            BackendFinding("cuda", "", "not here", reason="no GPU", fix="buy", seconds=0.1),
            "·",
            ("no GPU", "to do: buy"),
        ),
    ],
)
def test_backends(found: BackendFinding, symbol: str, lines: tuple[str, ...]) -> None:
    """Each state of a backend."""
    assert backend_row(found) == FindingRow("cuda", symbol, lines)


def test_notes_tell_each_reason_once() -> None:
    """What agrees has none; pairs with one reason share it, and stay apart from other pairs."""
    pairs = [
        AGREES,
        LACKING,
        replace(LACKING, quantizer="bnb-int8"),
        replace(LACKING, quantizer="bnb-int8", backend="cpu"),
        replace(AGREES, outcome="differs", reason="32 bits", evidence="runs/a"),
        replace(AGREES, outcome="unsupported", reason="it crashes", link="https://e.org"),
    ]
    assert notes(pairs) == (
        FindingRow(
            "bnb-nf4 on cuda; bnb-int8 on cuda, cpu",
            "?",
            ("unavailable: needs bnb", "to do: pip install bnb"),
        ),
        FindingRow("hqq-int4 on cuda", "✗", ("differs: 32 bits", "evidence: runs/a")),
        FindingRow("hqq-int4 on cuda", "·", ("unsupported: it crashes", "<https://e.org>")),
    )


def diagnosis(*pairs: QuantizerFinding, backends: tuple[BackendFinding, ...] = ()) -> Diagnosis:
    """What was found on a machine with these backends and pairs."""
    return Diagnosis("Linux", "3.11.7", "/venv", (CPU, MPS), backends or (WORKS,), pairs)


def text(found: Diagnosis, width: int = 80) -> str:
    """What a terminal shows."""
    return render(tables(found), width, colour=False)


def test_the_matrix() -> None:
    """A square for each pair that there is; the figures of those that were tried."""
    shown = text(diagnosis(AGREES, replace(LACKING, backend="cpu")))
    squares = [line.split() for line in shown.splitlines() if line.startswith("  ")]
    assert ["hqq-int4", "✓", "5.00bit", "0.7s"] in squares
    assert ["bnb-nf4", "?"] in squares
    assert "✓ agrees   ✗ differs   ? unavailable   · unsupported" in shown


def test_backends_of_other_machines_have_no_column() -> None:
    """Their quantizers have nothing to say: the backend has said it."""
    gone = BackendFinding("mps", "", "not here")
    shown = text(diagnosis(AGREES, replace(LACKING, backend="mps"), backends=(WORKS, gone)))
    assert "needs bnb" not in shown
    assert "bnb-nf4" not in shown


def test_it_fits_a_terminal() -> None:
    """At 80 columns no line is cut, and no figure is parted from its unit."""
    long = replace(AGREES, outcome="differs", reason="it is " + "very " * 40 + "long")
    lines = text(diagnosis(AGREES, long)).splitlines()
    assert max(map(len, lines)) <= 80
    assert "".join(lines).count("very") == 40


def test_the_verdict_on_a_named_environment() -> None:
    """Last, and only where one was named."""
    assert "requires" not in text(diagnosis(AGREES))
    named = replace(diagnosis(AGREES), environment="cuda")
    assert text(named).rstrip().endswith("✓ cuda: all that it requires works here")
    failing = replace(named, problems=("backend cuda: too old",))
    *_, headline, problem = text(failing).splitlines()
    assert headline.rstrip() == "✗ cuda: doesn't fully work here"
    assert problem.rstrip() == "  backend cuda: too old"
