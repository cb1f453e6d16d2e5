"""Configs and command lines as pytest's items, where the project's settings ask for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tunematrix.errors import BadInput, TunematrixError
from tunematrix.inspection import ConfigReport, examine
from tunematrix.inspection.runners import Runner, find_runners, run_runner
from tunematrix.inspection.tree import config_files
from tunematrix.inspection.view import InspectionProgress
from tunematrix.paths import shown
from tunematrix.plugin.suite import KEY

CONFIGS = "tunematrix_check"
RUNNERS = "tunematrix_runners"


class Inspection:
    """What of a project is inspected in one pytest run.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.root = config.rootpath
        self.reports: dict[Path, ConfigReport] | None = None

    @cached_property
    def folders(self) -> tuple[Path, ...]:
        """The folders of configs that the project names."""
        names: list[str] = self.config.getini(CONFIGS)
        return tuple((self.root / name).resolve() for name in names)

    @cached_property
    def files(self) -> frozenset[Path]:
        """All configs below these folders.

        Raises:
            BadInput: a folder isn't there. NothingTested: it holds no config.
        """
        return frozenset(config_files(self.folders)) if self.folders else frozenset()

    @cached_property
    def pyproject(self) -> Path | None:
        """The file whose scripts are called; None where the project doesn't ask for that."""
        asked: bool = self.config.getini(RUNNERS)
        return (self.root / "pyproject.toml").resolve() if asked else None

    @property
    def paths(self) -> tuple[Path, ...]:
        """What a run that names no path collects beside the specs."""
        return (*self.folders, *([self.pyproject] if self.pyproject else []))

    def report(self, path: Path, session: pytest.Session) -> ConfigReport:
        """Return the report of one config; the first time, of all that were selected."""
        if self.reports is None or path not in self.reports:
            wanted = [item.path for item in session.items if isinstance(item, ConfigItem)]
            suite = self.config.stash[KEY]
            made = examine(
                [one.resolve() for one in wanted], progress=InspectionProgress(suite.say)
            )
            self.reports = {report.file: report for report in made}
        return self.reports[path]

    def mains(self) -> Iterator[ConfigReport]:
        """Yield the reports that no config file has: of `@hydra.main` without its config."""
        yield from (one for file, one in (self.reports or {}).items() if file not in self.files)


INSPECTION = pytest.StashKey[Inspection]()


def add_settings(parser: pytest.Parser) -> None:
    """Add the ini keys."""
    parser.addini(
        CONFIGS, "folders with configs, each checked as an item", type="linelist", default=[]
    )
    text = "whether the command lines of [project.scripts] are called as items"
    parser.addini(RUNNERS, text, type="bool", default=False)


def begin(config: pytest.Config) -> None:
    """Get ready; a run that names no path collects configs and command lines as well."""
    inspection = config.stash[INSPECTION] = Inspection(config)
    arguments = config.stash[KEY].arguments
    arguments.inspected = inspection.paths
    if arguments.names_no_path:
        there = [Path(config.rootpath, text.partition("::")[0]).resolve() for text in config.args]
        config.args += [
            str(path)
            for path in inspection.paths
            if not any(path.is_relative_to(one) for one in there)
        ]
    try:
        _ = inspection.files
    except BadInput as error:
        raise pytest.UsageError(f"{CONFIGS}: {error}") from None
    except TunematrixError as error:
        pytest.exit(f"{CONFIGS}: {error}", returncode=error.exit_code)


def collect(path: Path, parent: pytest.Collector) -> pytest.File | None:
    """Take a config of the configured folders, or the project's pyproject.toml."""
    inspection = parent.config.stash[INSPECTION]
    resolved = path.resolve()
    if resolved in inspection.files:
        return ConfigModule.from_parent(parent, path=path)
    if resolved == inspection.pyproject:
        return RunnerModule.from_parent(parent, path=path)
    return None


class Faulty(Exception):
    """Ends an item with faults; its text is the whole report.

    Attributes:
        file, line: where to begin.
    """

    def __init__(self, text: str, file: Path, line: int | None) -> None:
        super().__init__(text)
        self.file = file
        self.line = line


class InspectedItem(pytest.Item):
    """An item that fails at a file and a line of the user's."""

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show what is wrong, not where in pytest it was raised."""
        if not isinstance(excinfo.value, Faulty | TunematrixError):
            return super().repr_failure(excinfo, style)
        shown_error = excinfo.getrepr(style="value")
        if shown_error.reprcrash is not None and isinstance(excinfo.value, Faulty):
            crash, error = shown_error.reprcrash, excinfo.value
            crash.path, crash.lineno = str(error.file), error.line or 1
            crash.message = str(error).partition("\n")[0]
        return shown_error

    def reportinfo(self) -> tuple[Path, int, str]:
        """Point to the file, whose name is the title of what is wrong in it."""
        return self.path, 0, shown(self.path)


class ConfigModule(pytest.File):
    """One config file."""

    def collect(self) -> Iterator[ConfigItem]:
        """Yield its item."""
        yield ConfigItem.from_parent(self, name="config")


class ConfigItem(InspectedItem):
    """The check of one config."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_marker("config")

    def runtest(self) -> None:
        """Fail with all faults of the config."""
        inspection = self.config.stash[INSPECTION]
        report = inspection.report(self.path.resolve(), self.session)
        # What no config file holds is said with the first one.
        others = [p for one in inspection.mains() for p in one.problems]
        problems = [*report.problems, *(p for p in others if p not in report.problems)]
        if problems:
            lines = "\n".join(map(str, problems))
            composed = f"\ncomposed as: {report.composed}" if report.composed else ""
            again = f"\nagain: tunematrix check {shown(self.path)}"
            first = problems[0]
            raise Faulty(lines + composed + again, first.file or self.path, first.line)
        if report.unchecked:
            raise Faulty(f"not composed: {report.unchecked}", self.path, 1)


class RunnerModule(pytest.File):
    """The project's pyproject.toml, with its scripts."""

    def collect(self) -> Iterator[RunnerItem]:
        """Yield an item for each script."""
        try:
            found: Mapping[str, Runner] = {one.name: one for one in find_runners(self.path.parent)}
        except BadInput as error:
            raise self.CollectError(str(error)) from None
        if not found:
            message = (
                f"{RUNNERS}: {shown(self.path)} has no [project.scripts] that could be called; "
                f"add one, or remove {RUNNERS}"
            )
            raise self.CollectError(message)
        for name, runner in found.items():
            yield RunnerItem.from_parent(self, name=name, runner=runner)


class RunnerItem(InspectedItem):
    """The call of one script."""

    def __init__(self, *, runner: Runner, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.runner = runner
        for marker in ("runner", "integration", "slow"):
            self.add_marker(marker)

    def runtest(self) -> None:
        """Fail with all that is wrong with how the script ended."""
        folder = self.config.stash[KEY].project.folder / "runners" / self.name
        report = run_runner(self.runner, folder)
        if report.problems:
            first = report.problems[0]
            raise Faulty(str(report), first.file or self.path, first.line)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Point to the script's entry."""
        return self.path, self.runner.line - 1, self.name
