"""What is known and seen to before anybody's conftest.py or plug-in of a project is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from tunematrix.errors import ExitCode
from tunematrix.report.saying import complain, safe


def begin(config: pytest.Config) -> None:
    """Take note of who has begun this run, and watch how the imports that follow end.

    pytest imports PYTEST_PLUGINS after its installed plug-ins, and conftest.py after those.
    """
    config.stash[_BEGUN_BY_XDIST] = "PYTEST_XDIST_WORKER" in os.environ
    if names_environment(config):
        watch_the_exit(config)
        config.add_cleanup(_see_to_the_end)


def is_worker(config: pytest.Config) -> bool:
    """Whether xdist has begun this run; a conftest.py can't say so of one that it hasn't."""
    return hasattr(config, "workerinput") and config.stash.get(_BEGUN_BY_XDIST, False)


def names_environment(config: pytest.Config) -> bool:
    """Whether the command line names one, also where pytest read no further than to a --help."""
    return any(str(one).startswith("--environment") for one in config.invocation_params.args)


def watch_the_exit(config: pytest.Config) -> None:
    """Let nobody end this process with 0 before its end.

    `os._exit` passes over everything, and another program in its place knows nothing of it.
    """
    if config.stash.get(_WATCHED, False):
        return
    config.stash[_WATCHED] = True
    leave, here = os._exit, os.getpid()

    def tell(call: str) -> None:
        if capture := config.pluginmanager.get_plugin("capturemanager"):
            capture.suspend_global_capture(in_=True)
        complain(f"{call} ended the run too early: it proves nothing")

    def guarded(status: int) -> NoReturn:
        if os.getpid() == here:
            tell(f"os._exit({status})")
            status = status or ExitCode.FAILED
        leave(status)

    def kept(name: str, replace: Callable[..., NoReturn]) -> Callable[..., NoReturn]:
        def guarded_call(*arguments: Any) -> NoReturn:
            if os.getpid() == here:
                tell(f"os.{name}")
                leave(ExitCode.FAILED)
            replace(*arguments)

        return guarded_call

    vars(os)["_exit"] = guarded
    vars(os).update({name: kept(name, getattr(os, name)) for name in ("execv", "execve")})


def _see_to_the_end() -> None:
    """Refuse `sys.exit()` of a plug-in that is imported, or in a hook that pytest doesn't guard.

    What pytest refuses as it reads the command line, it repeats: a credential, too.

    Raises:
        pytest.UsageError: it was called, with a code that would be taken for success.
    """
    end = sys.exc_info()[1]
    if isinstance(end, pytest.UsageError):
        end.args = tuple(safe(str(one)) for one in end.args)
    if isinstance(end, SystemExit) and not end.code:
        message = f"a plug-in ended Python (SystemExit: {end.code}) before the run had ended"
        raise pytest.UsageError(f"{message}: it proves nothing")


_BEGUN_BY_XDIST = pytest.StashKey[bool]()
_WATCHED = pytest.StashKey[bool]()
