from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tunematrix.errors import BadInput, NothingTested
from tunematrix.spec import find_specs, json_schema, load_specs
from tunematrix.spec.model import Spec

Load = Callable[[str], Spec]
ProblemsOf = Callable[[str], list[str]]

DOCUMENT_FORM = """\
test_id: my_new_project
project_dir: examples/my_category/my_project
config: my_config.yaml
dynamic_args:
  max_steps: 200
  save_strategy: "no"
loss:
  final_max: 8.0
  no_nan: true
stderr:
  forbidden_patterns:
    - "RuntimeError"
    - "CUDA error"
    - "Traceback"
  warn_patterns: []
expected_files:
  - trainer_logs.json
min_steps_logged: 2
timeout: 300
gpu_requirement: 1
markers:
  - integration
"""


def test_all_problems_of_all_files_at_once(tmp_path: Path) -> None:
    """One error lists everything: several problems of a file, and those of every file."""
    (tmp_path / "a.yaml").write_text("test_id: A\nrecipe: sft\ntimeout: 0\nlos: {}\n")
    (tmp_path / "b.yaml").write_text("test_id: b\n- broken\n")
    (tmp_path / "c.yaml").write_text("recipe: sft\nloss: {final_max: .nan, typo: 1}\n")
    with pytest.raises(BadInput) as caught:
        load_specs([tmp_path])
    first, *lines = str(caught.value).splitlines()
    assert first == "7 problems to correct:"
    assert [line.rpartition("; ")[0].partition(" (")[0] for line in lines] == [
        "a.yaml:1: test_id: expected text that matches ^[a-z0-9_-]+$, got 'A'",
        "a.yaml:3: timeout: expected more than 0, got 0",
        "a.yaml:4: los: is not a known key",
        "b.yaml:2: is not YAML",
        "c.yaml:1: test_id: is missing",
        "c.yaml:2: loss.final_max: expected a finite number, got nan",
        "c.yaml:2: loss.typo: is not a known key",
    ]


def test_a_good_file_does_not_hide_a_bad_one(tmp_path: Path) -> None:
    """Specs are loaded all or none."""
    (tmp_path / "a.yaml").write_text("test_id: a\nrecipe: sft\n")
    (tmp_path / "b.yaml").write_text("test_id: b\nrecipe: sft\ntimeout: x\n")
    with pytest.raises(BadInput, match=r"1 problem to correct:\nb\.yaml:3: timeout: "):
        load_specs([tmp_path])


def test_same_name_in_two_files(tmp_path: Path) -> None:
    """Two specs of one name would share their cells' ids; both places are named."""
    (tmp_path / "a.yaml").write_text("test_id: same\nrecipe: sft\n")
    (tmp_path / "b.yaml").write_text("recipe: sft\n\ntest_id: same\n")
    with pytest.raises(BadInput, match=r"b\.yaml:3: test_id: same is also .* a\.yaml:1; rename"):
        load_specs([tmp_path])


def test_same_name_is_found_beside_other_problems(tmp_path: Path) -> None:
    """A file that is wrong for another reason still counts as the other place."""
    (tmp_path / "a.yaml").write_text("test_id: same\nrecipe: sft\ntimeout: x\n")
    (tmp_path / "b.yaml").write_text("test_id: same\nrecipe: sft\n")
    with pytest.raises(BadInput, match=r"2 problems[^$]*test_id: same is also"):
        load_specs([tmp_path])


def test_a_path_given_twice_is_read_once(tmp_path: Path) -> None:
    """A folder and a file in it are no duplicate."""
    file = tmp_path / "a.yaml"
    file.write_text("test_id: a\nrecipe: sft\n")
    assert len(load_specs([file, tmp_path, file])) == 1


def test_specs_are_found_recursively(tmp_path: Path) -> None:
    """Every YAML file below the folder is a spec, in the order of paths."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.yaml", "a.yml", "deep/er/c.yaml", "deep/notes.md"):
        (tmp_path / name).write_text("x")
    names = [path.relative_to(tmp_path).as_posix() for path in find_specs(tmp_path)]
    assert names == ["a.yml", "b.yaml", "deep/er/c.yaml"]


def test_no_spec_is_an_error(tmp_path: Path) -> None:
    """Zero specs are never fine: an empty folder is named, with what to do."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingTested, match=r"^empty: holds no spec, .*; add a \.yaml file"):
        load_specs([tmp_path / "empty"])
    with pytest.raises(NothingTested, match="no spec was given"):
        load_specs([])
    with pytest.raises(BadInput, match=r"^absent: there is no such folder; check the path"):
        find_specs(tmp_path / "absent")


