"""The step `serve` with the real server: honest models pass, and each planted fault is noticed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunematrix.checks import serving as checks
from tunematrix.checks.registry import checks_of
from tunematrix.checks.verdict import Claim, Verdict
from tunematrix.configuration.steps import ServeStep
from tunematrix.errors import (
    MachineProblem,
    StepFailed,
    TunematrixError,
    Unavailable,
    WrongSetting,
)
from tunematrix.evidence import Evidence, Exit
from tunematrix.evidence.events import (
    Event,
    Served,
    ServedAnswer,
    ServerEnded,
    StepBegun,
    StepDone,
    StepProgress,
    StepScored,
    StepWarning,
)
from tunematrix.evidence.log import EventLog, read_events
from tunematrix.faults.patching import replaced
from tunematrix.matrix.cells import Cell, expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec import Spec
from tunematrix.stack.steps import opening, serve
from tunematrix.stack.steps.job import StepJob
from tunematrix.stack.steps.serving import ports
from tunematrix.stack.steps.serving.questions import Question, answers, tidied
from tunematrix.stack.toyworld.models import BASE

TOY = Path(__file__).with_name("toy_openai_server.py")
GROUPS = read_groups([shipped_configs()])
PROMPTS = ("Once upon a time", "One day Milo found", "Nobody in Arden had ever seen")
OTHER_TEMPLATE = (
    "{% for message in messages %}<|system|>Nobody in Arden. {{ message['content'] }}{% endfor %}"
)

Fault = AbstractContextManager[None]


@dataclass(frozen=True)
class Ran:
    """A step that has run.

    Attributes:
        events: that it wrote. folder: it wrote to. error: that it ended with, if any.
    """

    events: tuple[Event, ...]
    folder: Path
    claim: Claim
    error: TunematrixError | None

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """What the checks of served models say."""
        evidence = Evidence(Exit(0, None, False, (), 1.0, "spawn"), self.events, "", "", ())
        judged = (one(evidence, self.claim) for one in checks_of(checks))
        return {verdict.name: verdict for verdict in judged if verdict is not None}

    @property
    def failed(self) -> set[str]:
        """Names of those that failed."""
        return {name for name, verdict in self.verdicts.items() if verdict.outcome == "failed"}

    def all(self, kind: type[Any]) -> list[Any]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


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


def run_in(folder: Path, *faults: Fault, dry_run: bool = False, **settings: Any) -> Ran:
    """Run the step in this process; what users would be told is returned."""
    cell = one_cell()
    config = compose(cell, GROUPS, str(folder / "cache"))
    plain = {"model": {"path": "toyworld://base"}, "prompts": PROMPTS[:1], "max_tokens": 12}
    given = {**plain, **settings}
    folder.mkdir(parents=True, exist_ok=True)
    error: TunematrixError | None = None
    before = family()
    with EventLog(folder / "events.jsonl") as log, ExitStack() as planted:
        for fault in faults:
            planted.enter_context(fault)
        job = StepJob("serve", config, log, folder, dry_run=dry_run)
        try:
            serve.run(ServeStep.model_validate(given), job)
        except TunematrixError as raised:
            error = raised
    assert family() == before
    return Ran(read_events(folder / "events.jsonl"), folder, Claim(cell.spec, config), error)


def one_cell() -> Cell:
    """Return a cell without a quantizer, on the CPU."""
    spec = Spec(test_id="served", recipe="sft", matrix={"backend": ("cpu",)})
    (cell,), _ = expand(spec, GROUPS, ["cpu"])
    return cell


def family() -> set[int]:
    """Return the processes below this one."""
    return {each.pid for each in psutil.Process().children(recursive=True)}


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
    }


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


def test_an_adapter_that_is_left_out(adapter: Path, tmp_path: Path) -> None:
    """The server answers well, and as the base."""
    ran = run_in(tmp_path / "out", adapter_ignored(), model={"path": str(adapter)})
    assert ran.failed == {"served_as_local"}
    message = ran.verdicts["served_as_local"].message
    assert message.startswith("2 of 2 answers differ; the completion of 'Once upon a time' is ")
    assert "a served folder without the adapter" in message


def test_another_chat_template(tmp_path: Path) -> None:
    """Completions are right, and chats aren't."""
    ran = run_in(tmp_path / "out", another_template())
    assert ran.failed == {"served_as_local"}
    verdict = ran.verdicts["served_as_local"]
    assert verdict.measured == 1
    assert verdict.message.startswith("1 of 2 answers differ; the chat of 'Once upon a time' is ")


def served_by(*words: str) -> Fault:
    """Start another program in the server's place; {port} in its words is the port."""

    def wrap(_: Any) -> Any:
        def command(folder: Path, order: serve.ServeOrder, device: str) -> tuple[str, ...]:
            return tuple(word.format(port=order.port) for word in words)

        return command

    return replaced(serve, "command", wrap)


def toy(fault: str) -> Fault:
    """Let the toy server answer, with a fault."""
    return served_by(sys.executable, str(TOY), "{port}", fault)


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
    serve.require(("json", "openai"))
    with pytest.raises(Unavailable, match=r"serving needs no_such_module.*tunematrix\[serving\]"):
        serve.require(("json", "no_such_module"))


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


def test_a_folder_that_the_server_would_misread(tmp_path: Path, adapter: Path) -> None:
    """What follows an @ is a revision to it."""
    ran = run_in(tmp_path / "me@home", model={"path": str(adapter)})
    assert isinstance(ran.error, WrongSetting)
    assert ran.error.route == ("output_dir",)
    assert "has an @" in str(ran.error)
