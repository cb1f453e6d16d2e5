"""What `--require` may name."""

from __future__ import annotations

import pytest

from tunematrix.errors import BadInput, did_you_mean
from tunematrix.plugin.suite import Suite
from tunematrix.project import FOLDERS, read_configs


def refuse_unrequirable(suite: Suite) -> None:
    """Refuse a name behind `--require` that nothing can have.

    Raises:
        pytest.UsageError: it is neither an environment nor a backend, or the project can't be read.
    """
    required: list[str] = suite.config.getoption("tunematrix_require")
    if not required:
        return
    try:
        # Not the project, which has to choose an environment: a project's own tests need none.
        groups, environments = read_configs(
            suite.root, {key: suite.config.getini(key) for key in FOLDERS}
        )
    except BadInput as error:
        raise pytest.UsageError(str(error)) from None
    known = [*environments, *groups.axes["backend"]]
    for name in required:
        if name not in known:
            advice = did_you_mean(name, dict.fromkeys(known))
            raise pytest.UsageError(f"--require={name}: is no environment or backend; {advice}")
