"""Of which releases a row of the table is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunematrix.environments.table import Environment
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.proof.releases.released import released_faults
from tunematrix.proof.releases.table import FILE

CPU = Environment("cpu", "", ("cpu",))
ROW = """
rows:
  - id: A1
    link: https://example.org/1
    shows: something
    faulty: {faulty}
    fixed: {fixed}
    cells: ["small.yaml::small[cpu]"]
    expected: {{check: labels}}
"""


@pytest.mark.parametrize(
    ("faulty", "fixed", "releases", "free"),
    [
        ("{trl: 0.13.0}", "{trl: 0.14.0}", {"trl": ">=0.13.0,<0.14.0"}, {"trl": ">=0.14.0"}),
        ("{trl: 0.9.0}", "{trl: 0.10.0}", {"trl": ">=0.9.0,<0.10.0"}, {"trl": ">=0.10.0"}),
        # The fixed release is the earlier one: how long the fault lasted isn't known.
        ("{trl: 0.13.0}", "{trl: 0.12.0}", {"trl": "==0.13.0"}, {"trl": "<=0.12.0"}),
        ("{trl: 0.13.0}", "{}", {"trl": "==0.13.0"}, {}),
        (
            "{trl: 0.13.0, peft: 1.0.0}",
            "{trl: 0.14.0, peft: 1.0.0}",
            {"trl": ">=0.13.0,<0.14.0"},
            {"trl": ">=0.14.0"},
        ),
        (
            "{trl: 0.13.0, peft: 1.0.0}",
            "{trl: 0.14.0, peft: 1.1.0}",
            {"trl": "==0.13.0", "peft": "==1.0.0"},
            {"trl": "==0.14.0", "peft": "==1.1.0"},
        ),
        ("{}", "{trl: 0.14.0}", None, None),
    ],
)
def test_what_a_row_has_seen(
    tmp_path: Path,
    faulty: str,
    fixed: str,
    releases: dict[str, str] | None,
    free: dict[str, str] | None,
) -> None:
    """Nothing is claimed of releases that nobody tried, but for those before the fixed one."""
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_text(ROW.format(faulty=faulty, fixed=fixed))
    faults = released_faults(read_groups([shipped_configs(), tmp_path]), CPU)
    own = [(one.releases, one.free) for one in faults if one.link == "https://example.org/1"]
    assert own == ([] if releases is None else [(releases, free)])


def test_faults_of_other_backends_are_left_out() -> None:
    """SFTTrainer has no fault in an environment without it."""
    groups = read_groups([shipped_configs()])
    of_cpu, of_mlx = (
        {one.link for one in released_faults(groups, Environment(name, "", (name,)))}
        for name in ("cpu", "mlx")
    )
    link = "https://github.com/huggingface/trl/issues/3091"
    assert link in of_cpu and link not in of_mlx
