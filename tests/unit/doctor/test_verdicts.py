"""What a trial left behind, and what is made of it: every state a finding can have."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.unit.honest import CONFIG as HONEST

from tunematrix.checks.verdict import Claim
from tunematrix.configuration import Configuration
from tunematrix.doctor.findings import BackendFinding, QuantizerFinding
from tunematrix.doctor.verdicts import (
    backward,
    device_finding,
    differing,
    quantizer_finding,
    unavailable,
    unsupported,
)
from tunematrix.errors import Obstacle
from tunematrix.evidence import Evidence, Exit
from tunematrix.evidence.events import (
    Changed,
    Determinants,
    Event,
    Finished,
    LoggedStep,
    LogitError,
    OptimizerStep,
    Raised,
    Refused,
    Storage,
    StoredLayer,
)
from tunematrix.matrix.cells import Cell, Exclusion
from tunematrix.matrix.groups import Groups
from tunematrix.matrix.requirements import Lack
from tunematrix.spec import Spec

CELL = Cell("doctor[one-fine]", Spec(test_id="doctor", recipe="sft"), {
    "quantizer": "fine", "backend": "one",
}, {})  # fmt: skip
CONFIG = Configuration.model_validate(
    {
        **HONEST,
        "recipe": {"name": "sft", "owes": ["process", "training", "log"]},
        "quantizer": {"name": "fine", "theory": {"weight_bits": 4, "logit_error": 0.4}},
    }
)
CLAIM = Claim(CELL.spec, CONFIG)
PRODUCTS = {"float32": "", "bfloat16": "", "float16": "RuntimeError: no such kernel"}
FACTS = Determinants({"name": "GPU 0", "seed": 0, "products": PRODUCTS})
STEP = OptimizerStep(0, (0.01,), 1.5, 0.0)
MOVED = Changed(("a",), (), (), (), 1)


def left(*events: Event, code: int | None = 0, **exit_fields: Any) -> Evidence:
    """Evidence of a process that ended with a code after writing these events."""
    fields = {"signal": None, "timed_out": False, "leftovers": (), "seconds": 0.7}
    end = Exit(**{"code": code, "isolation": "forkserver", **fields, **exit_fields})
    return Evidence(end, events, "", "", ())


def of_one_step(bits: float = 4.0, error: float = 0.1, *more: Event) -> Evidence:
    """Evidence of a quantizer that stored so many bits a weight, and was off by so much."""
    storage = Storage((StoredLayer("q_proj", (64, 64), int(bits * 64 * 64 / 8)),), 1)
    return left(storage, LogitError(error), STEP, LoggedStep(1, 5.0), *more, Finished())


@pytest.fixture
def device(groups: Groups) -> Any:
    """Judges what the device of backend one left behind."""
    option = groups.axes["backend"]["one"]

    def judge(evidence: Evidence) -> BackendFinding:
        return device_finding(option, evidence, CLAIM)

    return judge


def test_a_device_that_works(device: Any) -> None:
    """It is described; seeds aren't part of it; dtypes without a right product are set apart."""
    found = device(left(Determinants({"cuda": "13.0"}), FACTS, Finished()))
    assert found == BackendFinding(
        name="one",
        description="The first",
        state="works",
        device={"cuda": "13.0", "name": "GPU 0"},
        dtypes=("float32", "bfloat16"),
        refused={"float16": "RuntimeError: no such kernel"},
        seconds=0.7,
    )


def test_a_device_that_is_there_and_refuses(device: Any) -> None:
    """What it said, and what to do about it."""
    refused = Refused(Obstacle("a GPU", "the driver is too old", "update it", present=True))
    found = device(left(refused, Raised("", ("MachineProblem",), "too old"), code=1))
    assert (found.state, found.fix, found.device) == ("broken", "update it", {})
    assert found.reason == "the driver is too old"


def test_a_device_that_is_not_there(device: Any) -> None:
    """No GPU isn't a broken one."""
    refused = Refused(Obstacle("a GPU", "there is no GPU", "buy one"))
    found = device(left(refused, Raised("", ("MachineProblem",), "none"), code=1))
    assert (found.state, found.reason, found.fix) == ("not here", "there is no GPU", "buy one")


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (left(code=None, signal="SIGSEGV"), "a crash in native code"),
        (left(code=None, signal="SIGTERM", timed_out=True), "ran past its 300 s"),
        (left(), "ended before the recipe's end"),
        (
            left(Determinants({"products": {"float32": "wrong"}}), Finished()),
            "in every dtype: wrong",
        ),
    ],
)
def test_a_device_whose_process_fails(device: Any, evidence: Evidence, reason: str) -> None:
    """A crash, a hang, an early end and a wrong product each say so."""
    found = device(evidence)
    assert found.state == "broken"
    assert reason in found.reason


