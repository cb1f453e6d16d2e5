from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tunematrix.configuration import OPTION_MODELS, Declarations
from tunematrix.errors import BadInput
from tunematrix.matrix.capabilities import first_no
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.paths import shipped_configs

MakeRoot = Callable[..., Path]

SHIPPED_DEFAULTS = read_groups([shipped_configs()]).defaults

CELL = "defaults:\n  - tracker: quiet\n  - backend: cpu\n  - _self_\ntrain: {max_steps: 60}\n"
SMALL = {
    "cell.yaml": CELL,
    "tracker/quiet.yaml": "name: quiet\nlines: 8\n",
    "backend/cpu.yaml": "name: cpu\n",
}
"""Of two axes, the first of which has no model: its options may hold any key."""
METHOD = "trains_base: false\nlearning_rates: {adaptive: 0.01, plain: 1.0}\n"
"""What the model of methods asks for."""


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
    ("file", "text", "expected"),
    [
        (
            "tracker/loud.yaml",
            "description: x\nname: lout\n",
            "root/tracker/loud.yaml:2: name: is lout, but the file is loud.yaml; make them equal",
        ),
        ("tracker/loud.yaml", "lines: 8\n", "root/tracker/loud.yaml:1: name: is missing; add it"),
        ("tracker/loud.yaml", "name: 3\n", "root/tracker/loud.yaml:1: name: expected text, got 3"),
        ("tracker/loud.yaml", "", "root/tracker/loud.yaml: is empty; write it or delete it"),
        ("tracker/loud.yaml", "name: [\n", "root/tracker/loud.yaml:2: is not YAML ("),
        (
            "tracker/loud.yaml",
            "name: loud\ndefaults: [quiet]\n",
            "root/tracker/loud.yaml:2: defaults: is not supported in an option; write the values",
        ),
        (
            "tracker/loud.yaml",
            "name: loud\ncapabilities:\n  bakend: {cpu: true}\n",
            "root/tracker/loud.yaml:3: capabilities.bakend: is not an axis; did you mean backend?",
        ),
        (
            "tracker/loud.yaml",
            "name: loud\ncapabilities:\n  tracker: {quiet: true}\n",
            "root/tracker/loud.yaml:3: capabilities.tracker: is the file's own axis; name another",
        ),
        (
            "tracker/loud.yaml",
            "name: loud\ncapabilities:\n  backend:\n    cpu: false\n",
            "root/tracker/loud.yaml:4: capabilities.backend.cpu: expected true, or why it is unsu",
        ),
        (
            "tracker/loud.yaml",
            "name: loud\ncapabilities:\n  backend:\n    cpu:\n",
            "root/tracker/loud.yaml:4: capabilities.backend.cpu: expected true, or why it is unsu",
        ),
        (
            "tracker/loud.yaml",
            "name: loud\ncapabilities:\n  backend:\n    cpu: {link: x}\n",
            "root/tracker/loud.yaml:4: capabilities.backend.cpu.reason: is missing; add it",
        ),
        (
            "tracker/loud.yaml",
            "name: loud\ncapabilities:\n  backend:\n    cpu: {reason: ''}\n",
            "root/tracker/loud.yaml:4: capabilities.backend.cpu.reason: expected some text, got ''",
        ),
        (
            "tracker/loud.yaml",
            "name: loud\ncapabilities:\n  backend:\n    cpu: {reason: r, rases: E}\n",
            "root/tracker/loud.yaml:4: capabilities.backend.cpu.rases: is not a known key; did you",
        ),
        (
            "tracker/loud.yaml",
            "name: loud\nunsupported:\n  - when: {bakend: cpu}\n    reason: r\n",
            "root/tracker/loud.yaml:3: unsupported[0].when.bakend: is not an axis; did you mean b",
        ),
        (
            "tracker/loud.yaml",
            "name: loud\nunsupported:\n  - when: {step: dpp}\n    reason: r\n",
            "root/tracker/loud.yaml:3: unsupported[0].when.step: dpp is no step of a pipeline; did",
        ),
        (
            "tracker/loud.yaml",
            "name: loud\ncapabilities:\n  step: {dpo: true}\n",
            "root/tracker/loud.yaml:3: capabilities.step: is not an axis; it can be",
        ),
        (
            "tracker/loud.yaml",
            "name: loud\nunsupported:\n  - when: {backend: cpu}\n",
            "root/tracker/loud.yaml:3: unsupported[0].reason: is missing; add it",
        ),
        (
            "tracker/loud.yaml",
            "name: loud\nunsupported:\n  - when: {}\n    reason: r\n",
            "root/tracker/loud.yaml:3: unsupported[0].when: expected 1 or more entries",
        ),
        (
            "trackers/loud.yaml",
            "name: loud\n",
            "root/trackers: is not the folder of an axis; did you mean tracker?",
        ),
        (
            "tracker/more/loud.yaml",
            "name: loud\n",
            "root/tracker/more/loud.yaml: is never read; options are tracker/NAME.yaml",
        ),
        (
            "tracker/loud.yml",
            "name: loud\n",
            "root/tracker/loud.yml: is never read; options are tracker/NAME.yaml",
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


@pytest.mark.parametrize("axis", OPTION_MODELS)
def test_a_wrong_key_in_an_option_of_each_axis(make_root: MakeRoot, axis: str) -> None:
    """Told with its line and the nearest right name."""
    model, name = OPTION_MODELS[axis], SHIPPED_DEFAULTS[axis]
    right = [key for key in model.model_fields if key not in Declarations.model_fields]
    key = (right or ["implementation"])[-1]
    text = (shipped_configs() / axis / f"{name}.yaml").read_text(encoding="utf-8")
    text = text.replace(f"name: {name}\n", "name: mine\n", 1)
    own = make_root({f"{axis}/mine.yaml": f"{text.rstrip()}\n{key}s: 1\n"}, "own")
    (problem,) = refused([shipped_configs(), own])
    line = len(text.rstrip().splitlines()) + 1
    start = f"own/{axis}/mine.yaml:{line}: {key}s: is not a known key; did you mean "
    assert problem.startswith(start)
    assert key in problem.removeprefix(start)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        (
            "quantizer/mine.yaml",
            "name: mine\ntheory:\n  wieght_bits: 4\n",
            "3: theory.wieght_bits: is not a known key; did you mean weight_bits",
        ),
        (
            "quantizer/mine.yaml",
            "name: mine\ntheory:\n  rounding:\n    code: absmx\n    bits: 4\n",
            "4: theory.rounding.code: absmx is not one of its values; did you mean absmax?",
        ),
        (
            "method/mine.yaml",
            "name: mine\ntrains_base: false\nlearning_rates:\n  adaptiv: 1.0\n  plain: 1.0\n",
            "4: learning_rates.adaptiv: is not a known key; did you mean adaptive?",
        ),
        (
            "launcher/mine.yaml",
            "name: mine\nprocesses: two\n",
            "2: processes: expected a whole number, got 'two'; write it without quotes",
        ),
        (
            "backend/mine.yaml",
            "name: mine\nprepare:\n  cal: a:b\n  call: a:b\n",
            "3: prepare.cal: is not a known key; did you mean call?",
        ),
    ],
)
def test_what_a_section_of_an_option_may_hold(
    make_root: MakeRoot, file: str, text: str, expected: str
) -> None:
    """A wrong key or value is told wherever it stands."""
    own = make_root({file: text}, "own")
    assert f"own/{file}:{expected}" in "\n".join(refused([shipped_configs(), own]))


