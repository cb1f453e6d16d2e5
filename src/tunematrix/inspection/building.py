"""Objects built from configs by Hydra's `instantiate`, and one forward pass of each model."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tunematrix.inspection.layout import TARGET
from tunematrix.inspection.targets import (
    MISSING,
    Lacking,
    TargetNode,
    fit,
    locate,
    place_of,
    target_nodes,
)
from tunematrix.spec.problems import Route, dotted

if TYPE_CHECKING:
    from tunematrix.inspection.examined import Examined
    from tunematrix.inspection.examiner import Examiner

FORWARD = "tunematrix.stack.forward:forward_problem"


class Builder:
    """Builds what configs name, each distinct thing once.

    Args:
        examiner: the whole.
    """

    def __init__(self, examiner: Examiner) -> None:
        self.examiner = examiner
        self._built: dict[str, tuple[str, str]] = {}

    def build(self, one: Examined) -> None:
        """Build the outermost objects of one config; add what went wrong to its report."""
        assert one.resolved is not None
        problems, notes = [], []
        for node in target_nodes(one.resolved.values):
            if not node.is_outermost:
                continue
            if reason := self._reason_not_to(node):
                notes.append(f"{dotted(node.route) or node.target} wasn't built: {reason}")
                continue
            route, text = self._build(one, node)
            if text:
                problems.append(one.place(route, text))
        if self.examiner.request.forward and not problems:
            route, text, note = self._forward(one)
            problems += [one.place(route, text)] if text else []
            notes += [note] if note else []
        mine = tuple(p for p in problems if one.is_own or p.file == one.report.file)
        report = one.report.with_problems(mine)
        one.report = type(report)(**{**vars(report), "notes": (*report.notes, *notes)})

    def _reason_not_to(self, node: TargetNode) -> str:
        """Return why an object can't be built from its config alone; empty where it can."""
        if _has_missing(node.values):
            return "it has values that aren't known yet"
        found, _ = locate(node.target, self.examiner.discovery.project)
        for misfit in fit(found, node):
            if isinstance(misfit, Lacking):
                return f"{', '.join(misfit.names)} come from code"
        return ""

    def _build(self, one: Examined, node: TargetNode) -> tuple[Route, str]:
        """Build one object; return the route and the text of what went wrong, or an empty text."""
        key = json.dumps(node.values, sort_keys=True, default=str)
        if key not in self._built:
            self._built[key] = self._try_to_build(one, node)
        where, text = self._built[key]
        below = next((n.route for n in target_nodes(node.values) if dotted(n.route) == where), ())
        return (*node.route, *below, TARGET), text

    def _try_to_build(self, one: Examined, node: TargetNode) -> tuple[str, str]:
        name = f"building {dotted(node.route) or node.target} of {one.report.file}"
        with self.examiner.attempt(name) as how:
            if how:
                return "", f"building {node.target} ended the process: {how}"
            return self._instantiate(node)

    def _instantiate(self, node: TargetNode) -> tuple[str, str]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                instantiate(OmegaConf.create(dict(node.values)))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - building runs code of the user's
            cause = error
            if isinstance(error, InstantiationException) and error.__cause__ is not None:
                cause = error.__cause__
            at = place_of(cause, self.examiner.discovery.project)
            what = " ".join(str(cause).split())
            where = _innermost(node, cause)
            return (
                where,
                f"building {node.target} failed at {at} with {type(cause).__name__}: {what}",
            )
        return "", ""

    def _forward(self, one: Examined) -> tuple[Route, str, str]:
        """Run a config's model once; return the route and text of what is wrong, and a note."""
        assert one.resolved is not None
        settings = self.examiner.discovery.settings
        values, route = one.resolved.values, tuple(settings.model.split("."))
        config = _at(values, route)
        if not isinstance(config, Mapping) or TARGET not in config:
            return route, "", f"no forward pass: {settings.model} names no model to build"
        if _has_missing(config):
            return route, "", "no forward pass: the model has values that aren't known yet"
        step = f"running the model of {one.report.file}"
        with self.examiner.attempt(step) as how:
            if how:
                return (*route, TARGET), f"the forward pass ended the process: {how}", ""
            return self._run_model(config, values, route)

    def _run_model(
        self, config: Mapping[str, Any], values: Any, route: Route
    ) -> tuple[Route, str, str]:
        settings = self.examiner.discovery.settings
        data = _at(values, tuple(settings.data.split("."))) if settings.data else None
        sample = None
        if settings.input is not None:
            sample = settings.input.model_dump(mode="json")
            shape = [_size(one, values) for one in sample["shape"]]
            if not all(isinstance(size, int) and size > 0 for size in shape):
                text = f"the input's shape {sample['shape']} comes to {shape}; name whole numbers"
                return route, text, ""
            sample["shape"] = shape

        def built(part: object) -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return (
                    instantiate(OmegaConf.create(dict(part))) if isinstance(part, Mapping) else None
                )

        try:
            outcome = resolve_name(FORWARD)(
                lambda: built(config), lambda: built(data), sample, settings.keeps
            )
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - the model's own code
            at = place_of(error, self.examiner.discovery.project)
            what = " ".join(str(error).split())
            text = f"the forward pass failed at {at} with {type(error).__name__}: {what}"
            return (*route, TARGET), text, ""
        problem, note = outcome
        return (*route, TARGET), problem, note


def _innermost(node: TargetNode, error: BaseException) -> str:
    """Return the entry below a node whose object could not be built, by its dotted route."""
    return getattr(error, "full_key", "") or ""


def _has_missing(values: Any) -> bool:
    if isinstance(values, Mapping):
        return any(_has_missing(value) for value in values.values())
    if isinstance(values, list):
        return any(_has_missing(value) for value in values)
    return bool(values == MISSING)


def _at(values: Any, route: Route) -> Any:
    for part in route:
        if isinstance(values, list) and str(part).isdigit():
            values = values[int(part)] if int(part) < len(values) else None
        else:
            values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _size(given: object, values: Any) -> object:
    """Return one of an input's sizes: as it is given, or what a dotted name leads to."""
    return _at(values, tuple(given.split("."))) if isinstance(given, str) else given
