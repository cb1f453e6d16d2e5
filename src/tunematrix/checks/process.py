"""How the cell's process ended, and what it said and left on the way."""

from __future__ import annotations

from tunematrix.checks.verdict import Claim, Verdict, decide, listed
from tunematrix.evidence.events import Finished, Raised
from tunematrix.evidence.evidence import Evidence

TRACEBACK = "Traceback (most recent call last):"
STACK = "(most recent call first):"
LAST_LINES = 5

SIGNALS = {
    "SIGKILL": "killed from outside, most often because memory ran out",
    "SIGSEGV": "a crash in native code; the threads' stacks are in stderr.log",
    "SIGABRT": "a native library gave up; its last words are in stderr.log",
    "SIGBUS": "a crash in native code, often a full disk or a truncated file in memory",
}


def exit_status(evidence: Evidence, claim: Claim) -> Verdict:
    """The process ended by itself, with 0, at the recipe's own end."""
    end, raised = evidence.exit, evidence.one(Raised)
    last = _last_words(evidence.stderr)
    if end.problem is not None:
        state, cause = "lost", f"{end.problem}{last}"
    elif end.timed_out:
        state = "timed out"
        cause = f"ran past its {claim.spec.timeout} s; stderr.log has every thread's stack{last}"
    elif end.signal is not None:
        state, cause = end.signal, SIGNALS.get(end.signal, "ended by a signal") + last
    elif raised is not None:
        state = f"exit code {end.code}"
        phase = f" while in {raised.phase}" if raised.phase else ""
        cause = f"{raised.exception[0]}{phase}: {raised.message}"
    elif end.code != 0:
        state, cause = f"exit code {end.code}", f"it ended before the recipe's end{last}"
    elif evidence.one(Finished) is None:
        state, cause = (
            "exit code 0",
            f"it ended before the recipe's end, so it proved nothing{last}",
        )
    else:
        return decide("exit", True, "exit code 0", "exit code 0", "")
    return decide("exit", False, state, "exit code 0, at the end", cause)


def _last_words(stderr: str) -> str:
    """Return where faulthandler saw the main thread, innermost first; the last lines elsewhere."""
    stack = stderr.rpartition(STACK)[2].split("\n") if STACK in stderr else []
    lines = stack[1:][:LAST_LINES] or stderr.strip().split("\n")[-LAST_LINES:]
    return "".join(f"\n    {line.strip()}" for line in lines if line.strip())


def left_behind(evidence: Evidence, claim: Claim) -> Verdict:
    """No process of the cell outlived it."""
    left = evidence.exit.leftovers
    message = (
        f"still running after the cell (ended now): {listed(left)}; likely a server, a data "
        "loader or a launcher that nobody closed"
    )
    return decide("left_behind", not left, len(left), "0", message, unit="processes")


def standard_error(evidence: Evidence, claim: Claim) -> Verdict:
    """No traceback and no forbidden pattern on stderr."""
    # A recipe that raised has said so already, and its traceback is no second failure.
    own = [] if evidence.one(Raised) else [TRACEBACK]
    patterns = [*own, *claim.spec.stderr.forbidden_patterns]
    found = [pattern for pattern in patterns if pattern in evidence.stderr]
    lines = [line.strip() for line in evidence.stderr.splitlines() if any(p in line for p in found)]
    message = f"stderr has {listed(found)}: {listed(lines, 2)}"
    return decide("stderr", not found, len(found), "0", message, unit="patterns")


def warned_standard_error(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Patterns that deserve a look but decide nothing."""
    found = [p for p in claim.spec.stderr.warn_patterns if p in evidence.stderr]
    if not found:
        return None
    return Verdict(
        "stderr_warning", "warned", len(found), "0", "patterns", f"stderr has {listed(found)}"
    )


def expected_files(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Every expected file was made by this run."""
    wanted = claim.spec.expected_files
    if not wanted:
        return None
    absent = [name for name in wanted if name not in evidence.files]
    message = (
        f"not made by this run: {listed(absent)}; it made {listed(evidence.files, 5) or 'none'}; "
        "likely saving is off, or goes to another folder"
    )
    return decide(
        "expected_files", not absent, len(wanted) - len(absent), f"{len(wanted)}", message,
        unit="files",
    )  # fmt: skip
