"""Every check passes honest evidence and fails its planted fault; what a recipe owes is judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.unit.checks.planted import PLANTED

from tunematrix.checks.registry import registry
from tunematrix.evidence.events import Finished, LoggedStep, Memory

if TYPE_CHECKING:
    from tests.unit.conftest import Run

COMMANDS_OWN = {
    "trainer_log",
    "loss_falls",
    "learning_rate_logged",
    "ranks_started",
    "repository_clean",
    "gpu_used",
    "library_loaded",
    "completion_perplexity",
}


def test_honest_evidence_passes_every_check(run: Run) -> None:
    """Each check speaks, none complains, and a passing one explains nothing."""
    verdicts = run.verdicts()
    # A recipe trains on stories or on preferences; test_preference_checks.py has the latter. Steps
    # of a pipeline, and what is watched, have their own files, too.
    others = {"preferences", "pipeline", "watch"}
    asked = {check.name for check in registry().checks.values() if check.group not in others}
    # A warning is there only when there is one; one process is no several.
    # And test_command_checks.py has those of a trainer's command; test_loss_checks.py the best one,
    # test_settings_checks.py what is compiled, test_quantization_checks.py ends of ranges.
    apart = {"stderr_warning", "ranks", "best_loaded", "compiled", "group_ends"}
    assert set(verdicts) == asked - apart - COMMANDS_OWN
    assert {verdict.outcome for verdict in verdicts.values()} == {"passed"}
    assert {verdict.message for verdict in verdicts.values()} == {""}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_fault_fails_its_check(run: Run, name: str) -> None:
    """The failure has the measured value, the bound, and a likely cause."""
    plant, measured, bound, cause = PLANTED[name]
    verdict = plant(run).verdicts()[name]
    assert verdict.outcome == "failed"
    if isinstance(measured, float):
        assert verdict.measured == pytest.approx(measured)
    else:
        assert verdict.measured == measured
    assert str(verdict.bound) == bound
    assert cause in verdict.message


def test_every_check_has_a_planted_fault(run: Run) -> None:
    """A check that nobody ever saw failing vouches for nothing."""
    assert set(PLANTED) == set(run.verdicts())


def test_a_run_without_an_end_proves_nothing(run: Run) -> None:
    """Exit code 0 before the recipe's end fails, and nothing else is judged then."""
    verdicts = run.without(Finished).verdicts()
    assert verdicts["exit"].outcome == "failed"
    assert "it tested nothing" in verdicts["exit"].message
    assert set(verdicts) == {"exit", "left_behind", "stderr"}


def test_a_recipe_that_does_not_train_owes_no_proof_of_training(run: Run) -> None:
    """Only how it ended and what its spec asks is judged."""
    bounds = {"test_id": "fetch", "recipe": "download", "expected_files": ["config.json"]}
    download = Finished()
    kinds = {type(event) for event in run.evidence.events}
    fetched = (
        run.without(*kinds)
        .recording(download)
        .configured(recipe={"owes": ["process"]}, meters={"merge": False})
    )
    fetched = type(run)(fetched.evidence, bounds, fetched.config).leaving(files=("config.json",))
    assert set(fetched.verdicts()) == {"exit", "left_behind", "stderr", "expected_files"}
    assert not fetched.failed()
    assert fetched.leaving(files=()).failed() == {"expected_files"}


def test_a_process_with_a_log(run: Run) -> None:
    """A trainer that our meters don't reach owes its log, its files and its memory alone."""
    lines = [LoggedStep(step, loss) for step, loss in ((10, 5.0), (20, 2.0))]
    bounds = {
        "test_id": "theirs",
        "recipe": "theirs",
        "loss": {"final_max": 3.0, "first_max": 6.0},
        "min_steps_logged": 2,
        "expected_files": ["model.bin"],
        "memory": {"process_peak_mb": {"max": 80.0}},
    }
    kinds = {type(event) for event in run.evidence.events}
    evidence = (
        run.without(*kinds)
        .recording(*lines, Memory("process_peak", 64_000_000, "VmHWM"), Finished())
        .leaving(files=("model.bin",))
        .evidence
    )
    owes = {"owes": ["process", "log", "files", "memory"]}
    theirs = type(run)(evidence, bounds, run.configured(recipe=owes).config)
    assert list(theirs.verdicts()) == [
        "exit", "left_behind", "stderr", "steps_logged", "finite_loss", "first_logged_loss",
        "final_loss", "expected_files", "memory_process_peak",
    ]  # fmt: skip
    assert not theirs.failed()
    # Our own settings say how often our trainers log, and nothing of theirs.
    assert theirs.configured(train={"logging_steps": 1, "max_steps": 500}).failed() == set()
    assert theirs.asked(min_steps_logged=3).failed() == {"steps_logged"}
    silent = {"steps_logged", "finite_loss", "first_logged_loss", "final_loss"}
    assert theirs.without(LoggedStep).failed() == silent
    assert theirs.without(Memory).failed() == {"memory_process_peak"}


def test_what_the_spec_bounds_is_judged_whatever_the_recipe_owes(run: Run) -> None:
    """A bound that nobody looks at would be a promise that nobody keeps."""
    bare = run.configured(recipe={"owes": ["process"]})
    assert bare.asked(throughput={"min_tokens_per_second": 1e6}).failed() == {"throughput"}
    assert bare.asked(gap_closed={"min": 0.99}).failed() == {"gap_closed"}
    assert "throughput" not in bare.asked(throughput=None).verdicts()


def test_groups_are_judged_in_the_order_in_which_they_are_owed(run: Run) -> None:
    """And the process first, owed or not."""
    names = list(run.configured(recipe={"owes": ["parity", "device"]}).verdicts())
    assert names[:7] == [
        "exit", "left_behind", "stderr", "parity_logits", "parity_gradients", "parity_trace",
        "device",
    ]  # fmt: skip
