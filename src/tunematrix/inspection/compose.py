"""Hydra's own composition of one config folder, each file read once for all compositions.

`hydra.compose` costs 90 to 150 ms: it merges Hydra's own groups (launcher, sweeper, logging) each
time. Here the same functions of Hydra compose the user's part alone, a tenth of that. The parts
for Hydra itself are looked at where they stand: see `_without_hydra` and `hydra_problems`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tunematrix.errors import nearest
from tunematrix.inspection.defaults import circle, override_key, package_route, reachable
from tunematrix.inspection.failures import explain
from tunematrix.inspection.layout import Layout
from tunematrix.inspection.tree import HydraTree
from tunematrix.spec.problems import Problem, Route

MISSING = "???"
HYDRA = "hydra/"
QUOTE = "'"
_WORDS = frozenset({"nan", "inf", "null", "true", "false"})
"""Names that Hydra would read as another value."""


@dataclass(frozen=True)
class Part:
    """One file of a composition, in the order in which they are merged.

    Attributes:
        name: as Hydra knows it; package: the route that its keys are put under.
    """

    name: str
    package: Route


@dataclass(frozen=True)
class Composition:
    """What one config was composed to.

    Attributes:
        base: its primary config. overrides: as on a command line.
        config: the result; None where it couldn't be composed.
        hydra: what of it the user has written for Hydra itself, if anything.
        parts: its files. choices: the options that were chosen, by group.
        problems: why it couldn't be composed.
    """

    base: str
    overrides: tuple[str, ...] = ()
    config: DictConfig | None = None
    hydra: DictConfig | None = None
    parts: tuple[Part, ...] = ()
    choices: Mapping[str, str | None] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @property
    def label(self) -> str:
        """How it was composed, as a command line would say it."""
        return ", ".join((self.base, *self.overrides))


class Composer:
    """Composes the configs of one config folder.

    Args:
        tree: the folder.
    """

    def __init__(self, tree: HydraTree) -> None:
        self.tree = tree
        GlobalHydra.instance().clear()
        initialize_config_dir(str(tree.root), version_base="1.3", job_name="app")
        loader = GlobalHydra.instance().config_loader()
        assert isinstance(loader, ConfigLoaderImpl)
        self._loader = loader
        self._parser = OverridesParser.create()
        self._repository = _without_hydra(CachingConfigRepository(loader.repository))
        self._repositories: dict[str, CachingConfigRepository] = {}

    @cached_property
    def hydra_node(self) -> DictConfig:
        """Hydra's own part of a config, with its defaults; `${hydra:…}` is answered from it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = compose(overrides=[], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        node = config.hydra
        assert isinstance(node, DictConfig)
        OmegaConf.set_struct(node, False)
        return node

    def compose(self, base: str, overrides: Sequence[str] = ()) -> Composition:
        """Compose one primary config with overrides; what is wrong is in the result."""
        overrides = (*overrides,)
        origin = self._origin(base, overrides)
        if found := circle(self.tree, origin):
            return Composition(base, overrides, problems=(found,))
        chosen = [*overrides, *self._mandatory(base, overrides)]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self._compose(base, chosen, overrides)
        except (
            ConfigCompositionException,
            OmegaConfBaseException,
            yaml.YAMLError,
            ValueError,
            TypeError,
            AssertionError,
            AttributeError,
            RecursionError,
        ) as error:
            problems = tuple(explain(error, self.tree, origin, base))
            return Composition(base, overrides, problems=problems)

    def _compose(self, base: str, chosen: Sequence[str], overrides: tuple[str, ...]) -> Composition:
        repository = self._repository_of(base)
        defaults = create_defaults_list(
            repo=repository,
            config_name=base,
            overrides_list=self._parser.parse_overrides(list(chosen)),
            prepend_hydra=False,
            skip_missing=False,
        )
        config = self._loader._compose_config_from_defaults_list(
            defaults=defaults.defaults, repo=repository
        )
        own = config._content.get("hydra") if isinstance(config._content, dict) else None
        if isinstance(own, DictConfig) and isinstance(config._content, dict):
            # As Hydra does; its own values are there for those of the user that refer to them.
            merged = OmegaConf.merge(self.hydra_node, own)
            merged._set_parent(config)
            # Not by assignment: a structured config takes no further key.
            config._content["hydra"] = merged
        OmegaConf.set_struct(config, True)
        self._loader._apply_overrides_to_config(defaults.config_overrides, config)
        parts = tuple(
            Part(default.config_path, package_route(default.package))
            for default in defaults.defaults
            if default.config_path is not None
        )
        choices = dict(defaults.overrides.known_choices)
        return Composition(
            base, overrides, config, own if isinstance(own, DictConfig) else None, parts, choices
        )

    def _repository_of(self, base: str) -> CachingConfigRepository:
        """Return where files are looked for: a primary config may add folders of its own."""
        layout = self.tree.layouts.get(base)
        if layout is None or ("hydra", "searchpath") not in layout.lines:
            return self._repository
        if base not in self._repositories:
            repository = CachingConfigRepository(self._loader.repository)
            self._loader._process_config_searchpath(base, [], repository)
            self._repositories[base] = _without_hydra(repository)
        return self._repositories[base]

    def exists(self, name: str) -> bool:
        """Return whether Hydra knows a config of this name, a structured one perhaps."""
        return bool(self._repository.config_exists(name))

    def _origin(self, base: str, overrides: Sequence[str]) -> str:
        """Return the name of the file that a composition is made to look at."""
        for override in overrides:
            key, _, option = override.lstrip("+").partition("=")
            name = f"{key.partition('@')[0]}/{option.strip(QUOTE)}"
            if name in self.tree.layouts:
                return name
        return base

    def _mandatory(self, base: str, overrides: Sequence[str]) -> Iterator[str]:
        """Yield a choice for each group whose option the user has to name."""
        given = {override.lstrip("+").partition("=")[0] for override in overrides}
        origin = self._origin(base, overrides)
        for name, entry in reachable(self.tree, origin) if origin != base else ():
            if "override" in entry.words:
                given.add(override_key(name, entry))
        for name, entry in reachable(self.tree, base):
            key = override_key(name, entry)
            if entry.options == (MISSING,) and key not in given:
                options = self._repository.get_group_options(key.partition("@")[0])
                if options:
                    yield choice(key, options[0])

    def hydra_problems(self, name: str, layout: Layout) -> Iterator[Problem]:
        """Yield what is wrong with the entries that choose options of Hydra's own groups."""
        for entry in layout.defaults or ():
            if override_key(name, entry).startswith(HYDRA):
                for target in entry.targets(PurePosixPath(name).parent):
                    if MISSING not in target and "$" not in target and not self.exists(target):
                        group, _, option = target.rpartition("/")
                        known = self._repository.get_group_options(group)
                        close = nearest(option, known)
                        advice = (
                            f"did you mean {' or '.join(close)}?"
                            if close
                            else "install the plug-in that brings it"
                        )
                        text = f"Hydra has no {target} here; {advice}"
                        yield Problem(layout.path, entry.line, ("defaults",), text)

    def home(self, route: Route, parts: Sequence[Part]) -> tuple[Layout | None, Route]:
        """Return the file that gave a value, and the value's route in that file."""
        best: tuple[int, Layout | None, Route] = (-1, None, route)
        for part in reversed(parts):
            layout = self.tree.layouts.get(part.name)
            if layout is None or route[: len(part.package)] != part.package:
                continue
            rest = route[len(part.package) :]
            depth = len(rest)
            while depth and rest[:depth] not in layout.lines:
                depth -= 1
            if depth + len(part.package) > best[0] and (depth or not rest):
                best = (depth + len(part.package), layout, rest)
        return best[1], best[2]


def choice(key: str, option: str) -> str:
    """Return the override that chooses an option, whatever name that has: nan, 7b, a b."""
    is_plain = re.fullmatch(r"[A-Za-z_][\w./-]*", option) and option.lower() not in _WORDS
    return f"{key}={option}" if is_plain else f"{key}={QUOTE}{option}{QUOTE}"


def _without_hydra(repository: CachingConfigRepository) -> CachingConfigRepository:
    """Make a repository leave out the entries that choose options of Hydra's own groups.

    What they choose isn't merged here, and an override of something that isn't there is an error.
    """
    load = repository.delegate.load_config

    def load_config(config_path: str) -> Any:
        loaded = load(config_path=config_path)
        if loaded is not None and loaded.defaults_list:
            folder = PurePosixPath(config_path).parent
            loaded.defaults_list = [
                entry
                for entry in loaded.defaults_list
                if not _is_hydras(getattr(entry, "group", None) or "", folder)
            ]
        return loaded

    repository.delegate.load_config = load_config  # type: ignore[method-assign]
    return repository


def _is_hydras(group: str, folder: PurePosixPath) -> bool:
    """Return whether a group, as written in a file of a folder, is one of Hydra's own."""
    return str(folder / group).lstrip("/").startswith(HYDRA)
