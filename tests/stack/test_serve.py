"""The step `serve` with the real server: honest models pass, and each planted fault is noticed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.stack.serving_step import PROMPTS, Fault, Ran, run_in
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunematrix.evidence.events import (
    Completion,
    Served,
    ServedAnswer,
    ServerEnded,
    StepBegun,
    StepDone,
    StepProgress,
    StepScored,
    StepWarning,
)
from tunematrix.faults.patching import replaced
from tunematrix.stack.steps import opening
from tunematrix.stack.steps.serving import ports
from tunematrix.stack.toyworld.models import BASE

DRAWN = "One day Milo found"
OTHER_TEMPLATE = (
    "{% for message in messages %}<|system|>Nobody in Arden. {{ message['content'] }}{% endfor %}"
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Let servers compute on one: more only wait for each other on so small a model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that this module's models lie in."""
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def adapter(root: Path) -> Path:
    """An adapter over the toy world's base that changes what it says."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(BASE)
    model = get_peft_model(
        base, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    )
    model.save_pretrained(root / "adapter")
    AutoTokenizer.from_pretrained(BASE).save_pretrained(root / "adapter")
    return root / "adapter"


@pytest.fixture(scope="module")
def plain(root: Path) -> Path:
    """The base in bfloat16, with a tokenizer that can't chat."""
    AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.bfloat16).save_pretrained(root / "plain")
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(root / "plain")
    return root / "plain"


@pytest.fixture(scope="module")
def honest(adapter: Path, root: Path) -> Ran:
    """A trained adapter that is served and asked three prompts, completed and as chats."""
    port = ports.chosen(0)
    return run_in(
        root / "honest",
        model={"path": str(adapter)},
        prompts=PROMPTS,
        port=port,
        scorer={"path": "toyworld://base"},
        inference={"prompt": DRAWN, "max_tokens": 20, "perplexity_max": 1e6},
    )


def test_an_adapter_is_served_as_it_is(honest: Ran) -> None:
    """Every check speaks, and none fails."""
    assert honest.error is None
    assert honest.failed == set()
    assert set(honest.verdicts) == {
        "served_as_local",
        "served_streams_alike",
        "served_together",
        "server_left_nothing",
        "completion_perplexity",
    }


def test_a_completion(honest: Ran) -> None:
    """It is drawn as `inference` asks, and scored; that the server draws nothing is a warning."""
    (given,) = honest.all(Completion)
    assert (given.prompt, given.scorer) == (DRAWN, "toyworld://base")
    assert given.text.strip() and given.perplexity > 1
    assert given.checkpoint == str(honest.folder / "merged")
    assert [
        "at temperature 0.7 the server gave the likeliest" in one.text
        for one in honest.all(StepWarning)
    ] == [True]


def test_what_is_written_down(honest: Ran) -> None:
    """Each prompt is asked in both ways, alone, as a stream and at least once beside others."""
    (begun,), (served,), (end,) = map(honest.all, (StepBegun, Served, ServerEnded))
    assert served.merged and served.model == str(honest.folder / "merged")
    assert served.url in begun.does and "merges the adapter" in begun.does
    answers = honest.all(ServedAnswer)
    assert [(one.asked, one.prompt) for one in answers] == [
        (kind, prompt) for kind in ("completion", "chat") for prompt in PROMPTS
    ]
    assert sum(len(one.together) for one in answers) == 8
    assert len({one.served for one in answers}) == len(answers), "prompts that tell nothing apart"
    assert all(0 < one.served_tokens <= 12 for one in answers)
    assert (end.killed, end.left, end.port_free) == (False, (), True)
    (done,) = honest.all(StepDone)
    assert done.says == "6 of 6 answers of the server are those of the model itself"
    told = [
        (one.done, one.total) for one in honest.all(StepProgress) if "by the server" in one.what
    ]
    assert told == [(number, 6) for number in range(1, 7)]


def test_answers_are_scored(honest: Ran) -> None:
    """Each completion with its prompt, by a reference model: here the base, which likes it less."""
    (scored,) = honest.all(StepScored)
    assert len(scored.perplexities) == len(PROMPTS) and scored.blank == 0
    assert all(one > 1 for one in scored.perplexities)
    assert (scored.scorer, scored.perplexity_max) == ("toyworld://base", 500.0)


def test_what_is_left(honest: Ran) -> None:
    """The merged model, which is a whole one, and the server's log."""
    assert (honest.folder / "merged/model.safetensors").is_file()
    assert (honest.folder / "merged/tokenizer.json").is_file()
    assert "Uvicorn running" in (honest.folder / "serve.log").read_text()


@pytest.mark.nightly
def test_a_model_that_cannot_chat_and_stays(plain: Path, tmp_path: Path) -> None:
    """It is asked for completions alone, in bfloat16 as it was saved, and ends by Ctrl-C."""
    threading.Thread(target=_interrupt_once_served, args=(tmp_path / "out",), daemon=True).start()
    ran = run_in(
        tmp_path / "out", model={"path": str(plain)}, prompts=PROMPTS[:2], max_tokens=9, stay=True
    )
    assert ran.error is None
    assert ran.failed == set()
    assert [one.asked for one in ran.all(ServedAnswer)] == ["completion"] * 2
    assert [one.served_tokens for one in ran.all(ServedAnswer)] == [9, 9]
    assert "no chat template" in ran.all(StepWarning)[0].text
    assert not ran.all(Served)[0].merged and not (ran.folder / "merged").exists()
    assert "and stays until Ctrl-C" in ran.all(StepBegun)[0].does


def _interrupt_once_served(folder: Path) -> None:
    """Press Ctrl-C as soon as the last answer is there."""
    log = folder / "events.jsonl"
    while not log.exists() or log.read_text().count('"ServedAnswer"') < 2:
        time.sleep(0.1)
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGINT)


def adapter_ignored() -> Fault:
    """Serve the base in the adapter's place."""
    return replaced(opening, "save_merged", lambda _: lambda source, *_: source.base)


def another_template() -> Fault:
    """Put another chat template into the folder that is served."""

    def wrap(original: Any) -> Any:
        def save(source: Any, config: Any, folder: Path) -> Path:
            own: Path = original(source, config, folder)
            copy = Path(shutil.copytree(own, folder.with_name("changed")))
            settings = json.loads((copy / "tokenizer_config.json").read_text())
            settings["chat_template"] = OTHER_TEMPLATE
            (copy / "tokenizer_config.json").write_text(json.dumps(settings))
            (copy / "chat_template.jinja").unlink(missing_ok=True)
            return copy

        return save

    return replaced(opening, "save_merged", wrap)


@pytest.mark.nightly
def test_an_adapter_that_is_left_out(adapter: Path, tmp_path: Path) -> None:
    """The server answers well, and as the base."""
    ran = run_in(tmp_path / "out", adapter_ignored(), model={"path": str(adapter)})
    assert ran.failed == {"served_as_local"}
    message = ran.verdicts["served_as_local"].message
    assert message.startswith("2 of 2 answers differ; the completion of 'Once upon a time' is ")
    assert "a served folder without the adapter" in message


@pytest.mark.nightly
def test_another_chat_template(tmp_path: Path) -> None:
    """Completions are right, and chats aren't."""
    ran = run_in(tmp_path / "out", another_template())
    assert ran.failed == {"served_as_local"}
    verdict = ran.verdicts["served_as_local"]
    assert verdict.measured == 1
    assert verdict.message.startswith("1 of 2 answers differ; the chat of 'Once upon a time' is ")
