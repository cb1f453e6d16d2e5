"""Looks into any process that trains with PyTorch, and changes nothing in it.

`start` waits until the process imports torch, if ever, and then looks on through PyTorch's own
hooks and around a few of its functions. What it sees goes to a file of the process's own in a
folder (`records` lists the lines). It never imports torch, and needs nothing but the standard
library and the torch that is there: Python 3.9, PyTorch 2.2 or later.
"""

from __future__ import annotations

import sys

from . import waiting

FOLDER = "TUNEMATRIX_WATCH"
"""The variable that names the folder to processes which are started with this one on their path."""


def start(folder: str) -> None:
    """Watch this process, and write to a file in `folder`/probe/: now, or once torch is imported.

    A second call changes nothing while the first one's watching goes on.
    """

    def arrived() -> None:
        try:
            from . import watching

            watching.begin(folder)
        except Exception as error:
            sys.stderr.write(f"tunematrix: this process isn't watched: {error!r}\n")

    if "torch" in sys.modules:
        arrived()
    else:
        waiting.call_after("torch", arrived)


def stop() -> None:
    """End the watching, write what is known at the end, and leave PyTorch as it was."""
    waiting.forget()
    if "torch" in sys.modules:
        from . import watching

        watching.end("stopped")
