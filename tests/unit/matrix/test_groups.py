from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tunematrix.errors import BadInput
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.paths import shipped_configs

MakeRoot = Callable[..., Path]

CELL = "defaults:\n  - method: lora\n  - backend: cpu\n  - _self_\ntrain: {max_steps: 60}\n"
SMALL = {
    "cell.yaml": CELL,
    "method/lora.yaml": "name: lora\nrank: 8\n",
    "backend/cpu.yaml": "name: cpu\n",
}


def refused(roots: list[Path]) -> list[str]:
    """Return the lines with which config folders are refused."""
    with pytest.raises(BadInput) as caught:
        read_groups(roots)
    return str(caught.value).splitlines()[1:]


def test_shipped_groups(shipped: Groups) -> None:
    """What comes with the package is sound, and every option file is an option."""
    assert list(shipped.axes)[:2] == ["recipe", "model"]
    assert shipped.defaults["quantizer"] == "none"
    meters = shipped.plain["meters"]
    assert isinstance(meters, dict) and meters["held_out_rows"] == 64
    assert "defaults" not in shipped.plain
    root = shipped_configs()
    files = {path.relative_to(root).as_posix() for path in root.glob("*/*.yaml")}
    options = {option.file for axis in shipped.axes.values() for option in axis.values()}
    others = ("regressions/", "specs/", "tolerances/")
    assert options == {file for file in files if not file.startswith(others)}


def test_numbers_are_read_as_hydra_reads_them(shipped: Groups) -> None:
    """1e-8 is a number here as well, or its type would be compared wrongly."""
    assert shipped.axes["optimizer"]["adamw"].data["eps"] == 1e-8


def test_a_users_folder_adds_options_and_axes(make_root: MakeRoot) -> None:
    """A second folder adds an option to a known axis, and an axis with its default."""
    own = make_root(
        {
            "cell.yaml": "defaults:\n  - tracker: off-line\n",
            "tracker/off-line.yaml": "name: off-line\n",
            "method/mine.yaml": "name: mine\n",
        },
        "own",
    )
    groups = read_groups([shipped_configs(), own])
    assert groups.axes["method"]["mine"].path == own / "method" / "mine.yaml"
    assert "lora" in groups.axes["method"]
    assert groups.defaults["tracker"] == "off-line"
    assert groups.added == {"tracker"}


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        (
            "method/dora.yaml",
            "description: x\nname: dorra\n",
            "root/method/dora.yaml:2: name: is dorra, but the file is dora.yaml; make them equal",
        ),
        ("method/dora.yaml", "rank: 8\n", "root/method/dora.yaml:1: name: is missing; add it"),
        ("method/dora.yaml", "name: 3\n", "root/method/dora.yaml:1: name: expected text, got 3"),
        ("method/dora.yaml", "", "root/method/dora.yaml: is empty; write it or delete it"),
        ("method/dora.yaml", "name: [\n", "root/method/dora.yaml:2: is not YAML ("),
        (
            "method/dora.yaml",
            "name: dora\ndefaults: [lora]\n",
            "root/method/dora.yaml:2: defaults: is not supported in an option; write the values",
        ),
        (
            "method/dora.yaml",
            "name: dora\ncapabilities:\n  bakend: {cpu: true}\n",
            "root/method/dora.yaml:3: capabilities.bakend: is not an axis; did you mean backend?",
        ),
        (
            "method/dora.yaml",
            "name: dora\ncapabilities:\n  method: {lora: true}\n",
            "root/method/dora.yaml:3: capabilities.method: is the file's own axis; name another",
        ),
        (
            "method/dora.yaml",
            "name: dora\ncapabilities:\n  backend:\n    cpu: false\n",
            "root/method/dora.yaml:4: capabilities.backend.cpu: is neither true nor a no with a ",
        ),
        (
            "method/dora.yaml",
            "name: dora\ncapabilities:\n  backend:\n    cpu:\n",
            "root/method/dora.yaml:4: capabilities.backend.cpu: is neither true nor a no with a ",
        ),
        (
            "method/dora.yaml",
            "name: dora\ncapabilities:\n  backend:\n    cpu: {link: x}\n",
            "root/method/dora.yaml:4: capabilities.backend.cpu.reason: is missing; add it",
        ),
        (
            "method/dora.yaml",
            "name: dora\ncapabilities:\n  backend:\n    cpu: {reason: ''}\n",
            "root/method/dora.yaml:4: capabilities.backend.cpu.reason: expected some text, got ''",
        ),
        (
            "method/dora.yaml",
            "name: dora\ncapabilities:\n  backend:\n    cpu: {reason: r, rases: E}\n",
            "root/method/dora.yaml:4: capabilities.backend.cpu.rases: is not a known key; did you",
        ),
        (
            "method/dora.yaml",
            "name: dora\nunsupported:\n  - when: {bakend: cpu}\n    reason: r\n",
            "root/method/dora.yaml:3: unsupported[0].when.bakend: is not an axis; did you mean b",
        ),
        (
            "method/dora.yaml",
            "name: dora\nunsupported:\n  - when: {backend: cpu}\n",
            "root/method/dora.yaml:3: unsupported[0].reason: is missing; add it",
        ),
        (
            "method/dora.yaml",
            "name: dora\nunsupported:\n  - when: {}\n    reason: r\n",
            "root/method/dora.yaml:3: unsupported[0].when: expected 1 or more entries",
        ),
        (
            "methode/dora.yaml",
            "name: dora\n",
            "root/methode: is not the folder of an axis; did you mean method?",
        ),
        (
            "method/more/dora.yaml",
            "name: dora\n",
            "root/method/more/dora.yaml: is never read; options are method/NAME.yaml",
        ),
        (
            "method/dora.yml",
            "name: dora\n",
            "root/method/dora.yml: is never read; options are method/NAME.yaml",
        ),
    ],
)
def test_what_is_wrong_in_an_option(
    make_root: MakeRoot, file: str, text: str, expected: str
) -> None:
    """Each mistake in a config group is told with file, line and what to do."""
    (problem,) = refused([make_root(SMALL | {file: text})])
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: {}\n", "root/cell.yaml:1: defaults: is not a list; write `- axis: option`"),
        ("defaults: {a: b}\n", "root/cell.yaml:1: defaults: is not a list; write `- axis: option`"),
        ("defaults:\n  - lora\n", "root/cell.yaml:2: defaults[0]: is not `axis: option`; write it"),
        (
            CELL.replace("method: lora", "method: lor"),
            "root/cell.yaml:2: defaults[0].method: there is no file method/lor.yaml; did you mean ",
        ),
        (
            CELL.replace("  - _self_", "  - method: lora"),
            "root/cell.yaml:4: defaults[2].method: is an axis already; remove the entry",
        ),
    ],
)
def test_what_is_wrong_in_the_root_config(make_root: MakeRoot, text: str, expected: str) -> None:
    """A broken defaults list is told with its line."""
    (problem,) = refused([make_root(SMALL | {"cell.yaml": text})])
    assert problem.startswith(expected)


