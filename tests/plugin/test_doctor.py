"""`tunematrix doctor` as a user runs it: quantizers that lie, hang, die and lack what they need."""

from __future__ import annotations

import json
import shutil
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tunematrix.paths import shipped_configs

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project

pytestmark = pytest.mark.slow

LIARS = Path(__file__).with_name("liars.py")
CPU = (shipped_configs() / "backend" / "cpu.yaml").read_text(encoding="utf-8")

PYPROJECT = """
[tool.pytest.ini_options]
tunematrix_configs = ["conf"]

[tool.tunematrix.environments.here]
description = "Whatever runs these tests"
backends = ["cpu", "asleep"]

[tool.tunematrix.environments.gpu]
description = "One NVIDIA GPU, as far as a tool can tell"
backends = ["cuda"]
host = {looking_for = "a GPU", command = ["nvidia-smi", "-L"], proof = "GPU 0"}

[tool.tunematrix.environments.away]
description = "Of a library that nobody has"
backends = ["away"]
requires = ["json", "no_such_library"]

[tool.tunematrix.environments.misspelt]
backends = ["awya"]

[tool.tunematrix.environments.nowhere]
description = "Another system"
backends = ["away"]
host = {looking_for = "Plan 9", advice = "buy one", machines = ["plan9 mips"]}
"""

THEORY = "theory: {weight_bits: 4, group_size: 64, group_bits: 32, logit_error: 0.4}\n"
HOME = "capabilities: {backend: {cpu: true, away: true}}\n"
QUANTIZERS = {
    "liar": f"implementation: {{_target_: liars.Liar}}\n{THEORY}",
    "hanging": f"implementation: {{_target_: liars.Hanging}}\n{THEORY}",
    "dying": f"implementation: {{_target_: liars.Dying}}\n{THEORY}",
    "deaf": "implementation: {_target_: liars.Deaf}\ntheory: {}\n",
    "uncompiled": "implementation: {_target_: liars.Liar}\ntheory: {}\n"
    "builds_with: {compiler: c++, tools: [no-such-ninja]}\n"
    "prepare: {call: 'liars:fail_to_compile', note: compiling for a minute}\n",
    "lacking": "requires: [no_such_library]\ninstall: pip install no-such-library\n",
    "refused": "capabilities: {backend: {cpu: {reason: it crashes, link: 'https://e.org'}}}\n",
}
NVIDIA_SMI = """#!/bin/sh
case "$1" in
    --query-gpu=name) echo "NVIDIA Example" ;;
    *) echo "GPU 0: NVIDIA Example (UUID: GPU-0)" ;;
esac
"""


@pytest.fixture(scope="module")
def hospital(new_project: NewProject) -> Project:
    """A project with quantizers that don't do what is declared, and a GPU that torch can't use."""
    project = new_project()
    project.write("pyproject.toml", PYPROJECT)
    shutil.copy(LIARS, project.root)
    for name, text in QUANTIZERS.items():
        home = (
            "" if "capabilities" in text else "capabilities: {backend: {cpu: true, away: true}}\n"
        )
        project.option("quantizer", name, text + home)
    asleep = CPU.replace("name: cpu", "name: asleep").replace("tunematrix.stack.backends.cpu.Cpu",
                                                              "liars.Asleep")  # fmt: skip
    project.write("conf/backend/asleep.yaml", asleep)
    project.option("backend", "away", "requires: [no_such_library]\ninstall: pip install away\n")
    tool = project.write("bin/nvidia-smi", NVIDIA_SMI)
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    return project


@pytest.fixture(scope="module")
def found(hospital: Project) -> dict[str, Any]:
    """What doctor found out about them, each in a process of its own."""
    chosen = [
        "--axis",
        "backend=cpu,cuda,asleep",
        "--axis",
        f"quantizer=none,{','.join(QUANTIZERS)}",
    ]
    command = [sys.executable, "-m", "tunematrix", "doctor", *chosen, "--timeout=10", "--json"]
    path = f"{hospital.root / 'bin'}:/usr/bin:/bin"
    run = hospital.run(command, PATH=path)
    assert run.code == 0, run.text
    # What is said of the progress stands behind it, on stderr.
    data: dict[str, Any] = json.JSONDecoder().raw_decode(run.text)[0]
    return data


def pair(found: dict[str, Any], quantizer: str, backend: str = "cpu") -> dict[str, Any]:
    """What was found of one quantizer on one backend."""
    (one,) = [
        each
        for each in found["quantizers"]
        if (each["quantizer"], each["backend"]) == (quantizer, backend)
    ]
    return dict(one)


def backend(found: dict[str, Any], name: str) -> dict[str, Any]:
    """What was found of one backend."""
    (one,) = [each for each in found["backends"] if each["name"] == name]
    return dict(one)


def test_what_is_honest_agrees(found: dict[str, Any], hospital: Project) -> None:
    """Beside all the others, with what it stored; nothing is kept of it."""
    honest = pair(found, "none")
    assert (honest["outcome"], honest["reason"], honest["evidence"]) == ("agrees", "", "")
    assert honest["bits_per_weight"] == 32
    assert honest["seconds"] > 0
    assert not list(hospital.root.glob(".tunematrix/doctor/runs/*/doctor-cpu-none-*"))


