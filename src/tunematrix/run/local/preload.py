"""Imported once by the fork server: imports what cells need, and reports how that went.

Imports only. One forward pass, or a touched GPU, would hang or break every cell forked later.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import time
from pathlib import Path

from tunematrix.run.local.process_tree import die_with_parent

MODULES = "TUNEMATRIX_PRELOAD"
REPORT = "TUNEMATRIX_PRELOAD_REPORT"


def _preload(modules: list[str], report: Path) -> None:
    """Imports the modules one by one; the report names the one that is under way."""
    seconds: dict[str, float] = {}
    failed: dict[str, str] = {}

    def write(importing: str | None) -> None:
        state = {"pid": os.getpid(), "seconds": seconds, "failed": failed, "importing": importing}
        draft = report.with_suffix(".draft")
        draft.write_text(json.dumps(state), encoding="utf-8")
        draft.replace(report)

    for module in modules:
        write(module)
        started = time.perf_counter()
        try:
            importlib.import_module(module)
        except BaseException as error:  # noqa: BLE001 - nothing may get past this line
            # The fork server would swallow an ImportError, and anything else would reach each
            # cell as an EOFError. The cell that needs the module raises it again.
            failed[module] = f"{type(error).__name__}: {error}"
        seconds[module] = time.perf_counter() - started
    # Spares each cell from walking through the imported objects, and from copying their pages.
    gc.freeze()
    write(None)


def _print_to(log: Path) -> None:
    """Keeps what libraries print while they are imported off the user's screen."""
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _main() -> None:
    """Preloads in a fork server of ours; does nothing elsewhere."""
    # Taken out, so that no process below tries again.
    modules, report = os.environ.pop(MODULES, None), os.environ.pop(REPORT, None)
    if modules is None or report is None:
        return
    # Until the fork server listens to its driver, a hanging import would outlive the driver,
    # and Ctrl-C would end up inside an import.
    die_with_parent()
    try:
        _print_to(Path(report).with_suffix(".log"))
    except FileNotFoundError:
        os._exit(1)  # its driver was interrupted meanwhile, and has taken the folder with it
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Its driver has blocked them, for as long as this began.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _preload(json.loads(modules), Path(report))
    signal.signal(signal.SIGINT, interrupt)
    die_with_parent(False)


_main()
