"""The page of all keys that an option file or cell.yaml can hold, made from the models.

`python -m tunematrix.configuration.reference docs/configuration.md` writes it.
"""

from __future__ import annotations

import sys
import types
from collections import abc
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import NullableSchema, WithDefaultSchema

from tunematrix.configuration.cell import Configuration
from tunematrix.configuration.declarations import Declarations
from tunematrix.configuration.options import OPTION_MODELS, AddedOption
from tunematrix.configuration.section import Section
from tunematrix.configuration.steps import PipelineSteps
from tunematrix.paths import shipped_configs

_HEAD = """\
# Configuration, key by key

A cell is put together from one *option* of each axis (a file such as `configs/method/lora.yaml`)
and from the sections of `configs/cell.yaml`. A spec changes single keys in `overrides`, by their
dotted names: `train.max_steps: 60`. A key that isn't listed here is an error that names the file,
the line and the nearest right name; so is a value of another kind.

This page is made from the models that check those files; `nox -s docs` writes it, and
`tunematrix schema --axis quantizer` prints the same for editors.
"""
_STEPS = """\
## Configs of the pipeline's steps

These are the keys of the file that `--config` names, and of a step in a spec.
[pipeline.md](pipeline.md) has a config of each step.
"""
NAMES: Mapping[type, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
}
"""Types of values that aren't sections, as the page calls them."""
PLAIN = {"true or false", "whole number", "number", "text"}
"""Kinds of values that together are called plain."""
Row: TypeAlias = tuple[str, str, str, str]
"""Key, kind, default and meaning of a field."""


class SchemaWithoutNull(GenerateJsonSchema):
    """In a YAML file, optional keys are left out and never null."""

    def nullable_schema(self, schema: NullableSchema) -> JsonSchemaValue:
        """Return the schema of what may be left out."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        """Return the schema of what has a default, which isn't stated where it is none."""
        if schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


def option_schema(axis: str) -> dict[str, Any]:
    """Return the JSON schema of an axis's option files."""
    model = OPTION_MODELS.get(axis, AddedOption)
    schema = model.model_json_schema(schema_generator=SchemaWithoutNull)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def page() -> str:
    """Return the whole page as Markdown."""
    everywhere = table(rows_of(Declarations.model_fields))
    parts = [_HEAD, "## Keys that an option of any axis can have\n", everywhere]
    for axis, model in OPTION_MODELS.items():
        parts += [f"## {axis}\n", f"{model.__doc__}\n"]
        own = {n: f for n, f in model.model_fields.items() if n not in Declarations.model_fields}
        parts.append(table(rows_of(own)) if own else "It has no keys of its own.\n")
    cell = yaml.safe_load((shipped_configs() / "cell.yaml").read_text(encoding="utf-8"))
    parts += ["## Sections of cell.yaml\n"]
    for name, field in Configuration.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section) and name not in OPTION_MODELS:
            rows = _shipped(rows_of(section.model_fields, f"{name}."), cell)
            parts += [f"### {name}\n", f"{section.__doc__}\n", table(rows)]
    parts.append(_STEPS)
    for name in PipelineSteps.names():
        (step,) = _sections(PipelineSteps.model_fields[name].annotation)
        parts += [f"### {name}\n", f"{step.__doc__}\n", table(rows_of(step.model_fields))]
    return "\n".join(parts)


def table(rows: Iterable[Row], name: str = "key") -> str:
    """Return rows as a table of Markdown, whose first column is called `name`."""
    lines = [f"| {name} | value | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{key}` | {kind} | {default} | {text} |" for key, kind, default, text in rows]
    return "\n".join(lines) + "\n"


def rows_of(
    fields: Mapping[str, FieldInfo], prefix: str = "", closed: Mapping[type, str] = NAMES
) -> Iterator[Row]:
    """Yield a row for each field, and below it those of the section that it holds.

    Args:
        fields: of a model.
        prefix: begins the keys.
        closed: types that hold nothing that gets a row, each with its name.
    """
    for name, field in fields.items():
        key = f"{prefix}{name}"
        meaning = (field.description or "").replace("|", "\\|")
        yield key, _kind(field.annotation, field.metadata, closed), _default(field), meaning
        for section in _sections(field.annotation):
            if section not in closed:
                inner = f"{key}{_position(field.annotation)}."
                yield from rows_of(section.model_fields, inner, closed)


def _shipped(rows: Iterable[Row], cell: Mapping[str, Any]) -> Iterator[Row]:
    """Put the values of the shipped cell.yaml in the place of defaults."""
    for key, kind, _, meaning in rows:
        section, _, name = key.partition(".")
        value = cell[section][name]
        text = str(value).lower() if isinstance(value, bool) else str(value)
        yield key, kind, f"`{text}`", meaning


def _position(annotation: object) -> str:
    text = str(annotation)
    return "[]" if "tuple" in text else ".NAME" * text.count("Mapping")


def _sections(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections(argument)


def _kind(annotation: object, metadata: list[Any], names: Mapping[type, str]) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0], metadata, names)
    if origin is Literal:
        return " or ".join(f"`{value}`" if value else "nothing" for value in arguments)
    if origin in (Union, types.UnionType):
        kinds = [_kind(one, metadata, names) for one in arguments if one is not types.NoneType]
        if set(kinds) >= PLAIN:
            kinds = ["plain value", *(kind for kind in kinds if kind not in PLAIN)]
        return " or ".join(dict.fromkeys(kinds))
    if origin is tuple:
        return f"list of {_several(_kind(arguments[0], [], names))}"
    if origin is abc.Mapping and (held := _kind(arguments[1], [], names)) in {
        *PLAIN,
        "plain value",
    }:
        return f"section of {_several(held)}"
    if isinstance(annotation, type) and annotation in names:
        return names[annotation] + _least(metadata)
    return "section"


def _several(kind: str) -> str:
    return kind if kind.endswith("`") else f"{kind}s"


def _least(metadata: list[Any]) -> str:
    for bound in metadata:
        if (least := getattr(bound, "ge", None)) is not None:
            return f", at least {least:g}"
        if (above := getattr(bound, "gt", None)) is not None:
            return f", above {above:g}"
    return ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "–"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    if isinstance(field.default, tuple) and field.default:
        return f"`[{', '.join(map(str, field.default))}]`"
    return "–" if field.default in (None, "", (), {}) else f"`{field.default}`"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
