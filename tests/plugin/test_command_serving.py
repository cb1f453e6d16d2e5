"""Specs with an inference section: the checkpoint is served, and its completion is scored."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.plugin.test_command import install
from tests.unit.pipeline.loopback_hub import COMMIT

from tunematrix.stack.toyworld.corpus import stories
from tunematrix.stack.toyworld.models import BASE

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project

SERVER = Path(__file__).with_name("toy_server.py")
SPEC = """
test_id: {name}
project_dir: examples/toy
config: toy.yaml
trainer: {trainer}
dynamic_args: {{max_steps: 4, save_strategy: steps}}
gpu_requirement: 0
inference: {{prompt: "{prompt}", max_tokens: 20, perplexity_max: 20.0, server_timeout: 5}}
"""
FAILURES = {
    "nonsense": "completion_perplexity: ",
    "refuses": "the server ended before it answered (server.log): no tokenizer in ",
    "hangs": "the server didn't answer within its 5 s",
    "errs": "the server gave no completion (HTTPError: HTTP Error 500",
    "unsaved": "no folder below the output has config.json and weights",
}


def trainer(name: str, answer: str) -> str:
    """Return a trainer whose server answers in one way."""
    return f"""
[tool.tunematrix.trainers.{name}]
command = ["{{python}}", "train.py", "--output-dir", "{{output_dir}}", "{{dynamic_args}}",
           "--config", "{{config}}"]
serve = ["{{python}}", "serve.py", "{{checkpoint}}", "{{port}}", "{answer}"]
"""


# A model of the Hub that is in its client's cache.
NAMED = """
scorer = "good/base"
environment = {{HF_HOME = "{home}"}}
"""


def cached(home: Path) -> Path:
    """Put the toy world's base model into a cache as the Hub's client keeps it."""
    folder = home / "hub/models--good--base"
    shutil.copytree(BASE, folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(COMMIT, encoding="utf-8")
    return home


@pytest.fixture(scope="module")
def ran(new_project: NewProject) -> tuple[Project, str]:
    """One run with a server for each way, after a trainer that saves a checkpoint."""
    project = new_project()
    prompt, _, rest = stories("A", 1, seed=5)[0].partition(". ")
    words = rest.split()
    random.Random(0).shuffle(words)
    answers = {"story": f" {rest}", "nonsense": f" {' '.join(words)}"}
    answers |= {name: name for name in FAILURES if name not in answers}
    for name in answers:
        spec = SPEC.format(name=name, trainer=name, prompt=f"{prompt}.")
        if name == "unsaved":
            spec = spec.replace("save_strategy: steps", "way: no_checkpoint")
        project.write(f"specs/{name}.yaml", spec)
    more = {"story": NAMED.format(home=cached(project.root / "home"))}
    trainers = (trainer(name, answer) + more.get(name, "") for name, answer in answers.items())
    install(project, "".join(trainers))
    shutil.copy(SERVER, project.root / "examples/toy/serve.py")
    # Scoring imports the libraries, which takes its time on a busy machine.
    scored = [f"specs/{name}.yaml" for name in ("story", "nonsense")]
    others = [f"specs/{name}.yaml" for name in answers if name not in ("story", "nonsense")]
    runs = [project.pytest(scored[0]), project.pytest(scored[1]), project.pytest(*others)]
    return project, "".join(run.text for run in runs)


def test_a_good_text_is_below_the_largest_perplexity(ran: tuple[Project, str]) -> None:
    """By a real model that reads prompt and completion, which the record names."""
    project, text = ran
    record = project.record["story[plain]"]
    assert record["outcome"] == "passed", text
    (check,) = (c for c in record["checks"] if c["name"] == "completion_perplexity")
    assert 1 < check["measured"] < 20
    assert check["bound"]["note"] == "by good/base"


@pytest.mark.parametrize("way", FAILURES)
def test_anything_else_fails_and_says_why(ran: tuple[Project, str], way: str) -> None:
    """The bound is never left unapplied."""
    project, text = ran
    record = project.record[f"{way}[plain]"]
    assert record["outcome"] == "failed", text
    assert FAILURES[way] in record["reason"]