def test_folder_named_like_a_spec(tmp_path: Path) -> None:
    """A folder called x.yaml is a problem, not an empty spec and not a traceback."""
    (tmp_path / "x.yaml").mkdir()
    with pytest.raises(BadInput, match=r"x\.yaml: is a folder, not a file; rename it"):
        load_specs([tmp_path])


def test_missing_file(tmp_path: Path) -> None:
    """A file that isn't there is named with the reason."""
    with pytest.raises(BadInput, match=r"a\.yaml: can't be read \(no such file or directory\);"):
        load_specs([tmp_path / "a.yaml"])


def test_document_form_is_read_unchanged(tmp_path: Path) -> None:
    """With what it says, and the document's defaults."""
    (tmp_path / "spec.yaml").write_text(DOCUMENT_FORM)
    (spec,) = load_specs([tmp_path])
    assert spec.runs_command
    assert spec.dynamic_args["max_steps"] == 200
    assert (spec.gpu_requirement, spec.expected_files) == (1, ("trainer_logs.json",))


def test_document_form_is_validated_in_full(problems_of: ProblemsOf) -> None:
    """What is wrong in a spec of the known form is said, all of it."""
    broken = DOCUMENT_FORM.replace("max_steps: 200", "max_steps: [2]") + "typo: 1\n"
    routes = [line.split(": ")[1] for line in problems_of(broken)]
    assert routes == ["dynamic_args.max_steps", "typo"]


def test_document_form_can_be_described() -> None:
    """The model holds the known form, so that only the loader has to change one day."""
    spec = Spec(test_id="a", project_dir="p", config="c", dynamic_args={"max_steps": 3})
    assert spec.dynamic_args == {"max_steps": 3}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("test_id: a\n", ["spec.yaml:1: recipe: is missing; name what a run does (sft), or giv"]),
        (
            "test_id: a\nproject_dir: p\n",
            ["spec.yaml:1: config: is missing; a spec without a recipe runs a trainer"],
        ),
        (
            "test_id: a\nconfig: c\n",
            ["spec.yaml:1: project_dir: is missing; a spec without a recipe runs a trainer"],
        ),
        (
            "test_id: a\nrecipe: sft\nproject_dir: p\ndynamic_args: {}\n",
            [
                "spec.yaml:3: project_dir: belongs to the recipe command, and sft would ignore i",
                "spec.yaml:4: dynamic_args: belongs to the recipe command, and sft would ignore ",
            ],
        ),
        (
            "test_id: a\nrecipe: sft\ninference: {max_tokens: 5}\n",
            ["spec.yaml:3: inference: belongs to the recipe command, and sft would ignore it"],
        ),
        (
            "test_id: a\nrecipe: pipeline\ninference: {}\nsteps:\n  serve:\n"
            "    {model: {path: m}, inference: {}}\n",
            ["spec.yaml:3: inference: stands in the step serve as well; remove one of them"],
        ),
        (
            "test_id: a\nrecipe: pipeline\ninference: {}\nsteps:\n  generate:\n"
            "    {model: {path: m}, prompts: [p]}\n",
            ["spec.yaml:3: inference: needs a step that leaves a model to serve; add sft, dpo,"],
        ),
        (
            "test_id: a\nrecipe: sft\nfinalize: {quantize: int4}\n",
            ["spec.yaml:3: finalize: belongs to the recipe command, and sft would ignore it"],
        ),
        (
            "test_id: a\nrecipe: sft\ninference: {max_tokens: 0, promt: x}\n",
            [
                "spec.yaml:3: inference: belongs to the recipe command, and sft would ignore it",
                "spec.yaml:3: inference.max_tokens: expected more than 0, got 0; raise it",
                "spec.yaml:3: inference.promt: is not a known key; did you mean prompt?",
            ],
        ),
    ],
)
def test_forms(problems_of: ProblemsOf, text: str, expected: list[str]) -> None:
    """A spec is of one form, complete, and nothing in it is silently ignored."""
    found = problems_of(text)
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True))


def test_the_error_has_the_exit_code_of_bad_input(load: Load) -> None:
    """What is wrong in a spec ends the command line with the code for bad input."""
    with pytest.raises(BadInput) as caught:
        load("test_id: a\n")
    assert caught.value.exit_code == 4


def test_schema_describes_every_field() -> None:
    """Editors get each field's meaning, and the same refusals: unknown keys, null, no recipe."""
    schema = json_schema()
    assert set(schema["properties"]) == set(Spec.model_fields)
    sections = [schema, *schema["$defs"].values()]
    fields = [field for section in sections for field in section["properties"].values()]
    assert all(field["description"] for field in fields)
    open_ended = [one["title"] for one in sections if one["additionalProperties"] is not False]
    assert open_ended == ["Matrix"]  # whose keys are axes, which a project may add to
    assert "null" not in str(schema)
    assert {"required": ["recipe"]} in schema["anyOf"]
    assert schema["required"] == ["test_id"]
