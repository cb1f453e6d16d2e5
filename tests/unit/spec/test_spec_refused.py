from __future__ import annotations

import pytest
from tests.unit.spec.conftest import OURS, ProblemsOf

KNOWN = "when: {method: lora}, reason: r, link: 'https://example.org'}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("loss: {final_max: 1, final_min: 2}", "loss.final_max: the minimum 2.0 is above the "),
        ("loss: {first_max: 1, first_min: 2}", "loss.first_max: the minimum 2.0 is above the "),
        ("gap_closed: {max: 1, min: 2}", "gap_closed.max: the minimum 2.0 is above the maximum"),
        (
            "memory: {stored_mb: {max: 1, min: 2}}",
            "memory.stored_mb.max: the minimum 2.0 is above the maximum 1.0; nothing can pass",
        ),
        ("gap_closed: {min: .nan}", "gap_closed.min: expected a finite number, got nan"),
        ("loss: {final_max: .inf}", "loss.final_max: expected a finite number, got inf"),
        ("logit_error: {max: .NaN}", "logit_error.max: expected a finite number, got nan"),
        ("gap_closed: {}", "gap_closed: bounds nothing; give min, max or both"),
        ("memory: {}", "memory: bounds nothing; give one of stored_mb, allocator_peak_mb, proc"),
        ("logit_error: {}", "logit_error.max: is missing; add it"),
        ("reload: {max_difference: -1}", "reload.max_difference: expected at least 0, got -1"),
        ("throughput: {min_tokens_per_second: 0}", "expected more than 0, got 0; raise it"),
        ("throughput: {min_tokens_per_second: 1e-300}", "can't be violated, so it would test no"),
        ("generation: {min_grammatical: 0}", "expected more than 0, got 0; raise it"),
        ("memory: {stored_mb: {min: -1}}", "memory.stored_mb: -1 can't be violated, so it would"),
        ("memory: {stored_mb: {min: 0, max: 1e300}}", "memory.stored_mb: 1e+300 can't be violat"),
        ("memory: {process_peak_mb: {max: 1e12}}", "1e+12 can't be violated, so it would test "),
        ("loss: {final_min: -1e308}", "loss.final_min: -1e+308 can't be violated, so it would te"),
        ("loss: {first_max: 1e9}", "loss.first_max: 1e+09 can't be violated, so it would test no"),
        ("gap_closed: {min: -1e308}", "gap_closed: -1e+308 can't be violated, so it would test n"),
        ("preference: {min: -1}", "preference: -1 can't be violated, so it would test nothing; g"),
        ("preference: {min: 0, max: 1}", "preference: 1 can't be violated, so it would test noth"),
        ("reload: {max_difference: 1e300}", "reload.max_difference: 1e+300 can't be violated"),
        ("transfer: {max_difference: 100}", "transfer.max_difference: 100 can't be violated"),
        ("merge: {max: 1}", "merge.max: 1 can't be violated, so it would test nothing; give a bou"),
        ("logit_error: {max: 1}", "logit_error.max: 1 can't be violated, so it would test nothin"),
        ("parity: {logits: 1e300}", "parity.logits: 1e+300 can't be violated, so it would test n"),
        ("parity: {gradients: 1}", "parity.gradients: 1 can't be violated, so it would test noth"),
        ("parity: {trace: 1e6}", "parity.trace: 1e+06 can't be violated, so it would test nothin"),
        (
            "timeout: 100000000000",
            "timeout: expected at most 2.592e+06, got 100000000000; lower it",
        ),
        ("markers: [xfail]", "markers[0]: xfail would have pytest leave the cell out, or call it"),
        (f"known_failures: [{{raises: Exception, {KNOWN}]", "raises: Exception would excuse wha"),
        (f"known_failures: [{{raises: builtins.object, {KNOWN}]", "object would excuse whatever"),
    ],
)
def test_bounds_that_decide_nothing(problems_of: ProblemsOf, text: str, expected: str) -> None:
    """A bound that can't pass, can't fail or can't be compared is refused with its line."""
    (problem,) = problems_of(f"{OURS}{text}\n")
    assert problem.startswith("spec.yaml:3: ")
    assert expected in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("matrix: {method: []}", "matrix.method: lists no option; name one, or write all"),
        ("matrix: {method: [a, b, a]}", "matrix.method[2]: a is listed twice; remove one"),
        ("matrix: {method: lora}", "matrix.method: expected a list of options, or all; write [l"),
        ("matrix: {launcher: [2]}", "matrix.launcher[0]: 2 is not text; quote it"),
        ("matrix: {launcher: [true]}", "matrix.launcher[0]: true is not text; quote it"),
        ("matrix: [method]", "matrix: expected a section, got a list; write `key: value` lines"),
        ("markers: [a, a]", "markers[1]: a is listed twice; remove one"),
        ("markers: [a-b]", "markers[0]: expected text that matches ^[A-Za-z_][A-Za-z0-9_]*$"),
        ("expected_files: [a, a]", "expected_files[1]: a is listed twice; remove one"),
        ("expected_files: [/etc/passwd]", "expected_files[0]: /etc/passwd leaves the run's outp"),
        ("expected_files: [a/../../b]", "expected_files[0]: a/../../b leaves the run's output"),
        ("stderr: {forbidden_patterns: [x, x]}", "stderr.forbidden_patterns[1]: x is listed twi"),
        ("stderr: {forbidden_patterns: ['']}", "stderr.forbidden_patterns[0]: expected some tex"),
        ("stderr: {warn_patterns: x}", "stderr.warn_patterns: expected a list, got 'x'; write ["),
    ],
)
def test_lists(problems_of: ProblemsOf, text: str, expected: str) -> None:
    """Empty lists, duplicates and entries of the wrong kind are refused."""
    (problem,) = problems_of(f"{OURS}{text}\n")
    assert problem.startswith(f"spec.yaml:3: {expected}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("timeout: '300'", "timeout: expected a whole number, got '300'; write it without quot"),
        ("timeout: 1.5", "timeout: expected a whole number, got 1.5"),
        ("timeout: true", "timeout: expected a whole number, got true"),
        ("timeout: 0", "timeout: expected more than 0, got 0; raise it"),
        ("gpu_requirement: -1", "gpu_requirement: expected at least 0, got -1; raise it"),
        ("loss: {no_nan: 1}", "loss.no_nan: expected true or false, got 1"),
        ("loss: {final_max: '1'}", "loss.final_max: expected a number, got '1'; write it without"),
        ("loss: 3", "loss: expected a section, got 3; write `key: value` lines below it"),
        ("description: 3", "description: expected text, got 3; put it in quotes"),
        ("loss:", "loss: is empty; give it a value or remove the line"),
        ("overrides: {train.max_steps: }", "overrides.train.max_steps: is empty; give it a valu"),
        ("overrides: {train: {seed: 1}}", "overrides.train: expected a value, got a section; wri"),
        ("overrides: {train.x: .nan}", "overrides.train.x: nan is not a finite number; give one"),
        ("overrides: {train.x: [[1]]}", "overrides.train.x: expected a number, a text, true or "),
        ("overrides: {train.x: 99999999999999999999}", "overrides.train.x: has more than 63 bits"),
    ],
)
def test_types(problems_of: ProblemsOf, text: str, expected: str) -> None:
    """Nothing is converted: what has another type than it should is refused."""
    (problem,) = problems_of(f"{OURS}{text}\n")
    assert problem.startswith(f"spec.yaml:3: {expected}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Lora A", "test_id: expected text that matches ^[a-z0-9_-]+$, got 'Lora A'; correct it"),
        ("''", "test_id: expected text that matches"),
        ('"a\\n"', "test_id: expected text that matches"),
        ("a" * 101, "test_id: expected at most 100 characters"),
        ("7", "test_id: expected text, got 7; put it in quotes"),
    ],
)
def test_names(problems_of: ProblemsOf, name: str, expected: str) -> None:
    """A test_id is fit for a folder's name and for a command line."""
    (problem,) = problems_of(f"recipe: sft\ntest_id: {name}\n")
    assert problem.startswith(f"spec.yaml:2: {expected}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("when: {a: b}, raises: E, check: c", "expects two things; give exactly one of raises"),
        ("when: {a: b}", "expects neither an exception nor a check; give exactly one of raises an"),
        ("when: {}, raises: E", "when: expected 1 or more entries"),
        ("raises: E", "when: is missing; add it"),
        ("when: {a: []}, raises: E", "when.a: lists no option; name one"),
        ("when: {a: 3}, raises: E", "when.a: expected a list of options, or all; write [3]"),
    ],
)
def test_known_failures(problems_of: ProblemsOf, text: str, expected: str) -> None:
    """A known failure says which cells, what exactly, why, and where it is tracked."""
    entry = f"known_failures: [{{{text}, reason: r, link: 'https://e.org'}}]"
    (problem,) = problems_of(f"{OURS}{entry}\n")
    assert problem.startswith("spec.yaml:3: known_failures[0]")
    assert expected in problem


