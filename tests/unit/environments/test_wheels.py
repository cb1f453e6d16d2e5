"""What is collected for a machine without a network, and what is made of it there."""

from __future__ import annotations

import ensurepip
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.environments import packing
from tests.unit.environments.packing import User

from tunematrix.environments import carried, prove_offline, stand_ins, wheels
from tunematrix.environments.inherited import found_in
from tunematrix.environments.wheels import Collection, Target, collect, read_have
from tunematrix.environments.yours import Yours
from tunematrix.errors import BadInput

PYTHON = "{}.{}".format(*sys.version_info)
HERE = f"{platform.machine().replace('arm64', 'aarch64')}-manylinux_2_28"
CLI = "import sys\n\n\ndef main():\n    print(sys.argv[1:])\n"
needs_uv = pytest.mark.skipif(not packing.has_uv(), reason="uv is not here; nox[uv] brings it")


@pytest.fixture
def order(user: User) -> Yours:
    """What a user who has torch and gamma 1.0 could prove with uv."""
    # Distributions of Linux have it in a folder of their own.
    elsewhere = sysconfig.get_config_var("WHEEL_PKG_DIR")
    there = Path(elsewhere or Path(ensurepip.__file__).parent / "_bundled")
    (bundled,) = there.glob("pip-*.whl")
    shutil.copy(bundled, user.folder / "wheels")
    found = user.order(user.python(("torch", "2.13.0+vendor.3"), ("gamma", "1.0")))
    (user.folder / "checkout/src/tunematrix/cli.py").write_text(CLI, encoding="utf-8")
    return found


def collected(user: User, order: Yours, **have: str) -> list[str]:
    """Collect wheels for a machine; their names and versions."""
    target = Target(PYTHON, HERE, have)
    found = collect(Collection(user.folder / "w", target, ("torch",), order.origin), print)
    return sorted("-".join(one.name.split("-")[:2]) for one in found)


