from __future__ import annotations

import csv
import subprocess
import sys
import zipfile
from pathlib import Path

import packaging
import pytest

from tunematrix.environments.contents import contents, is_installable
from tunematrix.environments.origin import Origin
from tunematrix.environments.table import Environment, read_environments
from tunematrix.paths import project_root

ROOT = project_root(Path(__file__).parent)
CPU = read_environments(ROOT, [])["cpu"]


def test_a_checkout_is_installed_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Editable, so that what is changed in it counts at once; nothing is packed."""
    monkeypatch.chdir(tmp_path)
    assert Origin().checkout == ROOT
    assert Origin().arguments(["torch"], tmp_path) == ("-e", f"{ROOT}[torch]")
    assert list(tmp_path.iterdir()) == []
    assert any(text.startswith("torch>=") for text in Origin().requirements(["hqq"]))


PACK = """
import sys
from pathlib import Path
from tunematrix.environments.origin import Origin
origin = Origin()
print(origin.checkout, origin.public, origin.arguments(["torch", "hqq"], Path(sys.argv[1])))
print("\\n".join(origin.requirements(["hqq"])))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small wheel of tunematrix: its rooms that pack it, and the metadata of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    path = folder / "tunematrix-0.1.0-py3-none-any.whl"
    source = ROOT / "src" / "tunematrix"
    rooms = [*source.glob("*.py"), *source.glob("environments/*.py")]
    info = "tunematrix-0.1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for file in rooms:
            archive.write(file, file.relative_to(ROOT / "src"))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        required = [
            'hqq>=0.2.5; extra == "hqq"',
            'tunematrix[torch]; extra == "hqq"',
            'torch>=2.13; extra == "torch"',
            "rich>=14",
        ]
        lines = ["Metadata-Version: 2.1", "Name: tunematrix", "Version: 0.1.0"]
        text = "\n".join([*lines, *(f"Requires-Dist: {one}" for one in required), ""])
        archive.writestr(f"{info}/METADATA", text)
        archive.writestr(f"{info}/entry_points.txt", "[console_scripts]\n")
        names = [*archive.namelist(), f"{info}/RECORD"]
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in names))
    return path


def unpacked(wheel: Path, site: Path) -> Path:
    """Install a wheel as installers do, with a note of their own."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    info = site / "tunematrix-0.1.0.dist-info"
    (info / "INSTALLER").write_text("tests\n")
    (info / "direct_url.json").write_text('{"url": "file:///gone.whl", "archive_info": {}}')
    with (info / "RECORD").open("a") as record:
        record.write(f"{info.name}/INSTALLER,,\n{info.name}/direct_url.json,,\n")
        record.write("../../bin/tunematrix,,\ntunematrix/__pycache__/x.pyc,,\n")
    return site


def packed(site: Path, folder: Path) -> tuple[Path, list[str]]:
    """Let an installed tunematrix pack itself; return the wheel, and the lines that it says."""
    site.joinpath("packaging").symlink_to(Path(*packaging.__path__))
    code = f"import sys; sys.path[:0] = [{str(site)!r}]\n{PACK}"
    command = [sys.executable, "-I", "-c", code, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    (made,) = folder.glob("*/*.whl")
    return made, ended.stdout.splitlines()


def test_what_is_installed_is_packed_again(wheel: Path, tmp_path: Path) -> None:
    """File by file, though the wheel that it came from is gone; its list of files holds."""
    site = unpacked(wheel, tmp_path / "site")
    made, said = packed(site, tmp_path / "cache")
    assert said[0].startswith("None ('tunematrix==0.1.0', '/gone.whl')")
    assert f"tunematrix[torch,hqq] @ file://{made}" in said[0]
    assert said[1:] == ["rich>=14", "hqq>=0.2.5", "torch>=2.13"]
    with zipfile.ZipFile(wheel) as before, zipfile.ZipFile(made) as after:
        assert after.testzip() is None
        assert sorted(after.namelist()) == sorted(before.namelist())
        for name in after.namelist():
            assert name.endswith("/RECORD") or after.read(name) == before.read(name)
        rows = list(csv.reader(after.read("tunematrix-0.1.0.dist-info/RECORD").decode().split()))
    assert {row[0] for row in rows} == set(zipfile.ZipFile(made).namelist())


def test_another_content_is_another_wheel(wheel: Path, tmp_path: Path) -> None:
    """The same version with one line changed is never taken for it."""
    first = packed(unpacked(wheel, tmp_path / "one"), tmp_path / "a")[0]
    again = packed(unpacked(wheel, tmp_path / "two"), tmp_path / "b")[0]
    site = unpacked(wheel, tmp_path / "three")
    (site / "tunematrix" / "errors.py").open("a").write("# changed\n")
    changed = packed(site, tmp_path / "c")[0]
    assert first.parent.name == again.parent.name
    assert first.read_bytes() == again.read_bytes()
    assert changed.parent.name != first.parent.name
    assert changed.name == first.name


@pytest.mark.parametrize(
    ("files", "installable"),
    [
        ({}, False),
        ({"pyproject.toml": "[tool.ruff]\n"}, False),
        ({"pyproject.toml": '[project]\nname = "mine"\n'}, False),
        ({"pyproject.toml": "[build-system]\nrequires = []\n"}, True),
        ({"setup.py": ""}, True),
        ({"pyproject.toml": "[build-system]\n[tool.uv]\npackage = false\n"}, False),
    ],
)
def test_which_projects_are_installed(
    tmp_path: Path, files: dict[str, str], *, installable: bool
) -> None:
    """Those that say how they are built."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert is_installable(tmp_path) is installable


def test_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tunematrix with its extras, the project with its own, and what the row adds."""
    monkeypatch.chdir(tmp_path.parent)
    row = Environment(
        "pc",
        "",
        ("cpu",),
        extras=("torch",),
        packages=("lightning>=2.6", "-r more requirements.txt"),
        project_extras=("train",),
    )
    (tmp_path / "pyproject.toml").write_text("[build-system]\nrequires = []\n")
    found = contents(tmp_path, Origin(), [row], tmp_path)
    assert found[:4] == ("-e", f"{ROOT}[torch]", "-e", f"{tmp_path}[train]")
    assert found[4:] == ("lightning>=2.6", "-r", "more", "requirements.txt")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "m"\ndependencies = ["rich>=1"]\n')
    assert contents(tmp_path, Origin(), [row], tmp_path)[2:3] == ("rich>=1",)
    assert contents(ROOT, Origin(), [CPU], tmp_path)[2:] == ()
