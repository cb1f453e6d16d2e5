"""Brings the probe into a Python process whose PYTHONPATH begins with this folder.

Whoever has a sitecustomize of their own still gets it: Python imports the first one alone, so this
one runs the next.
"""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

_HERE = os.path.dirname(os.path.abspath(__file__))


def _bring_in() -> None:
    folder = os.environ.get("TUNEMATRIX_WATCH")
    if folder:
        try:
            import tunematrix_probe

            tunematrix_probe.start(folder)
        except Exception as error:
            sys.stderr.write(f"tunematrix: this process isn't watched: {error!r}\n")


def _run_the_next() -> None:
    others = [p for p in sys.path if os.path.abspath(p or os.curdir) != _HERE]
    # What follows sees the path as it would be without the probe; processes that it starts have
    # theirs from the environment.
    sys.path[:] = others
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


_bring_in()
_run_the_next()
