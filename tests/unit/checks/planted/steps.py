"""Faults planted in honest evidence: the batches, losses and steps of a training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tunematrix.evidence.events import (
    Continuity,
    Coverage,
    Evaluation,
    EvaluationPasses,
    LoggedEvaluation,
    LoggedStep,
    MicroBatch,
    OptimizerStep,
    Parity,
)

if TYPE_CHECKING:
    from tests.unit.checks.planted.table import Table

PLANTED: Table = {
    "labels": (
        lambda run: run.edited(MicroBatch, 0, faithful=0, wrong={"cut": 2}),
        0.75,
        "1",
        "in 75% of 8 rows the loss counts exactly the right tokens (all) and the end token; of the "
        "others, 2 are cut: they are part of a row of the data (truncation, or",
    ),
    "micro_batches": (
        lambda run: run.recording(*run.evidence.all(MicroBatch)[1:]),
        "1, 2 per step",
        "2 per step, each of 2 rows",
        "steps with [1] micro-batches, micro-batches of []; accumulation",
    ),
    "coverage": (
        lambda run: run.edited(Coverage, uneven=3),
        3,
        "0",
        "3 rows were seen too often or too seldom, 5% were followed by the next one of the data",
    ),
    "row_order": (
        lambda run: run.edited(Coverage, strayed=7),
        7,
        "0",
        "7 rows came where seed 0 has others (16 rows seen, of 20); likely rows that were filtered",
    ),
    "first_loss": (
        lambda run: run.edited(LoggedStep, 0, loss=4.6500001),
        0.07,
        "<= 2e-05",
        "logged 4.65, its batch's cross-entropy is 5 over 34 tokens; likely a wrong divisor",
    ),
    "step_losses": (
        lambda run: run.edited(LoggedStep, 1, loss=3.92000002),
        0.02,
        "<= 2e-05",
        "step 1 logged 3.92, its batches' cross-entropy is 4 over 34 tokens; likely a loss of",
    ),
    "finite_loss": (
        lambda run: run.edited(LoggedStep, 2, loss=math.nan),
        1,
        "0",
        "step 3 logged nan; likely an overflow",
    ),
    "first_logged_loss": (
        lambda run: run.edited(LoggedStep, 0, loss=11.3),
        11.3,
        "4 to 6",
        "step 1 logged 11.3 nats per token; likely a base that loaded as something else",
    ),
    "final_loss": (
        lambda run: run.edited(LoggedStep, 3, loss=4.9),
        4.9,
        "1 to 3",
        "step 4 logged 4.9 nats per token; likely too few steps",
    ),
    "steps_logged": (
        lambda run: run.recording(*run.evidence.all(LoggedStep)[:3]),
        3,
        ">= 4",
        "training was to log every 1 of 4 steps and didn't after 4; it ended early",
    ),
    "learning_rate": (
        lambda run: run.edited(OptimizerStep, 2, learning_rates=(0.01, 0.004)),
        0.006,
        "<= 1e-08, in each of 4 steps",
        "step 2 used 0.004, constant from 0.01 with 0 warm-up steps asks for 0.01; "
        "the scheduler was ignored",
    ),
    "logged_rate": (
        lambda run: run.edited(LoggedStep, 1, learning_rate=0.02),
        0.01,
        "<= 1e-08",
        "which isn't its own",
    ),
    "clipping": (
        lambda run: run.edited(OptimizerStep, 0, gradient_norm=3.0),
        3.0,
        "1 within 0.01%",
        "step 0 gave the optimizer a gradient of norm 3 where 1 was due under a limit of 1; "
        "clipping was ignored",
    ),
    "gradient": (
        lambda run: run.edited(OptimizerStep, 1, gradient_error=0.15),
        0.15,
        "<= 0.0001",
        "of step 1 differ from those of its loss by 15% of the largest; micro-batches were lost",
    ),
    "optimizer_update": (
        lambda run: run.edited(OptimizerStep, 1, deviation=0.39),
        0.39,
        "<= 0.0005",
        "differ from adamw's formula by 39.00% of the largest; another optimizer ran",
    ),
    "moved_share": (
        lambda run: run.edited(OptimizerStep, 1, moved=0.03),
        0.03,
        ">= 0.5",
        "3.0% of the elements with a gradient moved in the worst of 2 steps; the rest was rounded",
    ),
    "continuity": (
        lambda run: run.edited(Continuity, broken=("moments before step 2",)),
        1,
        "0",
        "moments before step 2: something else than the optimizer changed them; likely weights",
    ),
    "interrupted": (
        lambda run: run.edited(OptimizerStep, 2, stretch=0),
        "after step 3",
        "after step 2",
        "the interruption was ignored",
    ),
    "evaluations": (
        lambda run: run.edited(LoggedEvaluation, 0, loss=math.nan),
        2,
        ">= 2, each finite",
        "its loss isn't finite",
    ),
    "evaluation_loss": (
        lambda run: run.edited(EvaluationPasses, 0, training=2),
        2,
        "0",
        "0 rows aren't held out or labelled otherwise, 0 evaluations left rows out, 2 passes were",
    ),
    "gap_closed": (
        lambda run: run.edited(Evaluation, 1, loss=4.4),
        0.2,
        "0.85 to 1",
        "went from 5.4000 to 4.4000 nats per token; the lowest possible is 0.4000; likely",
    ),
    "parity_logits": (
        lambda run: run.edited(Parity, 0, difference=0.03),
        0.03,
        "<= 0.0002",
        "off by 0.03 at token 95, entry 137; likely another attention scale",
    ),
    "parity_gradients": (
        lambda run: run.edited(Parity, 1, difference=0.01),
        0.01,
        "<= 0.0001",
        "off by 0.01 at q_proj; likely a loss over another count",
    ),
    "parity_trace": (
        lambda run: run.edited(Parity, 2, difference=0.045),
        0.045,
        "<= 0.0005",
        "off by 0.045 at step 6; likely another rate",
    ),
}