@pytest.mark.parametrize(
    ("quantizer", "reason"),
    [
        ("liar", "stores 32.000 bits per weight"),
        ("hanging", "ran past its 10 s"),
        ("dying", "killed from outside"),
        ("deaf", "no gradient"),
    ],
)
def test_what_does_not_do_as_declared_differs(
    found: dict[str, Any], hospital: Project, quantizer: str, reason: str
) -> None:
    """It says how, keeps its evidence, and takes nobody else down."""
    other = pair(found, quantizer)
    assert other["outcome"] == "differs"
    assert reason in other["reason"]
    assert other["seconds"] < 30
    assert (hospital.root / other["evidence"] / "stderr.log").is_file()


def test_what_can_not_be_compiled(found: dict[str, Any]) -> None:
    """The tool that is missing is named, with what installs it, and what the attempt said."""
    other = pair(found, "uncompiled")
    assert other["outcome"] == "differs"
    assert other["tools"]["no-such-ninja"] is None
    said = "it compiles with no-such-ninja, not found here; preparing uncompiled failed"
    assert other["reason"].startswith(said)
    assert other["reason"].endswith("RuntimeError: Ninja is required")
    assert "install" in other["fix"]


def test_what_is_not_tried(found: dict[str, Any]) -> None:
    """A missing library has its command, a declared no its reason and link."""
    lacking, refused = pair(found, "lacking"), pair(found, "refused")
    assert (lacking["outcome"], lacking["seconds"]) == ("unavailable", None)
    assert lacking["fix"] == "pip install no-such-library"
    assert (refused["outcome"], refused["seconds"]) == ("unsupported", None)
    assert (refused["reason"], refused["link"]) == ("it crashes", "https://e.org")


def test_a_backend_that_works(found: dict[str, Any]) -> None:
    """With the name of its device, its memory, and the dtypes it multiplies in."""
    cpu = backend(found, "cpu")
    assert (cpu["state"], cpu["missing"]) == ("works", [])
    assert "float32" in cpu["dtypes"]
    assert cpu["device"]["name"]
    assert cpu["device"]["memory_bytes"] > 1e8
    assert "torch" in cpu["versions"]


def test_a_backend_that_does_not(found: dict[str, Any], hospital: Project) -> None:
    """Its quantizers aren't tried, and say so."""
    asleep = backend(found, "asleep")
    assert (asleep["state"], "the device is asleep" in asleep["reason"]) == ("broken", True)
    assert (hospital.root / asleep["evidence"] / "events.jsonl").is_file()
    assert [each for each in found["quantizers"] if each["backend"] == "asleep"] == []


def test_a_gpu_that_torch_can_not_use(found: dict[str, Any]) -> None:
    """It is there, as its driver says; so it isn't missing, but the build of torch is wrong."""
    import torch

    cuda = backend(found, "cuda")
    assert cuda["state"] == "broken"
    assert "NVIDIA Example is there, and torch" in cuda["reason"]
    if torch.version.cuda is None:
        assert "was built without CUDA" in cuda["reason"]
        assert "--force-reinstall" in cuda["fix"]
    assert pair(found, "none", "cuda")["reason"] == "its backend is broken"


AWAY = ("--axis", "backend=away")


def test_nothing_is_imported_to_look_around(hospital: Project) -> None:
    """An environment that can't be had ends with 1, at once, and without any ML library."""
    code = (
        "import sys\nfrom tunematrix.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    print({'torch', 'transformers', 'numpy', 'mlx', 'hydra'} & set(sys.modules))"
    )
    run = hospital.run([sys.executable, "-c", code, "doctor", "--environment=away"])
    assert (run.code, "set()" in run.text) == (1, True), run.text
    assert "✗ away: doesn't fully work here" in run.text
    assert "requires no_such_library; install it with: nox -s away" in run.text
    assert "to do: pip install away" in run.text


def test_an_environment_of_another_machine(hospital: Project) -> None:
    """What was looked for, what was found, what to do; no library is asked for there."""
    run = hospital.tunematrix("doctor", "-e", "nowhere", "--json")
    assert run.code == 1, run.text
    data = json.JSONDecoder().raw_decode(run.text)[0]
    (environment,), away = data["environments"], backend(data, "away")
    assert (environment["possible"], away["state"]) == (False, "not here")
    assert environment["obstacle"]["looked_for"] == "Plan 9"
    assert environment["obstacle"]["to_do"] == "buy one"
    assert away["reason"].startswith("looked for: Plan 9; found: ")
    assert away["fix"] == "buy one"
    assert data["problems"][0] == "environment nowhere: this machine can't have it"


def test_wrong_names(hospital: Project) -> None:
    """Close ones are offered; a selection that leaves nothing isn't a clean bill of health."""
    run = hospital.tunematrix("doctor", "-e", "nowere")
    assert (run.code, "did you mean nowhere" in run.text) == (4, True), run.text
    run = hospital.tunematrix("doctor", "-e", "misspelt")
    assert (run.code, "no backend/awya.yaml; did you mean away" in run.text) == (4, True), run.text
    run = hospital.tunematrix("doctor", *AWAY, "--axis", "quantizer=refused")
    assert (run.code, "no pair of backend and quantizer" in run.text) == (5, True), run.text


@pytest.mark.nightly
def test_in_any_folder(tmp_path: Path, project: Project) -> None:
    """Without a project, the environments that come with tunematrix are there."""
    run = project.run(
        [sys.executable, "-m", "tunematrix", "doctor", "-e", "mlx", "--axis=quantizer=mlx-int4"],
        cwd=str(tmp_path),
    )
    assert "MLX alone, on the GPU of a Mac or on the CPU of a Linux machine" in run.text
    assert "The backend mlx" not in run.text
