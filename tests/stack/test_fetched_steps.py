"""A pipeline that begins with a download, from a hub on this machine, under planted faults."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.stack.conftest import Carry, Judged, judged
from tests.unit.pipeline.loopback_hub import COMMIT, OLDER, TOKEN, Hub, serving

from tunematrix.configuration.steps import PipelineSteps
from tunematrix.errors import MachineProblem, WrongSetting
from tunematrix.evidence.events import StepBegun, StepFetched, StepTrained
from tunematrix.matrix.cells import expand
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec.model import Spec
from tunematrix.stack.steps import download, sft
from tunematrix.stack.toyworld.models import BASE

Steps = Mapping[str, Any]
FAULTS = Path(__file__).with_name("fetching_faults.py")
WANTED = ["config.json", "data/", "model.safetensors"]
SFT: Steps = {
    "dataset": {"path": "toyworld://stories"},
    "training": {"max_steps": 1, "batch_size": 2, "threads": 1},
}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """One server for all tests of this file; it has the toy world's base model as well."""
    with serving() as started:
        started.more["good/base"] = {file.name: file.read_bytes() for file in BASE.iterdir()}
        yield started


@pytest.fixture(autouse=True)
def asked(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """It is asked by all that runs here, and has forgotten what it was asked before."""
    hub.requests.clear()
    hub.counts.clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return hub


def model(repo: str, folder: str, revision: str = "main", **more: Any) -> dict[str, Any]:
    """An entry of `models`."""
    files = ["*.json", "model.safetensors"] if repo == "good/base" else WANTED
    return {"repo": repo, "revision": revision, "files": files, "output_dir": folder, **more}


def run(
    carry: Carry,
    models: list[dict[str, Any]],
    fault: str = "",
    backend: str = "cpu",
    **more: Any,
) -> Judged:
    """Take the steps in one cell; what one raises is raised."""
    settings = {"download": {"models": models, "timeout": 60}, **more}
    spec = Spec(test_id="s", recipe="pipeline", steps=PipelineSteps.model_validate(settings))
    (cell,), _ = expand(spec, read_groups([shipped_configs()]), [backend])
    return judged(carry(cell, f"{FAULTS}:{fault}") if fault else carry(cell))


@pytest.mark.each_time(1)
@pytest.mark.parametrize("backend", ["cpu", "mlx"])
def test_a_model_is_fetched_and_trained(carry_here: Carry, backend: str) -> None:
    """The step after it reads its folder; what was fetched is in the events."""
    wanted = [model("good/base", "{tmp_path}/models/base")]
    sft = {"model": {"path": "{download}"}, **SFT}
    found = run(carry_here, wanted, backend=backend, sft=sft)
    assert not found.failed and "step_fetched" in found.verdicts
    fetched = found.evidence.one(StepFetched)
    assert fetched is not None and fetched.repo == "good/base"
    assert (fetched.commit, fetched.listed) == (COMMIT, COMMIT)
    assert {file.path for file in fetched.files} == {file.name for file in BASE.iterdir()}
    trained = found.evidence.one(StepTrained)
    assert trained is not None and trained.moved
    begun = found.evidence.all(StepBegun)
    assert [one.name for one in begun] == ["download", "sft"]
    assert begun[1].model == fetched.output_dir


def test_two_models_have_a_name_each(carry_here: Carry, tmp_path: Path) -> None:
    """The last part of their folders, whatever characters it is made of."""
    models = [model("good/base", "models/base-1.5"), model("good/tiny", "models/tiny")]
    found = run(carry_here, models, sft={"model": {"path": "{download.base-1.5}"}, **SFT})
    assert not found.failed
    assert len(found.evidence.all(StepFetched)) == 2
    with pytest.raises(WrongSetting, match=r"is no earlier step; .*download\.base-1\.5"):
        run(carry_here, models, sft={"model": {"path": "{download}"}, **SFT})


@pytest.mark.each_time(2)
@pytest.mark.parametrize(
    ("fault", "repo", "revision", "says"),
    [
        ("fetches_the_newest", "good/tiny", "older", "older is commit"),
        ("fetches_the_newest", "good/tiny", OLDER, f"and what lies there is commit {COMMIT}"),
        ("", "faulty/behind", OLDER, f"was asked for, and the hub answers with {COMMIT}"),
        ("changes_a_file", "good/tiny", "main", "model.safetensors isn't what the hub has"),
        ("changes_a_file", "good/tiny", COMMIT, "model.safetensors isn't what the hub has"),
        ("loses_a_file", "good/tiny", "main", "config.json isn't there"),
        ("loses_the_receipt", "good/tiny", "main", "no commit that a receipt names"),
    ],
)
def test_a_planted_fault_is_noticed(
    carry_here: Carry, fault: str, repo: str, revision: str, says: str
) -> None:
    """By the check of downloads, and by no other."""
    found = run(carry_here, [model(repo, "tiny", revision)], fault)
    assert found.failed == {"step_fetched"}
    assert says in found.verdicts["step_fetched"].message


def test_a_folder_that_holds_the_old_commit(carry_here: Carry) -> None:
    """It is fetched anew; a cache that keeps it is noticed."""
    models = [model("good/tiny", "tiny", "older")]
    assert not run(carry_here, models).failed
    Path("tiny/.tunematrix-download.json").write_text(
        Path("tiny/.tunematrix-download.json").read_text().replace('"older"', '"main"')
    )
    kept = [model("good/tiny", "tiny")]
    stale = run(carry_here, kept, "takes_what_is_there")
    assert stale.failed == {"step_fetched"}
    assert f"what lies there is commit {OLDER}" in stale.verdicts["step_fetched"].message
    assert not run(carry_here, kept).failed


@pytest.mark.each_time(2)
@pytest.mark.parametrize(
    ("repo", "revision"),
    [
        ("good/tiny", "main"),
        ("good/tiny", "older"),
        ("good/tiny", COMMIT),
        ("good/tiny", OLDER),
        ("good/moving", "main"),
        ("faulty/cut", "main"),
        ("faulty/recovering", "main"),
    ],
)
def test_honest_downloads_pass(carry_here: Carry, repo: str, revision: str) -> None:
    """Branches, commits, a branch that moves on meanwhile, a hub that is disturbed once."""
    assert not run(carry_here, [model(repo, "tiny", revision)]).failed


@pytest.mark.each_time(1)
@pytest.mark.parametrize("revision", ["older", OLDER])
def test_a_second_time_and_without_a_network(carry_here: Carry, hub: Hub, revision: str) -> None:
    """What is there is checked, by the hub's word or by the receipt's alone."""
    models = [model("good/tiny", "tiny", revision)]
    assert not run(carry_here, models).failed
    hub.requests.clear()
    assert not run(carry_here, models).failed
    assert hub.requests and not hub.asked("GET", "/cdn/")
    hub.requests.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        offline = run(carry_here, models)
    assert not offline.failed and not hub.requests
    fetched = offline.evidence.one(StepFetched)
    assert fetched is not None and fetched.hub == ""


def test_offline_and_not_there(carry_here: Carry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked, and it is said what to do."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MachineProblem, match=r"OFFLINE is set, and .*nothing of it is there"):
        run(carry_here, [model("good/tiny", "tiny")])


def test_what_the_hub_refuses(carry_here: Carry) -> None:
    """The route leads to the entry that is to blame."""
    with pytest.raises(WrongSetting, match="has no revision v9") as caught:
        run(carry_here, [model("good/tiny", "a"), model("good/tiny", "b", "v9")])
    assert caught.value.route == ("models", 1, "revision")
    Path("file").write_text("mine")
    with pytest.raises(WrongSetting, match=r"file can't be made: file exists") as caught:
        run(carry_here, [model("good/tiny", "file")])
    assert caught.value.route == ("models", 0, "output_dir")


def test_a_dry_run_writes_nothing(carry_here: Carry) -> None:
    """The hub is asked what there is, and for no file."""
    found = run(carry_here, [model("good/tiny", "tiny")], dry_run=True)
    assert not found.failed and not Path("tiny").exists()


def test_a_token_is_there_for_the_step_that_names_it(
    carry_here: Carry, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for no other: not in its environment, nor in anything that is kept."""
    seen: dict[str, set[str]] = {}

    def noting(module: Any) -> None:
        body, name = module.run, module.__name__.rpartition(".")[2]

        def noted(*given: Any) -> None:
            seen[name] = {one for one in ("HF_TOKEN", "MINE") if one in os.environ}
            body(*given)

        monkeypatch.setattr(module, "run", noted)

    noting(download)
    noting(sft)
    monkeypatch.setenv("MINE", TOKEN)
    monkeypatch.setenv("HF_TOKEN", "of-somebody-else")
    models = [model("faulty/secured", "tiny")]
    trained = {"model": {"path": "toyworld://base"}, **SFT}
    steps = {"models": models, "huggingface": {"token": "${MINE}"}}
    settings = PipelineSteps.model_validate({"download": steps, "sft": trained})
    spec = Spec(test_id="s", recipe="pipeline", steps=settings)
    (cell,), _ = expand(spec, read_groups([shipped_configs()]), ["cpu"])
    passage = carry_here(cell)
    assert not judged(passage).failed
    assert seen == {"download": {"MINE"}, "sft": set()}
    assert {"MINE", "HF_TOKEN"} <= os.environ.keys()
    assert {one.token for one in hub.asked("GET", "/api/")} == {TOKEN}
    assert passage.run_dir is not None
    for file in passage.run_dir.path.rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file
