"""For each check the fault that it must fail on, planted in honest evidence, and what it says."""

from tests.unit.checks.planted import process, steps, weights

PLANTED = {**process.PLANTED, **steps.PLANTED, **weights.PLANTED}
