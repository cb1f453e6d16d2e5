"""A cell goes its way step by step, and may be carried elsewhere for the part that runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.honest import BOUNDS, CONFIG, honest_events

from tunematrix.checks.judge import judge
from tunematrix.checks.verdict import Claim
from tunematrix.configuration import Configuration
from tunematrix.environments.table import Environment
from tunematrix.evidence import Exit, collect
from tunematrix.evidence.log import EventLog
from tunematrix.evidence.run_dir import CellFile, RunDir
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.results.record import Record
from tunematrix.run.executor import Executor, Poll
from tunematrix.run.foreground import Foreground
from tunematrix.spec import Spec
from tunematrix.workflow import steps
from tunematrix.workflow.cells import run_cell
from tunematrix.workflow.context import RUNS_KEPT, RunContext
from tunematrix.workflow.passage import Passage, carry

MakeContext = Callable[[Executor], RunContext]


class Elsewhere(Foreground):
    """Another machine: what is run there is in a folder of its own, as the cache is."""

    def __init__(self, place: Path, *lacking: str) -> None:
        self.place = place
        self.lacking = lacking
        self.ran: list[Path] = []

    def missing(self, modules: Sequence[str]) -> tuple[str, ...]:
        """Return what this machine lacks, whatever the other has."""
        return tuple(module for module in modules if module in self.lacking)

    def run(self, run_dir: RunDir, timeout: float, poll: Poll | None = None) -> Exit:
        """Fetch the folder, run the cell, and bring the folder back."""
        with self._fetched(run_dir) as there:
            return super().run(there, timeout, poll)

    def call(
        self, name: str, arguments: Mapping[str, object], timeout: float, run_dir: RunDir
    ) -> Exit:
        """Fetch the folder, call the function, and bring the folder back."""
        with self._fetched(run_dir) as there:
            return super().call(name, arguments, timeout, there)

    @contextmanager
    def _fetched(self, run_dir: RunDir) -> Iterator[RunDir]:
        there = RunDir(self.place / "here" / "runs" / "run" / run_dir.path.name)
        there.path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(run_dir.path, there.path)
        yield there
        self.ran.append(there.path)
        shutil.move(there.path, run_dir.path)


@pytest.fixture
def make_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeContext:
    """Makes the context of a run with the tiny recipes, and options that prepare something."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    for name in ("save", "refuse"):
        target = f"{{_target_: recipes_for_workflow.{name}, _partial_: true}}"
        _write(tmp_path / "conf/recipe" / f"{name}.yaml", f"implementation: {target}\n")
    for name in ("get_ready", "claim", "break_down"):
        prepare = f"{{call: 'recipes_for_workflow:{name}', note: getting ready}}"
        text = f"requires: [json]\nprepare: {prepare}\n"
        _write(tmp_path / "conf/quantizer" / f"{name}.yaml", text)
    groups = read_groups([shipped_configs(), tmp_path / "conf"])

    def make(executor: Executor) -> RunContext:
        own = Environment("here", "", ("cpu",))
        root = tmp_path / "project"
        return RunContext(own, groups, "run", root, "auto", (), True, print, here=executor)

    return make


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"name: {path.stem}\n{text}")


def _cell(context: RunContext, recipe: str, quantizer: str = "get_ready") -> Cell:
    axes = {**context.groups.defaults, "recipe": recipe, "quantizer": quantizer}
    return Cell(f"{recipe}[{quantizer}]", Spec(test_id="a", recipe=recipe), axes, {})


def _record(context: RunContext, recipe: str, quantizer: str = "get_ready") -> Record:
    return run_cell(_cell(context, recipe, quantizer), context, ())


def test_a_cell_can_be_carried_to_another_machine(
    make_context: MakeContext, tmp_path: Path
) -> None:
    """Its folder holds all that it takes; the cache that it finds is the other machine's."""
    there = Elsewhere(tmp_path / "there")
    context = make_context(there)
    record = _record(context, "save")
    assert (record.outcome, record.reason) == ("passed", "")
    assert len(there.ran) == 2
    assert (context.run_dir("save[get_ready]").output / "saved").read_text() == "ready"
    assert not context.cache.exists()
    assert (tmp_path / "there/cache/prepared").is_file()