@pytest.mark.parametrize(
    ("section", "wrong", "right"),
    [
        ("train", "max_step", "max_steps"),
        ("dpo", "betta", "beta"),
        ("generate", "temprature", "temperature"),
        ("meters", "held_out_row", "held_out_rows"),
    ],
)
def test_a_wrong_key_in_a_section_of_the_cell(
    make_root: MakeRoot, section: str, wrong: str, right: str
) -> None:
    """What is no axis has a model as well."""
    cell = CELL.partition("train:")[0] + f"{section}:\n  {wrong}: 1\n"
    (problem,) = refused([make_root(SMALL | {"cell.yaml": cell})])
    assert problem.startswith(f"root/cell.yaml:6: {section}.{wrong}: is not a known key; did you")
    assert right in problem


def test_data_that_counts_otherwise_than_its_form(shipped: Groups, make_root: MakeRoot) -> None:
    """Trainers go by the columns, so that nothing would have come of it."""
    text = "name: mine\nform: prompt-completion\nloss_on: all\n"
    (problem,) = refused([*shipped.roots, make_root({"data/mine.yaml": text})])
    assert "data/mine.yaml:3: loss_on: of the form prompt-completion, completion counts" in problem


def test_a_key_that_is_given_twice(make_root: MakeRoot) -> None:
    """Neither of its values is taken."""
    text = "name: loud\nlines: 8\nlines: 16\n"
    assert refused([make_root(SMALL | {"tracker/loud.yaml": text})]) == [
        "root/tracker/loud.yaml:3: lines: is given twice, first in line 2; remove one"
    ]


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
