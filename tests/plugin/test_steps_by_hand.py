"""The steps of a pipeline as users call them: commands with configs, one after the other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples/pipeline"


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a verb there; its output has no bar, since it is no terminal."""
    command = [sys.executable, "-m", "tunematrix", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's folder, copied."""
    folder = tmp_path_factory.mktemp("by-hand") / "pipeline"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".tunematrix", ".nox"))
    return folder


@pytest.fixture(scope="module")
def values(project: Path) -> tuple[str, ...]:
    """What the example's page says, with the model that needs no network."""
    return f"tmp_path={project}/out", "data=data"


@pytest.mark.nightly
def test_four_steps_one_after_the_other(project: Path, values: tuple[str, ...]) -> None:
    """Each takes what the one before has left, and says what it did."""
    base = "model.path=toyworld://base"
    sft = call(project, "sft", "--config", "finetune.yaml", *values, base)
    assert sft.returncode == 0, sft.stdout + sft.stderr
    assert "lora on 4 rows, 1 step;" in sft.stdout
    assert "trained tensors changed; the loss of 4 rows went from" in sft.stdout
    assert (project / "out/checkpoints/finetuned/checkpoint-1/adapter_config.json").is_file()
    dpo = call(project, "dpo", "--config", "align.yaml", *values)
    assert dpo.returncode == 0, dpo.stdout + dpo.stderr
    assert "goes on with its adapter; 4 preferences, 1 step" in dpo.stdout
    final = call(project, "finalize", "--config", "finalize.yaml", values[0])
    assert final.returncode == 0, final.stdout + final.stderr
    assert "merges the adapter in float32, stores the model in float32;" in final.stdout
    assert f"MB of weights in {project}/out/models/final" in final.stdout
    assert (project / "out/models/final/config.json").is_file()
    asked = call(project, "generate", "--config", "generate.yaml", values[0])
    assert asked.returncode == 0, asked.stdout + asked.stderr
    lines = (project / "out/answers/generated.jsonl").read_text().splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == [
        "What color is the sky?",
        "Why is water important?",
    ]
    assert not [*(project / ".tunematrix").rglob("cell.json")]


ABSENT = "cuda" if sys.platform == "darwin" else "mps"
"""A device that isn't here."""
WRONG = {
    "no such field": (("dataset.text_field=body",), 4, "dataset.text_field"),
    "no steps": (("training.max_steps=0",), 4, "expected at least 1, got 0"),
    "no device": (("--device", ABSENT), 6, f"{ABSENT} was asked for"),
    "no quantizer": (("training.quantizer=bnb-nf5",), 4, "did you mean bnb-nf4"),
    "a warm-up too long": (("training.warmup_steps=5",), 1, "warmup_steps=5 is no shorter"),
}


@pytest.mark.each_time(1)
@pytest.mark.parametrize("name", WRONG)
def test_bad_input(project: Path, name: str) -> None:
    """The message names the entry, and the exit code is the documented one."""
    words, code, said = WRONG[name]
    given = (f"tmp_path={project}/{name.replace(' ', '-')}", "data=data")
    base = "model.path=toyworld://base"
    done = call(project, "sft", "--config", "finetune.yaml", *given, base, *words)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


EXPORTS = {
    "no such quantizer": (("export.quantizer=bnb-nf5",), 4, "did you mean bnb-nf4"),
    "no such type": (("export.dtype=float8",), 4, "did you mean float32 or bfloat16"),
    "no device": (("--device", "mlx"), 4, "mlx_lm.fuse merges and exports"),
}


@pytest.mark.each_time(1)
@pytest.mark.parametrize("name", EXPORTS)
def test_exports_that_can_not_be(project: Path, name: str) -> None:
    """The message names the entry, and the exit code is the documented one."""
    words, code, said = EXPORTS[name]
    given = (f"tmp_path={project}/{name.replace(' ', '-')}", "model.path=toyworld://base")
    done = call(project, "finalize", "--config", "finalize.yaml", *given, *words)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.nightly
def test_a_dry_run_writes_nothing(project: Path) -> None:
    """It reads everything, and says what it would do."""
    given = (f"tmp_path={project}/dry", "data=data", "model.path=toyworld://base")
    done = call(project, "sft", "--config", "finetune.yaml", *given, "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing was trained or written" in done.stdout
    assert not (project / "dry").exists()
