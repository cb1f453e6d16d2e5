"""What keeps a named environment from working."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from tunematrix.doctor.findings import (
    BackendFinding,
    Diagnosis,
    EnvironmentFinding,
    QuantizerFinding,
    problems,
)
from tunematrix.environments.table import Environment
from tunematrix.errors import Obstacle

DOCS = Path(__file__).parents[3] / "docs" / "doctor.md"
CUDA = Environment("cuda", "", ("cuda",), requires=("hqq",))
POSSIBLE = EnvironmentFinding("cuda", "", True, None, "nox -s cuda", "built", active=True)
WORKS = BackendFinding("cuda", "", "works")
AGREES = QuantizerFinding("hqq-int4", "cuda", "agrees")


def test_nothing_keeps_it_where_everything_works() -> None:
    """What is declared unsupported, or not required, is no problem; nor is an unknown machine."""
    no = replace(AGREES, outcome="unsupported", reason="it crashes")
    absent = replace(AGREES, outcome="unavailable", reason="needs zipq")
    unknown = replace(POSSIBLE, possible=None)
    assert not list(problems(CUDA, (POSSIBLE,), (WORKS,), (AGREES, no, absent), ()))
    assert not list(problems(CUDA, (unknown,), (WORKS,), (), ()))


def test_each_thing_that_can_keep_it() -> None:
    """The machine, the device, a library, a quantizer that doesn't do what is declared."""
    broken = replace(WORKS, state="broken", reason="the driver is too old")
    lies = replace(AGREES, outcome="differs", reason="stored_bits: 32")
    refused = replace(POSSIBLE, possible=False, obstacle=Obstacle("a GPU", "nothing", "buy one"))
    assert list(problems(CUDA, (refused,), (broken,), (AGREES, lies), ("hqq", "torchao"))) == [
        "environment cuda: this machine can't have it",
        "backend cuda: the driver is too old",
        "environment cuda requires hqq, torchao; install it with: nox -s cuda",
        "quantizer hqq-int4 on cuda: stored_bits: 32",
    ]


def test_the_machine_of_another_environment_is_no_problem() -> None:
    """Only the one that was named has to be possible."""
    mps = replace(POSSIBLE, name="mps", possible=False)
    assert not list(problems(CUDA, (POSSIBLE, mps), (WORKS,), (AGREES,), ()))


def test_as_data() -> None:
    """JSON can hold all of it, under a version of its own."""
    found = Diagnosis("Linux", "3.11.7", "/venv", (POSSIBLE,), (WORKS,), (AGREES,))
    data = json.loads(json.dumps(found.to_json()))
    assert data["schema_version"] == 2
    assert data["environments"][0]["virtualenv"] == "built"
    assert data["backends"][0]["state"] == "works"
    assert data["quantizers"][0]["outcome"] == "agrees"


@pytest.mark.parametrize(
    ("kind", "heading"),
    [
        (EnvironmentFinding, "`environments[]`"),
        (BackendFinding, "`backends[]`"),
        (QuantizerFinding, "`quantizers[]`"),
    ],
)
def test_every_key_is_documented(kind: type[Any], heading: str) -> None:
    """In the table of its list, and no key that isn't there."""
    _, _, text = DOCS.read_text(encoding="utf-8").partition(f"| {heading} | |\n")
    names = [row.partition("|")[0] for row in text.partition("\n\n")[0].split("\n| ")[1:]]
    documented = re.findall(r"`(\w+)`", " ".join(names))
    assert documented
    assert sorted(documented) == sorted(field.name for field in fields(kind))
