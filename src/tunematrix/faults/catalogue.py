"""What a fault says of itself, so that it can be listed, run and scored by its class."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from typing import Any, overload

from tunematrix.configuration import Configuration
from tunematrix.faults.patching import replaced

CLASSES = (
    "data",
    "labels",
    "tokenizer",
    "loss",
    "gradients",
    "accumulation",
    "optimizer",
    "scheduler",
    "precision",
    "adapter",
    "quantizer",
    "checkpoint",
    "resume",
    "distribution",
    "generation",
    "alignment",
    "memory",
    "process",
    "device",
    "logging",
    "configuration",
    "architecture",
)
"""Of what a fault can break; those from outside may name others."""

Fault = Callable[[Configuration], AbstractContextManager[None]]
Generator = Callable[[Configuration], Iterator[None]]
Replacement = Callable[..., Any]


@overload
def fault(
    fault_class: str, *, seen_by: tuple[str, ...] = (), fitted: bool = False, subtle: bool = False
) -> Callable[[Generator], Fault]: ...


@overload
def fault(
    fault_class: str,
    *,
    replaces: tuple[object, str],
    seen_by: tuple[str, ...] = (),
    fitted: bool = False,
    subtle: bool = False,
) -> Callable[[Replacement], Fault]: ...


def fault(
    fault_class: str,
    *,
    replaces: tuple[object, str] | None = None,
    seen_by: tuple[str, ...] = (),
    fitted: bool = False,
    subtle: bool = False,
) -> Callable[[Callable[..., Any]], Fault]:
    """Make a fault of a function.

    With `replaces`, the function stands in for one of a library. It is called with the original
    before the caller's own arguments; where it has a keyword-only `config` or `call`, it is given
    the cell's configuration, or the number of this call, counted from 1. Without `replaces`, it is
    a generator that sabotages before its `yield` and puts back after it.

    Args:
        fault_class: one of `CLASSES`.
        replaces: the class or module, and the name in it that the function stands in for.
        seen_by: the cells and relations to try it on, where those of its class can't see it; ids
            with `*` for the backend, as in `lora[*-lora-hqq-int4]`.
        fitted: whether a check was written or mended for it; such a fault shows that the check
            works, not what the suite would notice.
        subtle: whether what it changes is below 2 % of what it acts on.
    """

    def make(function: Callable[..., Any]) -> Fault:
        generator = function if replaces is None else _replacing(function, *replaces)
        planted: Fault = contextmanager(generator)
        vars(planted).update(fault_class=fault_class, seen_by=seen_by, fitted=fitted, subtle=subtle)
        return planted

    return make


def _replacing(function: Replacement, owner: object, name: str) -> Generator:
    """Return a generator that puts a function in the place of `owner.name`."""
    outer = inspect.signature(function, eval_str=False)
    _, *own = outer.parameters.values()
    keywords = {one.name for one in own if one.kind is one.KEYWORD_ONLY}
    asked = keywords & {"config", "call"}
    # Libraries choose what they pass by the signature of what they call.
    seen = outer.replace(parameters=[one for one in own if one.name not in asked])

    def plant(config: Configuration) -> Iterator[None]:
        calls = count(1)

        def wrap(original: Any) -> Any:
            def replacement(*args: Any, **kwargs: Any) -> Any:
                known = {"config": config, "call": next(calls)}
                given = {name: known[name] for name in asked}
                return function(original, *args, **kwargs, **given)

            vars(replacement)["__signature__"] = seen
            return replacement

        with replaced(owner, name, wrap):
            yield

    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(plant, attribute, getattr(function, attribute))
    return plant
