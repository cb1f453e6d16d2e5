"""The page of all keys that an option file or cell.yaml can hold, made from the models.

`python -m tunematrix.configuration.reference docs/configuration.md` writes it.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import NullableSchema, WithDefaultSchema

from tunematrix.configuration.cell import Configuration
from tunematrix.configuration.declarations import Declarations
from tunematrix.configuration.options import OPTION_MODELS, AddedOption
from tunematrix.configuration.section import Section
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
_NAMES = {bool: "true or false", int: "whole number", float: "number", str: "text"}


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
    parts = [_HEAD, "## Keys that an option of any axis can have\n", _table(Declarations)]
    for axis, model in OPTION_MODELS.items():
        parts += [f"## {axis}\n", f"{model.__doc__}\n"]
        own = {n: f for n, f in model.model_fields.items() if n not in Declarations.model_fields}
        parts.append(_rows(_fields(own, "")) if own else "It has no keys of its own.\n")
    cell = yaml.safe_load((shipped_configs() / "cell.yaml").read_text(encoding="utf-8"))
    parts += ["## Sections of cell.yaml\n"]
    for name, field in Configuration.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section) and name not in OPTION_MODELS:
            rows = _shipped(_fields(section.model_fields, f"{name}."), cell)
            parts += [f"### {name}\n", f"{section.__doc__}\n", _rows(rows)]
    return "\n".join(parts)


def _table(model: type[BaseModel], prefix: str = "") -> str:
    return _rows(_fields(model.model_fields, prefix))


def _rows(rows: Iterator[tuple[str, str, str, str]]) -> str:
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{key}` | {kind} | {default} | {text} |" for key, kind, default, text in rows]
    return "\n".join(lines) + "\n"


def _fields(fields: Mapping[str, FieldInfo], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield key, kind, default and meaning of each field, sections with what they hold."""
    for name, field in fields.items():
        key = f"{prefix}{name}"
        meaning = (field.description or "").replace("|", "\\|")
        yield key, _kind(field.annotation, field.metadata), _default(field), meaning
        for section in _sections(field.annotation):
            yield from _fields(section.model_fields, f"{key}{_position(field.annotation)}.")


def _shipped(
    rows: Iterator[tuple[str, str, str, str]], cell: Mapping[str, Any]
) -> Iterator[tuple[str, str, str, str]]:
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


def _kind(annotation: object, metadata: list[Any]) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0], metadata)
    if origin is Literal:
        return " or ".join(f"`{value}`" if value else "nothing" for value in arguments)
    if origin in (Union, types.UnionType):
        kinds = [_kind(one, metadata) for one in arguments if one is not types.NoneType]
        return " or ".join(dict.fromkeys(kinds))
    if origin is tuple:
        return "list"
    if isinstance(annotation, type) and annotation in _NAMES:
        return _NAMES[annotation] + _least(metadata)
    return "section"


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
    return "–" if field.default in (None, "", (), {}) else f"`{field.default}`"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
