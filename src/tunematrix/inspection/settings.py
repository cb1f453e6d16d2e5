"""`[tool.tunematrix.inspect]` and `[tool.tunematrix.runners]` of a project's pyproject.toml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, Strict, ValidationError

from tunematrix.configuration.section import Names, NonEmpty, Section
from tunematrix.errors import BadInput
from tunematrix.paths import pyproject, tool_table
from tunematrix.spec.explain import findings
from tunematrix.spec.problems import Problem, Route, refuse

Model = TypeVar("Model", bound=Section)
Texts = Annotated[tuple[str, ...], Strict(False)]


class SampleInput(Section):
    """A tensor made for the forward pass."""

    shape: Annotated[tuple[int | str, ...], Strict(False)] = Field(
        min_length=1,
        description="Its dimensions, batch first; a text is the key of a config's value: "
        '[2, "model.dim"].',
    )
    dtype: NonEmpty = Field("float32", description="Its type, by torch's name, such as int64.")
    high: int = Field(
        2, ge=1, description="Whole numbers are drawn below this, such as a vocabulary's size."
    )


class InspectSettings(Section):
    """`[tool.tunematrix.inspect]`: how configs are checked."""

    roots: Names = Field(
        (),
        description="Config folders of Hydra, from the project's folder. Not needed where "
        "`@hydra.main` names them, or where a file in them has a defaults list.",
    )
    exclude: Names = Field((), description="Files that aren't checked: `conf/old/*.yaml`.")
    imports: Names = Field(
        (),
        description="Modules imported before anything is composed, since they register resolvers "
        "or structured configs. Those of the project that call `register_new_resolver` or "
        "`ConfigStore` are found.",
    )
    model: NonEmpty = Field("model", description="Key of the model, for the forward pass.")
    data: str = Field(
        "data",
        description="Key of the data module; its first batch is the model's input where `input` "
        "isn't given and the model has no `example_input_array`.",
    )
    input: SampleInput | None = Field(
        None, description="The model's input, where it isn't taken from the model or the data."
    )
    keeps: Literal["shape", "batch", "nothing"] = Field(
        "batch",
        description="What of the input's shape the output must have: all of it, its first "
        "dimension, or nothing.",
    )


class ScriptSettings(Section):
    """`[tool.tunematrix.runners.scripts.NAME]`: how one command line is called."""

    arguments: Texts | None = Field(
        None,
        description="Its arguments, in place of those that would be chosen; `{output_dir}` stands "
        "for the run's folder.",
    )
    output: str | None = Field(
        None,
        description="The folder that it must make, below `{output_dir}`; empty for a command that "
        "makes none.",
    )
    timeout: int | None = Field(None, ge=1, description="Seconds that it may take.")


class RunnerSettings(Section):
    """`[tool.tunematrix.runners]`: how the command lines of `[project.scripts]` are called."""

    overrides: Texts | None = Field(
        None,
        description="Overrides of every Hydra command line, in place of those that are chosen: "
        '["trainer.max_steps=2", "out={output_dir}"].',
    )
    variables: Mapping[str, str] = Field(
        default_factory=dict, description="Environment variables, beside those always set."
    )
    timeout: int = Field(120, ge=1, description="Seconds that a command line may take.")
    exclude: Names = Field((), description="Scripts that aren't called.")
    may_write: Names = Field(
        (),
        description="Files that a script may write in the project, outside of its run's folder: "
        "`data/cache/*`.",
    )
    scripts: Mapping[str, ScriptSettings] = Field(
        default_factory=dict, description="What is different for one script, by its name."
    )


def inspect_settings(root: Path) -> InspectSettings:
    """Return how a project wants its configs checked.

    Raises:
        BadInput: the table is wrong; the text lists all that is, with lines.
    """
    return _read(root, "inspect", InspectSettings)


def runner_settings(root: Path) -> RunnerSettings:
    """Return how a project wants its command lines called.

    Raises:
        BadInput: the table is wrong; the text lists all that is, with lines.
    """
    return _read(root, "runners", RunnerSettings)


def project_scripts(root: Path) -> dict[str, str]:
    """Return `[project.scripts]`, each name with its `module:function`.

    Raises:
        BadInput: pyproject.toml can't be read, or has no such table where it says it has.
    """
    scripts = pyproject(root).get("project", {}).get("scripts", {})
    if not isinstance(scripts, dict) or not all(isinstance(v, str) for v in scripts.values()):
        file = root / "pyproject.toml"
        text = 'expected texts; write name = "module:function"'
        refuse(
            [Problem(file, toml_line(file, ("project", "scripts")), ("project", "scripts"), text)]
        )
    return dict(scripts)


def _read(root: Path, name: str, model: type[Model]) -> Model:
    table = tool_table(root, "tunematrix").get(name, {})
    file, route = root / "pyproject.toml", ("tool", "tunematrix", name)
    if not isinstance(table, dict):
        raise BadInput(f"{file}: {'.'.join(route)} is not a table; write [{'.'.join(route)}]")
    try:
        return model.model_validate(table)
    except ValidationError as error:
        refuse(
            Problem(
                file, toml_line(file, (*route, *misfit.route)), (*route, *misfit.route), misfit.text
            )
            for misfit in findings(model, error)
        )
        raise


def toml_line(file: Path, route: Route) -> int:
    """Return the line of a key in a TOML file, or of the table that would hold it; 1 for none."""
    keys = [str(part) for part in route if isinstance(part, str)]
    table: list[str] = []
    best, line_of_best = 0, 1
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if header := re.match(r"\s*\[+([^\]]+)\]+", line):
            table = _parts(header[1])
            here = table
        elif key := re.match(r"\s*((?:[\w-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*[\w-]+)*)\s*=", line):
            here = [*table, *_parts(key[1])]
        else:
            continue
        if here == keys[: len(here)] and len(here) > best:
            best, line_of_best = len(here), number
    return line_of_best


def _parts(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.]+", dotted)]
