"""Dotted keys of a configuration, each with the field that stands behind it."""

from __future__ import annotations

from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from tunematrix.configuration.cell import Configuration


@cache
def field_at(key: str) -> FieldInfo | None:
    """Return the field behind a dotted key such as `train.max_steps`.

    None where nothing but the file knows the key: below `implementation`, on an added axis.
    """
    model: type[BaseModel] | None = Configuration
    field: FieldInfo | None = None
    for part in key.split("."):
        if model is None or part not in model.model_fields:
            return None
        field = model.model_fields[part]
        model = _section_of(field.annotation)
    return field


@cache
def adapter(key: str) -> TypeAdapter[Any] | None:
    """Return what validates a value of a dotted key; None as in `field_at`."""
    if (field := field_at(key)) is None:
        return None
    kind: Any = (
        Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    )
    return TypeAdapter(kind)


def _section_of(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (UnionType, Union):
        found = (_section_of(one) for one in get_args(annotation))
        return next((one for one in found if one is not None), None)
    return None
