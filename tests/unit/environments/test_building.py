from __future__ import annotations

import fcntl
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from tunematrix.environments.building import UNFINISHED, Order, one_at_a_time
from tunematrix.environments.locks import seal
from tunematrix.environments.origin import Origin
from tunematrix.environments.table import Environment, Variant
from tunematrix.errors import BadInput

HERE = "{}.{}".format(*sys.version_info[:2])
PYPROJECT = """
[project]
name = "tunematrix"
requires-python = ">=3.11"
dependencies = ["pluggy>=1"]
[project.optional-dependencies]
torch = ["torch>=2.10"]
"""
ROW = Environment(
    name="cpu",
    description="",
    backends=("cpu",),
    extras=("torch",),
    constraints="constraints/cpu.txt",
    torch_index="http://127.0.0.1:9/whl/cpu",
)


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    """A project with a lock, and the virtualenv of its environment, with nothing in it."""
    for name in ("PIP_FIND_LINKS", "PIP_NO_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    lock = tmp_path / "constraints" / "cpu.txt"
    lock.parent.mkdir()
    lock.with_suffix(".in").touch()
    head = seal(tmp_path, lock, ["torch"])
    lock.write_text(f"# {head}\nPluggy==1.6.0  # via mine\ntorch==2.13.0\n")
    virtualenv = tmp_path / ".nox" / "cpu"
    (virtualenv / "lib" / f"python{HERE}" / "site-packages").mkdir(parents=True)
    (virtualenv / "pyvenv.cfg").write_text("uv = 0.13.9\n")
    origin = Origin(tmp_path / "src" / "tunematrix")
    return Order(tmp_path, virtualenv, ("-e", ".[torch]"), (ROW,), origin=origin)


def variant(order: Order, name: Variant) -> Order:
    """The same virtualenv for a variant of the environment."""
    return replace(order, rows=(replace(ROW, name=f"cpu-{name}", variant=name),))


def inheriting(order: Order) -> Order:
    """The same virtualenv over the packages of the Python at work."""
    return replace(order, backend="virtualenv", inherits=True)


def written(order: Order) -> list[str]:
    """The constraints that were written for the installer."""
    return (order.virtualenv / "tunematrix-constraints.txt").read_text().splitlines()


def test_built_once(order: Order) -> None:
    """What is built is due again only when something that it is made of has changed."""
    assert order.state == ""
    order.prepare()
    assert order.state == UNFINISHED
    order.finish()
    assert replace(order).fingerprint == order.state
    (order.root / "constraints/cpu.in").touch()
    assert replace(order).fingerprint == order.state


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("constraints/cpu.txt", "torch==2.13.0", "torch==2.14.0"),
        ("pyproject.toml", "pluggy>=1", "pluggy>=2"),
        (".nox/cpu/pyvenv.cfg", "0.13.9", "0.14.0"),
    ],
)
def test_due_again(order: Order, file: str, old: str, new: str) -> None:
    """Each thing that it is made of counts by its text."""
    before = order.fingerprint
    (order.root / file).write_text((order.root / file).read_text().replace(old, new))
    assert replace(order).fingerprint != before


def test_each_way_of_building_is_its_own(order: Order) -> None:
    """Extras, variants, and an inheritance make another virtualenv of it."""
    ways = [
        order,
        replace(order, what=("-e", ".")),
        variant(order, "lowest"),
        variant(order, "latest"),
        inheriting(order),
    ]
    assert len({each.fingerprint for each in ways}) == len(ways)


@pytest.mark.parametrize(("name", "due"), [("locked", 1), ("lowest", 1), ("latest", 2)])
def test_what_is_newest_changes_by_itself(order: Order, name: Variant, due: int) -> None:
    """The latest versions are looked for again on another day, the others never."""
    days = [date(2026, 11, 22), date(2026, 11, 23)]
    assert len({replace(variant(order, name), today=day).fingerprint for day in days}) == due


def test_the_locks_pins_are_the_constraints(order: Order) -> None:
    """As they stand; PyTorch's own index is asked, and told to be out of reach."""
    installation = order.prepare()
    assert written(order) == ["Pluggy==1.6.0", "torch==2.13.0"]
    constraints = order.virtualenv / "tunematrix-constraints.txt"
    assert installation.options == (f"--constraint={constraints}",)
    assert "127.0.0.1:9/whl/cpu can't be reached" in installation.warnings[0]