def test_a_quantizer_that_agrees() -> None:
    """With what it stored, and how long it took."""
    found = quantizer_finding(CELL, of_one_step(), CLAIM, {"c++": "/usr/bin/c++"})
    assert found == QuantizerFinding(
        "fine", "one", "agrees", bits_per_weight=4.0, seconds=0.7, tools={"c++": "/usr/bin/c++"}
    )


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (of_one_step(bits=32.0), "stored_bits: q_proj stores 32.000 bits per weight"),
        (of_one_step(error=0.9), "logit_error: logits are off by 0.9"),
        (of_one_step(error=0.0), "nothing was quantized"),
        (of_one_step(4.0, 0.1, OptimizerStep(1, (), math.nan, None)), "backward: the gradients"),
        (of_one_step(4.0, 0.1, LoggedStep(2, math.inf)), "finite_loss: step 2 logged inf"),
        (left(Finished()), "stored_bits: no reading of"),
        (left(Raised("load", ("ValueError",), "no"), code=1), "exit: ValueError while in load: no"),
        (left(code=None, signal="SIGKILL"), "exit: killed from outside"),
    ],
)
def test_a_quantizer_that_differs(evidence: Evidence, reason: str) -> None:
    """Whatever it does instead of what is declared, the first of it is told."""
    found = quantizer_finding(CELL, evidence, CLAIM, {})
    assert found.outcome == "differs"
    assert reason in found.reason


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [
        ((STEP,), "passed"),
        ((OptimizerStep(0, (), 0.0, None), MOVED), "failed"),
        ((OptimizerStep(0, (), math.inf, None), MOVED), "failed"),
        ((OptimizerStep(0, (), None, 0.0), MOVED), "passed"),
        ((OptimizerStep(0, (), None, math.nan), MOVED), "failed"),
        ((OptimizerStep(0, (), None, 0.0), Changed((), ("a",), (), (), 1)), "failed"),
        ((OptimizerStep(0, (), None, 0.0),), "failed"),
        ((MOVED,), "failed"),
        ((), "failed"),
    ],
)
def test_backward(steps: tuple[Event, ...], outcome: str) -> None:
    """Judged by norms, or, where a trainer keeps those, by where the parameters went."""
    verdict = backward(left(*steps), CLAIM)
    assert verdict is not None and verdict.outcome == outcome


def test_missing_tools_are_the_likely_cause() -> None:
    """They stand before what the compiler's absence led to, with what installs them."""
    tools = {"c++": None, "ninja": None, "Python.h": "/usr/include/Python.h"}
    found = differing(CELL, "compiling failed", tools)
    assert found.reason == "it compiles with c++, ninja, not found here; compiling failed"
    assert "python -m pip install ninja" in found.fix
    assert differing(CELL, "it crashed", {"ninja": "/bin/ninja"}).reason == "it crashed"
    assert "install g++" not in differing(CELL, "", {"ninja": None}).fix


def test_a_declared_no() -> None:
    """Its reason and its link, as declared."""
    found = unsupported(Exclusion(CELL, "it crashes", "https://e.org", None, (), "a.yaml"))
    assert (found.outcome, found.reason, found.link) == (
        *("unsupported", "it crashes"),
        "https://e.org",
    )


LACK = Lack("quantizer", "fine", ("hqq", "zipq"), "pip install it")
OF_THE_BACKEND = Lack("backend", "one", ("torch",), "pip install torch")


@pytest.mark.parametrize(
    ("state", "lack", "reason", "fix"),
    [
        ("works", LACK, "needs hqq, zipq", "pip install it"),
        ("not installed", LACK, "needs hqq, zipq", "pip install it"),
        ("not installed", OF_THE_BACKEND, "its backend is not installed", ""),
        ("not here", LACK, "its backend is not here", ""),
        ("broken", LACK, "its backend is broken", ""),
        ("broken", None, "its backend is broken", ""),
    ],
)
def test_a_quantizer_that_is_not_tried(
    state: Any, lack: Lack | None, reason: str, fix: str
) -> None:
    """Nobody is told to install a library for a device that isn't there."""
    found = unavailable(CELL, BackendFinding("one", "", state), lack, {})
    assert (found.outcome, found.reason, found.fix) == ("unavailable", reason, fix)
