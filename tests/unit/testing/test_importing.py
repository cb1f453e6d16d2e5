from __future__ import annotations

import subprocess
import sys

import pytest

from tunematrix.errors import BadInput
from tunematrix.testing import requires_backend

IMPORTS = """
import sys
import tunematrix.testing
print(sorted({"torch", "transformers", "mlx", "numpy"} & {name for name in sys.modules}))
"""


def test_importing_takes_no_ml_library() -> None:
    """A user's test module is collected where none is installed."""
    ended = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout == "[]\n"


def test_a_backend_that_is_none() -> None:
    """A typing error is no missing backend."""
    with pytest.raises(BadInput, match="'cuba' is not a backend; did you mean cuda"):
        requires_backend("cuba")