@needs_uv
def test_without_a_network(
    user: User, order: Yours, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is there chooses the versions; no index and no uv is asked where they are used."""
    found = collected(user, order, torch="2.13.0+vendor.3", gamma="1.0")
    # gamma is for tunematrix's own process alone.
    assert found == ["alpha-1.0", "gamma-2.0", "pytest-9.0", "tunematrix-0.1.0"]
    before = user.files()
    offline = replace(order, wheels=user.folder / "w")
    with monkeypatch.context() as alone:
        alone.setattr("tunematrix.environments.uv.ask", None)
        ready = user.prepare(offline)
    assert found_in([str(offline.added)]) == {"alpha": "1.0", "pytest": "9.0"}
    code = "import alpha, gamma, pytest, tunematrix.cli; print(alpha.__version__, gamma.__file__)"
    variables = {k: v for k, v in {**os.environ, **ready.variables}.items() if v is not None}
    command = [str(ready.python), "-c", code]
    answer = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["1.0", str(next(Path(user.folder).rglob("venv/**/gamma.py")))]
    assert user.files() == before
    # The script goes on as the verb, with the arguments that it was given.
    script = user.folder / "w" / prove_offline.SCRIPT
    for said in ("Unpacking tunematrix", ""):
        ran = subprocess.run(
            [sys.executable, script, "-e", "cuda"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        told = ["prove", f"--wheels={user.folder / 'w'}", f"--python={sys.executable}"]
        assert ran.stdout.strip() == str([*told, "-e", "cuda"])
        assert ran.stderr.startswith(said) and bool(ran.stderr) == bool(said)
    # Whatever can't be resolved leaves the folder as it was.
    there = sorted((user.folder / "w").iterdir())
    with pytest.raises(BadInput, match=r"gamma==0\.1\+yours"):
        collected(user, order, torch="2.13.0", gamma="0.1")
    assert sorted((user.folder / "w").iterdir()) == there
    # Wheels for another set than this one: what doesn't fit is named.
    next((user.folder / "w").glob("alpha*")).unlink()
    with pytest.raises(BadInput, match="alpha>=1, which is not installed\n  Collect the wheels"):
        user.prepare(offline)


@needs_uv
def test_nothing_is_lost(user: User, order: Yours) -> None:
    """A folder of something else stays."""
    folder = user.folder / "w"
    folder.mkdir()
    (folder / "thesis.txt").touch()
    with pytest.raises(BadInput, match="not a folder of wheels that this command made"):
        collected(user, order, torch="2.13.0")
    assert (folder / "thesis.txt").exists()


def test_what_is_there(tmp_path: Path) -> None:
    """As pip prints it; anything else is named with its line."""
    file = tmp_path / "have.txt"
    file.write_text("# mine\nTorch==2.11.0+cu130\n\nruamel.yaml==1 # why\n", encoding="utf-8-sig")
    assert read_have(file) == {"torch": "2.11.0+cu130", "ruamel-yaml": "1"}
    for line in ("torch @ file:///torch.whl", "-e .", "torch>=2", "Package Version"):
        file.write_text(f"numpy==2.1\n{line}\n", encoding="utf-8")
        with pytest.raises(BadInput, match=r"have\.txt:2: is not NAME==VERSION: .*pip list"):
            read_have(file)
    with pytest.raises(BadInput, match="No such file"):
        read_have(tmp_path / "nothing.txt")


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("x86_64-manylinux_2_28", "manylinux_2_28_x86_64", "linux_x86_64"),
        ("aarch64-manylinux_2_17", "manylinux_2_17_aarch64", "linux_aarch64"),
        ("aarch64-apple-darwin", "macosx_14_0_arm64", "macosx_10_4_universal2"),
    ],
)
def test_platforms(name: str, first: str, last: str) -> None:
    """A newer system takes the wheels for older ones."""
    tags = Target("3.12", name, {}).platforms()
    assert tags[0] == first
    assert tags[-1].split("_")[0] == last.split("_")[0]


@pytest.mark.parametrize("name", ["linux", "win_amd64", "x86_64-manylinux2014", ""])
def test_no_platform(name: str) -> None:
    """The message lists those that there are."""
    with pytest.raises(BadInput, match="x86_64-manylinux_2_28"):
        Target("3.12", name, {}).platforms()


def test_compiled_here(tmp_path: Path) -> None:
    """A wheel that was built on the way fits any machine, or is refused by name."""
    tags = Target("3.12", "x86_64-manylinux_2_28", {}).platforms()
    for fits in ("a-1-py3-none-any.whl", "b-1-cp312-cp312-manylinux_2_17_x86_64.whl"):
        (tmp_path / fits).touch()
    wheels._check(tmp_path, tags)
    (tmp_path / "c-1-cp312-cp312-manylinux_2_35_x86_64.whl").touch()
    with pytest.raises(BadInput, match="c-1-cp312"):
        wheels._check(tmp_path, tags)


def test_unpacked_as_installed(tmp_path: Path) -> None:
    """Modules lie at the top, commands in bin and can be started, headers nowhere."""
    path = tmp_path / "tool-1-py3-none-any.whl"
    files = {
        "tool/code.py": 0o644,
        "tool/run": 0o755,
        "tool-1.data/scripts/tool": 0o644,
        "tool-1.data/platlib/tool/fast.so": 0o644,
        "tool-1.data/headers/tool.h": 0o644,
        "../../outside.py": 0o644,
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, mode in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, name)
    folder = tmp_path / "a" / "b"
    prove_offline.unpack(path, folder)
    there = {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()}
    assert there == {"tool/code.py", "tool/run", "bin/tool", "tool/fast.so", "outside.py"}
    started = {one for one in there if os.access(folder / one, os.X_OK)}
    assert started == {"tool/run", "bin/tool"}


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"python": "3.4", "platform": HERE}, "the wheels are for Python 3.4 on"),
        ({"python": PYTHON, "platform": "riscv64-linux"}, "on riscv64, and this is"),
        ({"python": PYTHON}, "copy the whole folder again"),
        (None, "copy the whole folder again"),
    ],
)
def test_another_machine(tmp_path: Path, about: dict[str, str] | None, words: str) -> None:
    """The script says so before it unpacks anything."""
    shutil.copy(prove_offline.__file__, tmp_path / "prove.py")
    if about is not None:
        (tmp_path / "wheels.json").write_text(json.dumps(about), encoding="utf-8")
    command = [sys.executable, "-I", str(tmp_path / "prove.py")]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (4, "")
    assert words in ran.stderr
    assert not (tmp_path / ".tunematrix").exists()


def test_a_damaged_folder(tmp_path: Path) -> None:
    """Half a wheel is told, with what to do; the next try begins anew."""
    shutil.copy(prove_offline.__file__, tmp_path / "prove.py")
    about = json.dumps({"python": PYTHON, "platform": HERE})
    (tmp_path / "wheels.json").write_text(about, encoding="utf-8")
    (tmp_path / "torn-1-py3-none-any.whl").write_bytes(b"PK")
    command = [sys.executable, "-I", str(tmp_path / "prove.py")]
    for _ in range(2):
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 6
        assert "copy the whole folder again" in ran.stderr


def test_no_wheels(tmp_path: Path) -> None:
    """A folder without any, or with a file that is none, is named."""
    with pytest.raises(BadInput, match="has no wheels"):
        carried.names(tmp_path)
    (tmp_path / "mine.whl").touch()
    with pytest.raises(BadInput, match="'mine'; remove that file"):
        carried.names(tmp_path)


def test_stand_ins(tmp_path: Path) -> None:
    """Each can't be taken for a release; versions of no standard have none."""
    have = {"torch": "2.11.0+cu130", "ruamel-yaml": "0.18", "odd": "2024b-conda"}
    folder, pins = stand_ins.write(have, tmp_path / "have")
    assert pins == ["torch==2.11.0+cu130.yours", "ruamel-yaml==0.18+yours"]
    # A wheel may be built on the way: never with an empty setuptools.
    chosen, built = (Path(one.partition("=")[2]) for one in stand_ins.limits(pins, tmp_path))
    assert chosen.read_text().splitlines() == pins
    assert built.read_text().splitlines() == [one.replace("==", "!=") for one in pins]
    assert found_in([str(one) for one in folder.iterdir()]) == {
        "torch": "2.11.0+cu130.yours",
        "ruamel-yaml": "0.18+yours",
    }


def test_the_script_needs_nothing() -> None:
    """The script that is copied imports nothing that the other machine may lack."""
    text = Path(prove_offline.__file__).read_text(encoding="utf-8")
    modules = {line.split()[1] for line in text.splitlines() if line.startswith(("import", "from"))}
    assert {one.partition(".")[0] for one in modules} <= {*sys.stdlib_module_names}
