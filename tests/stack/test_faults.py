"""Eight sabotages: each cell still exits 0, and the check that it is for says no."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunematrix.checks.judge import judge
from tunematrix.checks.verdict import Claim, Verdict
from tunematrix.evidence import Evidence, collect
from tunematrix.evidence.events import Memory
from tunematrix.evidence.run_dir import CellFile, RunDir
from tunematrix.faults.memory import MEGABYTES
from tunematrix.matrix.cells import expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.paths import shipped_configs
from tunematrix.run.driver import Driver
from tunematrix.spec.model import Spec

LIMIT = 120.0
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Ran:
    """A cell that has run, and what the checks said."""

    evidence: Evidence
    verdicts: tuple[Verdict, ...]

    @property
    def failed(self) -> set[str]:
        """Names of the checks that failed."""
        return {verdict.name for verdict in self.verdicts if verdict.outcome == "failed"}


RunCell = Callable[..., Ran]


@pytest.fixture(scope="module")
def groups() -> Groups:
    """The shipped config groups."""
    return read_groups([shipped_configs()])


@pytest.fixture(scope="module")
def driver(groups: Groups) -> Iterator[Driver]:
    """One driver for all cells of this file."""
    preload = groups.axes["backend"]["cpu"].data["preload"]
    assert isinstance(preload, list)
    with Driver([str(module) for module in preload], report=print) as driver:
        yield driver


@pytest.fixture
def run_cell(driver: Driver, groups: Groups, tmp_path: Path) -> RunCell:
    """Run a cell of these options and settings, with or without a fault, and judge it."""

    def run(
        axes: dict[str, str], settings: dict[str, object], fault: str = "", **spec: object
    ) -> Ran:
        data = {
            "test_id": "fault" if fault else "honest",
            "recipe": "sft",
            "matrix": {axis: [option] for axis, option in axes.items()},
            "overrides": {"train.max_steps": 12, **settings},
            **spec,
        }
        claim = Spec.model_validate(data)
        (cell,), _ = expand(claim, groups, ["cpu"])
        config = {**compose(cell, groups.roots), "cache_dir": str(tmp_path / "cache")}
        run_dir = RunDir.create(tmp_path, cell.id)
        faults = (f"tunematrix.faults.{fault}",) if fault else ()
        run_dir.write_cell(CellFile(cell.id, dict(config), str(run_dir.output), faults))
        evidence = collect(run_dir, driver.run(run_dir, LIMIT))
        return Ran(evidence, judge(evidence, Claim(claim, config)))

    return run


LORA = {"method": "lora"}
SABOTAGES = {
    "adapters:adapter_on_one_layer": (LORA, {}, "trainable"),
    "adapters:base_weights_changed": (LORA, {}, "frozen"),
    "data:labels_shuffled": (LORA, {}, "labels"),
    "optimization:learning_rate_zero": (LORA, {}, "learning_rate"),
    "optimization:scheduler_ignored": ({**LORA, "scheduler": "linear"}, {}, "learning_rate"),
    "optimization:accumulation_ignored": (
        LORA,
        {"train.batch_size": 4, "train.accumulation": 4},
        "micro_batches",
    ),
    "quantization:nothing_quantized": ({**LORA, "quantizer": "hqq-int4"}, {}, "stored_bits"),
}


@pytest.mark.parametrize("fault", SABOTAGES)
def test_sabotage_is_named(fault: str, run_cell: RunCell) -> None:
    """The honest cell passes; the sabotaged one ends as well as it, and the right check fails."""
    axes, settings, check = SABOTAGES[fault]
    honest = run_cell(axes, settings)
    assert honest.failed == set()
    sabotaged = run_cell(axes, settings, fault)
    assert sabotaged.evidence.exit.code == 0
    assert "exit" not in sabotaged.failed
    assert check in sabotaged.failed


def test_transient_allocation_shows_in_each_peak(run_cell: RunCell) -> None:
    """200 MB that live for a moment raise both peaks by 200 MB, give or take 5 %.

    The plain loop's own needs are flat; SFTTrainer's peak is a buffer at another moment.
    """
    axes = {"method": "custom-lora"}
    settings = {"meters.allocator": True}
    bounds = {"process_peak_mb": {"max": 150}, "allocator_peak_mb": {"max": 150}}
    honest = run_cell(axes, settings, memory=bounds)
    assert honest.failed == set()
    sabotaged = run_cell(axes, settings, "memory:transient_allocation", memory=bounds)
    assert sabotaged.evidence.exit.code == 0
    assert sabotaged.failed == {"memory_process_peak", "memory_allocator_peak"}
    for measure in ("process_peak", "allocator_peak"):
        grown = _peak(sabotaged.evidence, measure) - _peak(honest.evidence, measure)
        assert grown == pytest.approx(MEGABYTES, rel=0.05), measure


def _peak(evidence: Evidence, measure: str) -> float:
    (found,) = (m for m in evidence.all(Memory) if m.measure == measure)
    return found.bytes / MEGABYTE