def test_a_lock_made_from_a_virtualenv(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the build of PyTorch, which is looked for under that very name."""
    (order.root / "own.txt").write_text("torch==2.13.0+cpu\ntunematrix @ file:///gone.whl\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    own = replace(order, rows=(replace(ROW, constraints="own.txt"),))
    own.check()
    installation = own.prepare()
    assert written(own) == ["torch==2.13.0+cpu"]
    assert "no folder of wheels has torch 2.13.0+cpu, and" in installation.warnings[0]


def test_without_an_index(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of wheels stands alone, and both installers are told."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels")
    installation = order.prepare()
    assert installation.options[-1] == "--no-index"
    assert installation.variables["UV_FIND_LINKS"] == "/wheels"
    assert "--no-index forbids" in installation.warnings[0]


@pytest.mark.parametrize(
    ("name", "options"),
    [("lowest", ["--upgrade", "--resolution=lowest-direct"]), ("latest", ["--upgrade"])],
)
def test_variants_have_no_lock(order: Order, name: Variant, options: list[str]) -> None:
    """uv chooses; a lock that doesn't fit is none of their business."""
    (order.root / "constraints/cpu.txt").write_text("")
    variant(order, name).check()
    installation = variant(order, name).prepare()
    assert written(order) == []
    assert list(installation.options[1:]) == options


def test_an_inheritance(order: Order) -> None:
    """What the machine has and what fits loses its pin; the rest keeps it; nothing hides it."""
    order.prepare()
    order.finish()
    hiding = order.packages / "pluggy"
    hiding.mkdir()
    lock = order.root / "constraints/cpu.txt"
    lock.write_text(lock.read_text() + "no-such-thing==1.0\n")
    inheriting(order).prepare()
    assert "no-such-thing==1.0" in written(order)
    assert "Pluggy==1.6.0" not in written(order)  # pytest brought one
    assert not hiding.exists()
    lent = (order.packages / "tunematrix_inherited.pth").read_text()
    assert "site.addsitedir" in lent
    order.prepare()
    assert (order.packages / "tunematrix_inherited.pth").read_text() == ""


def test_an_inheritance_that_does_not_fit(order: Order) -> None:
    """What is required and isn't there is told, and the virtualenv stays unfinished."""
    file = order.root / "pyproject.toml"
    file.write_text(file.read_text().replace("torch>=2.10", "no-such-thing>=1"))
    inheriting(order).prepare()
    with pytest.raises(BadInput, match=r"tunematrix requires no-such-thing>=1, which is not inst"):
        inheriting(order).finish()
    assert order.state == UNFINISHED


def test_an_inheritance_that_fits_is_told(order: Order) -> None:
    """In one line, with versions; what nothing asks for isn't in it."""
    over = replace(inheriting(order), rows=())
    over.prepare()
    (line,) = over.finish()
    assert line.startswith(f"Inherited from {sys.prefix}: pluggy ")
    assert "pytest" not in line


def test_half_a_build_is_cleared_away(order: Order) -> None:
    """All packages but pip, files and folders and links alike; a whole build is left alone."""
    (order.packages / "half").mkdir()
    (order.packages / "half.py").touch()
    (order.packages / "linked").symlink_to(order.root)
    (order.packages / "pip").mkdir()
    (order.packages / "_virtualenv.py").touch()
    order.prepare()
    assert (order.packages / "half").exists()
    order.prepare()
    left = {path.name for path in order.packages.iterdir()}
    assert left == {"pip", "_virtualenv.py", "tunematrix_inherited.pth"}
    assert (order.root / "pyproject.toml").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": (replace(ROW, python=">=3.98,<3.99"),)}, "cpu needs Python >=3.98,<3.99: there"),
        (
            {"tools": "constraints/cpu.in"},
            "cpu.in was compiled from other requirements than pyproject.toml",
        ),
        ({"tools": "constraints/gone.txt"}, "gone.txt isn't there; run nox -s lock"),
        ({"tools": "own.txt"}, "own.txt isn't there; correct `constraints` in"),
        ({"inherits": True}, "with pip; remove -P and --default-venv-backend"),
        (
            {"rows": (replace(ROW, variant="lowest"),), "backend": "virtualenv"},
            "Only uv can choose the lowest versions: python -m pip install",
        ),
    ],
)
def test_what_cannot_be_built(order: Order, change: dict[str, object], said: str) -> None:
    """Each is refused before anything is installed, with what to do."""
    order.check()
    with pytest.raises(BadInput) as caught:
        replace(order, **change).check()  # type: ignore[arg-type]  # fields of several types
    assert said in str(caught.value)
    assert order.state == ""


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_one_at_a_time(tmp_path: Path) -> None:
    """Whoever comes second says so and waits, until the first has ended, be it killed."""
    virtualenv = tmp_path / "cpu"
    command = [sys.executable, "-c", HOLD, str(tmp_path / "cpu.lock")]
    said: list[str] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"

        def wait_and_kill(text: str) -> None:
            said.append(text)
            first.kill()

        with one_at_a_time(virtualenv, wait_and_kill):
            assert first.wait(10) == -9
    assert said == ["Another process is building cpu: waiting for it."]
    with (
        one_at_a_time(virtualenv, said.append),
        (tmp_path / "cpu.lock").open() as file,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert len(said) == 1
