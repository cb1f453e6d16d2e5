from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.matrix.two_axes import CELL, METHOD, SMALL, MakeRoot, refused

from tunematrix.matrix.capabilities import first_no
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.paths import shipped_configs


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
            "method/mine.yaml": f"name: mine\n{METHOD}",
        },
        "own",
    )
    groups = read_groups([shipped_configs(), own])
    assert groups.axes["method"]["mine"].path == own / "method" / "mine.yaml"
    assert "lora" in groups.axes["method"]
    assert groups.defaults["tracker"] == "off-line"
    assert groups.added == {"tracker"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: {}\n", "root/cell.yaml:1: defaults: is not a list; write `- axis: option`"),
        ("defaults: {a: b}\n", "root/cell.yaml:1: defaults: is not a list; write `- axis: option`"),
        (
            "defaults:\n  - quiet\n",
            "root/cell.yaml:2: defaults[0]: is not `axis: option`; write it",
        ),
        (
            CELL.replace("tracker: quiet", "tracker: quite"),
            "root/cell.yaml:2: defaults[0].tracker: there is no file tracker/quite.yaml; did you ",
        ),
        (
            CELL.replace("  - _self_", "  - tracker: quiet"),
            "root/cell.yaml:4: defaults[2].tracker: is an axis already; remove the entry",
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
    own = make_root({"tracker/quiet.yaml": "name: quiet\n"}, "own")
    assert refused([first, own]) == [
        "own/tracker/quiet.yaml: is in root/tracker/quiet.yaml already; rename yours"
    ]
    again = make_root({"cell.yaml": "defaults: [{tracker: quiet}]\n"}, "again")
    assert refused([first, again]) == [
        "again/cell.yaml:1: defaults[0].tracker: is an axis already; remove the entry"
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
    others = {"notes/read.md": "x", "tracker/read.md": "x", "specs/a.yaml": "test_id: a\n"}
    groups = read_groups([make_root(SMALL | others)])
    assert list(groups.axes) == ["tracker", "backend"]


def test_missing_root_config(make_root: MakeRoot) -> None:
    """A first folder without cell.yaml says so."""
    (problem,) = refused([make_root({"tracker/quiet.yaml": "name: quiet\n"})])
    assert problem.startswith("root/cell.yaml: can't be read (no such file or directory)")


def test_all_problems_at_once(make_root: MakeRoot) -> None:
    """Mistakes in several files are told together."""
    files = {
        "tracker/a.yaml": "name: b\n",
        "tracker/c.yaml": "x: 1\n",
        "tracker/d.yaml": "name: [\n",
    }
    assert len(refused([make_root(SMALL | files)])) == 3


def test_an_option_in_two_folders_of_a_users(make_root: MakeRoot) -> None:
    """It would depend on the order of the folders which one is meant."""
    same = {"method/mine.yaml": f"name: mine\n{METHOD}"}
    roots = [shipped_configs(), make_root(same, "one"), make_root(same, "two")]
    assert refused(roots) == [
        "two/method/mine.yaml: is in one/method/mine.yaml already; rename yours"
    ]


def test_planning_imports_neither_hydra_nor_an_ml_library() -> None:
    """Whatever plans, lists or validates starts fast and works where no ML library is."""
    code = (
        "import sys, tunematrix.matrix.plan, tunematrix.project, tunematrix.spec\n"
        "heavy = {'hydra', 'omegaconf', 'torch', 'transformers', 'numpy', 'mlx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_an_own_option_answers_for_those_that_can_not_know_it(make_root: MakeRoot) -> None:
    """hqq-int4 lists methods, and can't list this one; where it says nothing, the no stays."""
    answers = "capabilities: {quantizer: {none: true, hqq-int4: true, bnb-nf4: {reason: slow}}}\n"
    own = make_root({"method/mine.yaml": f"name: mine\n{METHOD}{answers}"})
    groups = read_groups([shipped_configs(), own])

    def refusal(quantizer: str) -> str | None:
        option = groups.axes["quantizer"][quantizer]
        found = first_no(option.file, option.declared, {**groups.defaults, "method": "mine"})
        return found.reason if found else None

    assert refusal("hqq-int4") is None
    assert refusal("bnb-nf4") == "slow"
    assert refusal("hqq-int8") == "method mine is not declared in quantizer/hqq-int8.yaml"
