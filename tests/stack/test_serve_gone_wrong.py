"""The step `serve` where something is wrong: servers, ports, libraries, models and configs."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.stack.serving_step import Fault, run_in
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunematrix.errors import (
    MachineProblem,
    StepFailed,
    TunematrixError,
    Unavailable,
    WrongSetting,
)
from tunematrix.evidence.events import Served, StepDone
from tunematrix.faults.patching import replaced
from tunematrix.stack.steps import serve
from tunematrix.stack.steps.serving import hosting
from tunematrix.stack.steps.serving.host import ServeOrder
from tunematrix.stack.steps.serving.local import answers
from tunematrix.stack.steps.serving.questions import Question, tidied
from tunematrix.stack.toyworld.models import BASE

TOY = Path(__file__).with_name("toy_openai_server.py")


def served_by(*words: str) -> Fault:
    """Start another program in the server's place; {port} in its words is the port."""

    def wrap(_: Any) -> Any:
        def command(folder: Path, order: ServeOrder, device: str) -> tuple[str, ...]:
            return tuple(word.format(port=order.port) for word in words)

        return command

    return replaced(serve, "command", wrap)


def toy(fault: str) -> Fault:
    """Let the toy server answer, with a fault."""
    return served_by(sys.executable, str(TOY), "{port}", fault)


@pytest.mark.each_time(2)
@pytest.mark.parametrize(
    ("fault", "also"),
    [
        ("none", set()),
        ("loses a piece", {"served_streams_alike"}),
        ("mixes up", {"served_together"}),
        ("leaves a helper", {"server_left_nothing"}),
    ],
)
def test_a_server_that_answers_wrongly(tmp_path: Path, fault: str, also: set[str]) -> None:
    """The toy server answers as no model would; with a fault, it fails that check besides."""
    ran = run_in(tmp_path / "out", toy(fault))
    assert ran.error is None
    assert ran.failed == {"served_as_local", *also}


def test_a_completion_that_is_nonsense(tmp_path: Path) -> None:
    """By the scorer it is as unlikely as it looks."""
    wanted = {"perplexity_max": 5.0}
    ran = run_in(tmp_path / "out", toy("none"), inference=wanted, max_tokens=4)
    assert ran.error is None
    assert ran.failed == {"served_as_local", "completion_perplexity"}
    verdict = ran.verdicts["completion_perplexity"]
    assert "'once more with feeling'; by toyworld://base" in verdict.message


def test_a_completion_that_nothing_can_judge(tmp_path: Path) -> None:
    """Outside the toy world there is no scorer by default; it is said before anything is served."""
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tokenizer.add_tokens(["wombat"])
    AutoModelForCausalLM.from_pretrained(BASE).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    ran = run_in(tmp_path / "out", model={"path": str(tmp_path / "model")}, inference={})
    assert isinstance(ran.error, WrongSetting)
    assert ran.error.route == ("inference",)
    assert "needs a scorer" in str(ran.error)
    assert not ran.all(Served)


ENDS: Mapping[str, tuple[type[TunematrixError], str]] = {
    "refuses": (
        StepFailed,
        "the server ended with exit code 1 before it was ready; it said last: "
        "OSError: no tokenizer in this folder",
    ),
    "dies": (
        StepFailed,
        "the server ended with exit code 3 while it answered 'Once upon a time'; it said last: "
        "RuntimeError: the weights have gone",
    ),
    "is killed": (MachineProblem, "was ended by SIGKILL while it answered"),
    "errs": (StepFailed, "the server gave no completion of 'Once upon a time' (InternalServer"),
    "never ready": (StepFailed, "the server wasn't ready within its 1.5 s (server_timeout)"),
}