def test_a_run_folder_that_was_moved_is_judged_as_before(tmp_path: Path) -> None:
    """Nothing in it names the place that it was made in."""
    spec = Spec.model_validate(BOUNDS)
    run_dir = RunDir.create(tmp_path / "here", "qlora[cpu]")
    run_dir.write_cell(CellFile("qlora[cpu]", Configuration.model_validate(CONFIG)))
    with EventLog(run_dir.events) as events:
        for event in honest_events():
            events.write(event)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        _write(run_dir.output / "model" / name, "")
    moved = RunDir(tmp_path / "there")
    end = Exit(0, None, False, (), 14.0, "forkserver")
    before = judge(collect(run_dir, end), Claim(spec, run_dir.read_cell().config))
    shutil.move(run_dir.path, moved.path)
    after = judge(collect(moved, end), Claim(spec, moved.read_cell().config))
    assert after == before
    assert {verdict.outcome for verdict in after} == {"passed"}


def test_what_is_missing_where_cells_run_is_missing(
    make_context: MakeContext, tmp_path: Path
) -> None:
    """Even though it is there where the run is driven from."""
    context = make_context(Elsewhere(tmp_path / "there", "json"))
    record = _record(context, "save")
    assert (record.outcome, "quantizer get_ready needs json" in record.reason) == (
        "unavailable",
        True,
    )
    assert _record(make_context(Elsewhere(tmp_path / "there")), "save").outcome == "passed"


def test_a_device_that_refuses_while_preparing(make_context: MakeContext) -> None:
    """The cell is unavailable, and says what to do; nothing of it runs."""
    context = make_context(Foreground())
    record = _record(context, "save", "claim")
    assert (record.outcome, record.reason) == ("unavailable", "there is none; buy one")
    assert not context.run_dir("save[claim]").path.exists()


def test_a_device_that_refuses_the_cell_itself(make_context: MakeContext) -> None:
    """As unavailable as one that refused before, and its evidence is kept."""
    record = _record(make_context(Foreground()), "refuse")
    assert (record.outcome, record.reason) == ("unavailable", "there is none; buy one")
    assert record.run_dir


def test_a_preparation_that_breaks_is_no_refusal(make_context: MakeContext) -> None:
    """Whatever words it uses."""
    record = _record(make_context(Foreground()), "save", "break_down")
    assert record.outcome == "error"
    assert record.reason.startswith("preparing break_down failed")
    assert record.reason.endswith(": RuntimeError: Unusable: nothing to do: nothing")


def test_any_tuple_of_steps_is_a_way(make_context: MakeContext) -> None:
    """What isn't asked for isn't done."""
    context = make_context(Foreground())
    cell = _cell(context, "save")
    composed = carry(Passage(cell), context, (steps.compose,))
    assert composed.claim.config.recipe.name == "save"
    assert not context.folder.exists()
    judged = carry(composed, context, (steps.prepare, *steps.VERDICTS[3:]))
    assert judged.record is None
    assert {verdict.outcome for verdict in judged.verdicts} == {"passed"}


def test_secrets_stay_out_of_records_and_progress(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever they come from."""
    monkeypatch.setenv("MY_API_KEY", "there is none")
    said: list[str] = []
    context = replace(make_context(Foreground()), say=said.append)
    assert _record(context, "save", "claim").reason == "<MY_API_KEY>; buy one"
    context.say("because there is none")
    assert said[-1] == "because <MY_API_KEY>"


def test_a_run_that_is_under_way_is_not_removed(make_context: MakeContext) -> None:
    """However many shorter ones have come after it."""
    context = make_context(Foreground())
    runs = [replace(context, run_id=f"2026-{number}") for number in range(RUNS_KEPT + 2)]
    for run in runs:
        run.claim_folder()
        (run.run_folder / "evidence").touch()
    for run in runs[1:]:
        run.close(prune=True)
    left = {path.name for path in (context.folder / "runs").iterdir()}
    assert left == {run.run_id for run in (runs[0], *runs[2:])}
    runs[0].close(prune=True)
    assert len(list((context.folder / "runs").iterdir())) == RUNS_KEPT
