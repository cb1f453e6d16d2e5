"""The registry → the tables of docs/checks.md, a section for each group of checks.

`python -m tunematrix.report.checks_page docs/checks.md` writes them; `nox -s docs` does so too.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tunematrix.checks.registry import Check, Registry, registry
from tunematrix.report.verified import placed

PLACE = "checks"
"""Names the place in the page."""
SECTIONS: Mapping[str, tuple[str, str]] = {
    "process": (
        "How it ended",
        "Every cell is judged by these. A cell that fails `exit` is judged by no others.",
    ),
    "device": (
        "Where it computed",
        "Owed by every recipe that computes through one of tunematrix's engines.",
    ),
    "base": (
        "What was loaded",
        "Owed by every recipe that loads a base model, for training, generating or comparing.",
    ),
    "training": (
        "What training must prove",
        "Owed by every recipe that trains through one of tunematrix's engines. Some apply only to "
        "some cells: `ranks` if a launcher starts several processes, `merge` if the adapter is "
        "merged (`meters.merge: true`), `adapter_scale` if the method has an `alpha` and isn't "
        "DoRA, `adapter_dropout` if it has a `dropout`, `gap_closed` if the spec bounds it. With "
        "several processes, recomputed sums are taken over all of them; the other readings are "
        "the first process's.",
    ),
    "texts": (
        "What learning from texts must prove",
        "Owed by every recipe that learns from texts, in addition to `training`. `first_loss` and "
        "`step_losses` need `logging_steps: 1`, because a line that averages several steps shows "
        "no single loss. The losses are recomputed just before the trainer's own forward pass, "
        "from the same state of the random generators, so that dropout draws the same masks. A "
        "small model keeps its activations for this, even with checkpointing. In a model with "
        "more than two million trained elements, `gradient` reads some tensors only, and their "
        "scale in place of the norm.",
    ),
    "preferences": (
        "What preference training must prove",
        "Owed by every recipe that learns preferences, in addition to `training`. The two stories "
        "of a pair are equally likely by the grammar, and differ in their ending. Losses are "
        "recomputed by DPO's definition from the batches of the first three steps, the middle one "
        "and the last. The reference is a base that is loaded again after training. They need "
        "`logging_steps: 1`, because a line that averages several steps shows no single loss. "
        "Here `labels` reads pairs: the labels of the two rows must be the chosen and the "
        "rejected completion of one row of the data, each with its end token, after the same "
        "prompt.",
    ),
    "generation": (
        "What generating must prove",
        "Owed by every recipe that generates. Each prompt is the beginning of a story that the "
        "base model knows, and the grammar gives each text its exact probability. A top-k of 50, "
        "transformers' default, can't be told from no top-k, since the grammar never has more "
        "than ten words to choose from.",
    ),
    "pipeline": (
        "What the steps of a pipeline must prove",
        "Owed by the recipe of a pipeline, each of the steps that are in it. Answers of the step "
        "`generate` are compared on up to 16 prompts, the shortest, the longest and those between, "
        "and on their first 64 tokens. Tokens whose logits are nearly equal may change places. "
        "`step_kept`, `step_exported` and `step_settings` are of the step `finalize`; checks whose "
        "names begin with `server` or `served` of the step `serve`.",
    ),
    "parity": (
        "What an engine must agree with",
        "Owed by every recipe that compares an engine with recorded values. Gradient norms and "
        "losses are kept in the cell's record, so that machines can be compared.",
    ),
    "transfer": (
        "What another engine's adapter must give",
        "Owed by every recipe that loads adapters of both formats.",
    ),
    "log": (
        "What a trainer's log must show",
        "Owed by every recipe that logs steps. They read only the log. The spec sets the bounds. "
        "`trainer_log`, `loss_falls` and `learning_rate_logged` are of a trainer's command alone.",
    ),
    "files": (
        "Which files must be written",
        "`expected_files` is made if the spec names files. The others are of a trainer's command "
        "alone: `completion_perplexity` is made if the spec has `inference`.",
    ),
    "memory": (
        "Memory and speed",
        "Each is made if the spec bounds it; [specs.md](specs.md) has the fields. A figure of 0 "
        "bytes counts as missing evidence, since it would meet every maximum.",
    ),
    "watch": (
        "What training that is watched must prove",
        "Owed by every cell, and every command, that is [watched from the inside](watch.md): "
        "a spec says `watch: true`, a run of the suite `--watch`. They read what the probe wrote "
        "in each process, and no log and no setting. A check that can't be made gives no verdict; "
        "`watched` says why.",
    ),
}
"""Group to the heading of its section, and what stands above its table."""
WORDS = (
    "Each section has a table, then the details of each of its checks. *Finds* names the bugs "
    "that the check was written for, with a link if a real release had one; other bugs that break "
    "the claim are found as well. *Readings* are the events in the cell's `events.jsonl` that the "
    "check decides by."
)
"""What stands above all sections."""


def as_markdown(known: Registry) -> str:
    """Return an explanation of the columns, then a section for each group of checks."""
    return "\n\n".join([WORDS, *(_section(group, known) for group in SECTIONS)])


def _section(group: str, known: Registry) -> str:
    heading, about = SECTIONS[group]
    head = ["| check | passes if | readings | finds |", "|---|---|---|---|"]
    checks = known.in_group(group)
    table = [*head, *map(_row, checks)]
    details = [_details(check) for check in checks]
    return "\n".join([f"## {heading}", "", f"Group `{group}`. {about}", "", *table, "", *details])


def _row(check: Check) -> str:
    claim, _ = _paragraphs(check)
    readings = ", ".join(f"`{kind.__name__}`" for kind in check.reads) or "–"
    return f"| `{check.name}` | {claim} | {readings} | {check.bug} |"


def _details(check: Check) -> str:
    """Return a line of a list: what the check reads and when it fails."""
    _, details = _paragraphs(check)
    bound = f" The bound is the spec's `{check.bound_in}`." if check.bound_in else ""
    return f"- **{check.name}**: {details}{bound}"


def _paragraphs(check: Check) -> tuple[str, str]:
    """Return the first paragraph of a check's docstring, and the others, each on one line."""
    claim, _, details = check.claim.partition("\n\n")
    return " ".join(claim.split()), " ".join(details.split())


if __name__ == "__main__":
    page = Path(sys.argv[1])
    text = page.read_text(encoding="utf-8")
    page.write_text(placed(as_markdown(registry()), text, PLACE), encoding="utf-8")