@pytest.mark.parametrize("link", ["", "issue 12", "ftp://e.org"])
def test_known_failure_needs_a_link(problems_of: ProblemsOf, link: str) -> None:
    """A known failure without a place where it is tracked is forgotten, so it is refused."""
    entry = f"known_failures: [{{when: {{a: b}}, raises: E, reason: r, link: '{link}'}}]"
    (problem,) = problems_of(f"{OURS}{entry}\n")
    assert "known_failures[0].link: expected text that matches ^https?://" in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("timout: 3", "timout: is not a known key; did you mean timeout?"),
        ("loss: {fnal_max: 3}", "loss.fnal_max: is not a known key; did you mean final_max"),
        ("memory: {stored_mb: {mx: 3}}", "memory.stored_mb.mx: is not a known key; did you mean m"),
        ("throughput: {zzz: 3, min_tokens_per_second: 1}", "it can be min_tokens_per_second"),
        (
            "known_failures: [{when: {a: b}, raises: E, reason: r, link: 'https://e', reson: r}]",
            "known_failures[0].reson: is not a known key; did you mean reason",
        ),
    ],
)
def test_unknown_keys(problems_of: ProblemsOf, text: str, expected: str) -> None:
    """A misspelt bound would check nothing, so it is refused with what was probably meant."""
    found = problems_of(f"{OURS}{text}\n")
    assert expected in found[0]
    assert found[0].startswith("spec.yaml:3: ")
