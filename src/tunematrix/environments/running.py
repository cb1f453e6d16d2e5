"""How the suite is run in an environment: pytest's options, and variables of its process."""

from __future__ import annotations

# Unless the caller has set them, as in `HF_HUB_OFFLINE=0 nox -s cpu`.
OFFLINE = {
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_MODE": "disabled",
}
"""Variables that keep a run from asking the network."""

# The suite is run as it is anywhere, whatever the project wants for its own tests: no coverage, no
# plug-in that isn't installed here; hydra_pytest is one of fixtures that nobody waits for.
PYTEST = (
    "--override-ini=addopts=",
    "--override-ini=required_plugins=",
    "--override-ini=testpaths=",
    "-p",
    "no:hydra_pytest",
    "--live",
)
"""Options of pytest, before the caller's."""

ENDING = "TUNEMATRIX_ENDING"
"""Variable with a file that gets the code as a run's very last act; Nox looks for it there."""
LISTING = frozenset({
    "--collect-only", "--collectonly", "--co", "--fixtures", "--funcargs", "--fixtures-per-test",
    "--markers", "--help", "-h", "--version", "-V",
})  # fmt: skip
"""Options that ask pytest to tell something and run nothing."""
