"""Where an environment's cells run on this machine: one executor for all of its backends."""

from __future__ import annotations

from collections.abc import Callable

from tunematrix.environments.table import Environment
from tunematrix.matrix.groups import Groups
from tunematrix.run.local.executors import Choice, LocalExecutor


def executor_here(
    environment: Environment, groups: Groups, isolation: Choice, say: Callable[[str], None]
) -> LocalExecutor:
    """Return what runs the cells of an environment, not yet started.

    Args:
        environment: whose cells. groups: where its backends say what is imported once for all.
        isolation: how cells are kept apart. say: takes lines of progress.
    """
    backends = [groups.backend(name) for name in environment.backends]
    preload = tuple(dict.fromkeys(module for one in backends for module in one.preload))
    canaries = [one.canary for one in backends if one.canary]
    return LocalExecutor(isolation, preload, canaries, say=say)