def test_what_is_wrong_in_a_users_folder(make_root: MakeRoot, tmp_path: Path) -> None:
    """A user's folder can't replace options, redefine axes or change plain values unseen."""
    first = make_root(SMALL)
    own = make_root({"method/lora.yaml": "name: lora\n"}, "own")
    assert refused([first, own]) == [
        "own/method/lora.yaml: is in root/method/lora.yaml already; rename yours"
    ]
    again = make_root({"cell.yaml": "defaults: [{method: lora}]\n"}, "again")
    assert refused([first, again]) == [
        "again/cell.yaml:1: defaults[0].method: is an axis already; remove the entry"
    ]
    plain = make_root({"cell.yaml": "defaults: []\ntrain: {max_steps: 1}\n"}, "plain")
    assert refused([first, plain]) == [
        "plain/cell.yaml:2: train: has no effect here; only defaults can add to a cell"
    ]
    assert refused([first, tmp_path / "absent"]) == [
        "absent: there is no such folder; check the path of the configs"
    ]


def test_folders_without_yaml_are_no_axes(make_root: MakeRoot) -> None:
    """Notes, caches and the folder of specs may lie beside the axes."""
    others = {"notes/read.md": "x", "method/read.md": "x", "specs/a.yaml": "test_id: a\n"}
    groups = read_groups([make_root(SMALL | others)])
    assert list(groups.axes) == ["method", "backend"]


def test_missing_root_config(make_root: MakeRoot) -> None:
    """A first folder without cell.yaml says so."""
    (problem,) = refused([make_root({"method/lora.yaml": "name: lora\n"})])
    assert problem.startswith("root/cell.yaml: can't be read (no such file or directory)")


def test_all_problems_at_once(make_root: MakeRoot) -> None:
    """Mistakes in several files are told together."""
    files = {"method/a.yaml": "name: b\n", "method/c.yaml": "x: 1\n", "method/d.yaml": "name: [\n"}
    assert len(refused([make_root(SMALL | files)])) == 3


def test_planning_imports_neither_hydra_nor_an_ml_library() -> None:
    """Whatever plans, lists or validates starts fast and works where no ML library is."""
    code = (
        "import sys, tunematrix.matrix.plan, tunematrix.matrix.compose, tunematrix.spec\n"
        "heavy = {'hydra', 'omegaconf', 'torch', 'transformers', 'numpy', 'mlx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
