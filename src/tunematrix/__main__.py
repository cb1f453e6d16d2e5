"""`python -m tunematrix`, and what `tunematrix` runs."""

from __future__ import annotations

import sys

from tunematrix.errors import ExitCode


def main() -> None:
    """Run a verb; whoever ends it while it is still being imported sees no traceback."""
    try:
        from tunematrix.cli import main as run
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