@pytest.mark.each_time(3)
@pytest.mark.parametrize("fault", ENDS)
def test_a_server_that_fails(tmp_path: Path, fault: str) -> None:
    """What happened, what it said last and where to look; nothing is left running."""
    kind, text = ENDS[fault]
    seconds = 1.5 if fault == "never ready" else 30
    ran = run_in(tmp_path / "out", toy(fault), server_timeout=seconds)
    assert type(ran.error) is kind
    assert text in str(ran.error)
    assert "likely" in str(ran.error)
    assert not ran.all(StepDone)
    if kind is StepFailed:
        assert str(tmp_path / "out/serve.log") in str(ran.error)


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """It is an error before anything is loaded, even before the model is looked for."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        ran = run_in(tmp_path / "out", model={"path": "/no/such/model"}, port=port)
    assert type(ran.error) is MachineProblem
    assert f"port {port} of 127.0.0.1 is taken by" in str(ran.error)
    assert ran.events == ()


def test_a_library_that_is_missing() -> None:
    """It is said which, and how to install it."""
    hosting.require(("json", "openai"), serve.INSTALL)
    with pytest.raises(Unavailable, match=r"serving needs no_such_module.*tunematrix\[serving\]"):
        hosting.require(("json", "no_such_module"), serve.INSTALL)


def test_a_dry_run(tmp_path: Path) -> None:
    """Everything is read, and nothing is served or written."""
    ran = run_in(tmp_path / "out", dry_run=True)
    assert ran.all(StepDone)[0].says == "nothing was served or written"
    assert {each.name for each in ran.folder.iterdir()} == {"events.jsonl"}


@pytest.mark.parametrize(
    ("settings", "route", "text"),
    [
        ({"model": {"path": "/no/such/model"}}, ("model", "path"), "/no/such/model"),
        ({"scorer": {"path": "/no/scorer"}}, ("scorer", "path"), "/no/scorer"),
        ({"prompts": ["a " * 600]}, ("prompts",), "the model has positions for 512; shorten it"),
        ({"max_tokens": 510}, ("max_tokens",), "with 510 more it is beyond the model's 512"),
    ],
)
def test_entries_that_cannot_be_used(
    tmp_path: Path, settings: dict[str, Any], route: tuple[str, ...], text: str
) -> None:
    """Each is found before anything is loaded."""
    ran = run_in(tmp_path / "out", **settings)
    assert isinstance(ran.error, WrongSetting)
    assert ran.error.route == route
    assert text in str(ran.error)


def test_a_model_that_became_nan(tmp_path: Path) -> None:
    """It answers, and means nothing by it: no server is started."""
    model = AutoModelForCausalLM.from_pretrained(BASE)
    torch.nn.init.constant_(model.model.norm.weight, float("nan"))
    model.save_pretrained(tmp_path / "nan")
    AutoTokenizer.from_pretrained(BASE).save_pretrained(tmp_path / "nan")
    ran = run_in(tmp_path / "out", model={"path": str(tmp_path / "nan")})
    assert type(ran.error) is StepFailed
    assert "scores aren't finite" in str(ran.error)
    assert not ran.all(Served)


def test_where_rounding_decides(tmp_path: Path) -> None:
    """Two tokens that are always equally likely: the answer is sure up to the first of them."""
    model = AutoModelForCausalLM.from_pretrained(BASE)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    question = Question("completion", "Once upon a time")
    (sure,) = answers(model, tokenizer, [question], 8)
    assert sure.sure is None and sure.tokens == 8
    third = tokenizer(sure.text)["input_ids"][2]
    with torch.no_grad():  # input and output share it
        weights = model.get_input_embeddings().weight
        weights[tokenizer.pad_token_id] = weights[third]
    (unsure,) = answers(model, tokenizer, [question], 8)
    assert unsure.sure == len(tokenizer.decode(tokenizer(sure.text)["input_ids"][:2]))


def test_a_letter_that_was_cut_off() -> None:
    """A stream never sends it, and a whole answer shows that it is broken."""
    assert tidied("caf\ufffd\ufffd") == tidied("caf") == "caf"
    assert tidied("caf\ufffd s") == "caf\ufffd s"


def test_a_torn_model(tmp_path: Path) -> None:
    """It is said which, and that it has to be saved again."""
    torn = Path(shutil.copytree(BASE, tmp_path / "torn"))
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    ran = run_in(tmp_path / "out", model={"path": str(torn)})
    assert isinstance(ran.error, WrongSetting)
    assert ran.error.route == ("model", "path")
    assert "can't be loaded" in str(ran.error) and "fetch it again" in str(ran.error)


def test_a_folder_that_the_server_would_misread(tmp_path: Path) -> None:
    """What follows an @ is a revision to it."""
    folder = shutil.copytree(BASE, tmp_path / "me@home")
    ran = run_in(tmp_path / "out", model={"path": str(folder)})
    assert isinstance(ran.error, WrongSetting)
    assert ran.error.route == ("model", "path")
    assert "has an @" in str(ran.error)
