"""Each mistake in an option, or in a section of the cell, is told with its file and line."""

from __future__ import annotations

import pytest
from tests.unit.matrix.two_axes import CELL, SMALL, MakeRoot, refused

from tunematrix.configuration import OPTION_MODELS, Declarations
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.paths import shipped_configs

SHIPPED_DEFAULTS = read_groups([shipped_configs()]).defaults


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
            "2: processes: expected a whole number, got 'two'; write it in digits",
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
