"""How the cell's process ended, its stderr, and the processes and files that it left."""

from __future__ import annotations

from fnmatch import fnmatchcase

from tunematrix.checks.bound import Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, listed
from tunematrix.evidence.events import Command, Finished, LogSource, Raised, RankEnded, StepProblem
from tunematrix.evidence.evidence import Evidence

TRACEBACK = "Traceback (most recent call last):"
STACK = "(most recent call first):"
LAST_LINES = 5
_REMOTE_CODE = "transformers_modules"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")

SIGNALS = {
    "SIGKILL": "killed from outside, most often because memory ran out",
    "SIGSEGV": "a crash in native code; the threads' stacks are in stderr.log",
    "SIGABRT": "a native library aborted; see the end of stderr.log",
    "SIGBUS": "a crash in native code, often a full disk or a truncated file in memory",
}


@check(
    name="exit",
    group="process",
    reads=(Finished, Raised, RankEnded, StepProblem),
    bug=(
        "a TypeError when an adapter is attached to a quantized model "
        "([peft#2285](https://github.com/huggingface/peft/issues/2285), "
        "[peft#3223](https://github.com/huggingface/peft/issues/3223)); a config class that "
        "can't load "
        "([transformers#42215](https://github.com/huggingface/transformers/issues/42215)); "
        "runs that end early and look like success"
    ),
)
def exit_status(evidence: Evidence, claim: Claim) -> Judgement:
    """The process ended by itself, with 0, at the recipe's own end.

    Reads the exit code or signal, the time limit, the exception if there was one, and whether
    the recipe reached its end. Fails when the recipe raised an exception, was killed, ran out
    of time, or ended with 0 before its end.
    """
    end, raised = evidence.exit, evidence.one(Raised)
    bound = Exactly("exit code 0", note="at the end")
    last = _last_words(evidence.stderr)
    if end.problem is not None:
        state, cause = "lost", f"{end.problem}{last}"
    elif end.timed_out:
        state = "timed out"
        cause = f"ran past its {claim.spec.timeout} s; {_hanging(evidence, last)}"
    elif end.signal is not None and evidence.one(RankEnded) is not None:
        state, cause = end.signal, _cut_short(evidence, last)
    elif end.signal is not None:
        state, cause = end.signal, SIGNALS.get(end.signal, "ended by a signal") + last
    elif raised is not None:
        state = f"exit code {end.code}"
        cause = _raised(raised, evidence.one(StepProblem), claim)
    elif end.code != 0:
        state, cause = f"exit code {end.code}", _cut_short(evidence, last)
    elif evidence.one(Finished) is None:
        state, cause = (
            "exit code 0",
            f"it ended before the recipe's end, so it tested nothing{last}",
        )
    else:
        return judge_by(bound, "exit code 0", "")
    return judge_by(bound, state, cause, provided=False)


def _raised(raised: Raised, problem: StepProblem | None, claim: Claim) -> str:
    if problem is not None:  # the spec is to blame, or what an entry of it names
        return str(claim.spec.problem(("steps", problem.name, *problem.route), problem.text))
    phase = f" while in {raised.phase}" if raised.phase else ""
    return f"{raised.exception[0]}{phase}: {raised.message}"


def _cut_short(evidence: Evidence, last: str) -> str:
    """Say why a process has ended with another code than 0."""
    if (rank := evidence.one(RankEnded)) is not None:
        return f"{_blamed(rank)}{_indented(rank.last_lines)}"
    if evidence.one(Command) is None:
        return f"it ended before the recipe's end{last}"
    stale = (
        f"; if its model's code was changed, remove the old copy that transformers keeps below "
        f"~/.cache/huggingface/modules/{_REMOTE_CODE}"
        if _REMOTE_CODE in evidence.stderr
        else ""
    )
    said = f"the trainer's command failed{stale}; the last that it said:"
    return f"{said}{last}" if last else f"the trainer's command failed without a word{stale}"


def _hanging(evidence: Evidence, last: str) -> str:
    if (rank := evidence.one(RankEnded)) is not None:
        return f"{_blamed(rank)}{_indented(rank.last_lines)}"
    return f"stderr.log has every thread's stack{last}"


def _blamed(rank: RankEnded) -> str:
    which = "" if rank.rank is None else f"rank {rank.rank} of "
    return f"{which}{rank.processes} {rank.how}:"


def _indented(lines: tuple[str, ...]) -> str:
    return "".join(f"\n    {line}" for line in lines)


def _last_words(stderr: str) -> str:
    """Return where faulthandler saw the main thread, innermost first; the last lines elsewhere."""
    stack = stderr.rpartition(STACK)[2].split("\n") if STACK in stderr else []
    lines = stack[1:][:LAST_LINES] or stderr.strip().split("\n")[-LAST_LINES:]
    return "".join(f"\n    {line.strip()}" for line in lines if line.strip())


@check(
    name="left_behind",
    group="process",
    unit="processes",
    bug=(
        "servers, launcher ranks and data loaders that survive and take memory from the next cell"
    ),
)
def left_behind(evidence: Evidence, claim: Claim) -> Judgement:
    """No process of the cell outlived it.

    Reads the processes that outlived the cell. Fails when there is one.
    """
    left = evidence.exit.leftovers
    message = (
        f"still running after the cell (ended now): {listed(left)}; likely a server, a data "
        "loader or a launcher that nobody closed"
    )
    return judge_by(Exactly(0), len(left), message)


@check(
    name="stderr",
    group="process",
    reads=(Raised,),
    unit="patterns",
    bug="exceptions in threads and worker processes that a trainer ignores",
)
def standard_error(evidence: Evidence, claim: Claim) -> Judgement:
    """There is no traceback and no forbidden text on stderr.

    Reads stderr. Fails when it has a traceback that isn't the recipe's own, or one of
    `stderr.forbidden_patterns`.
    """
    # A recipe that raised has said so already, and its traceback is no second failure.
    own = [] if evidence.one(Raised) else [TRACEBACK]
    patterns = [*own, *claim.spec.stderr.forbidden_patterns]
    present = [pattern for pattern in patterns if pattern in evidence.stderr]
    lines = [
        line.strip() for line in evidence.stderr.splitlines() if any(p in line for p in present)
    ]
    more = [line for line in lines if line not in present]
    message = f"stderr has {listed(present)}{': ' if more else ''}{listed(more, 2)}"
    return judge_by(Exactly(0), len(present), message)


@check(name="stderr_warning", group="process", unit="patterns", bug="deprecation warnings")
def warned_standard_error(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Texts on stderr that deserve a look are reported; they decide nothing.

    Reads stderr. Never fails; warns when it has one of `stderr.warn_patterns`.
    """
    present = [p for p in claim.spec.stderr.warn_patterns if p in evidence.stderr]
    if not present:
        return None
    return Judgement("warned", len(present), Exactly(0), f"stderr has {listed(present)}")


@check(
    name="expected_files",
    group="files",
    unit="files",
    bound_in="expected_files",
    bug="saving switched off, output that goes elsewhere, files left over from another run",
)
def expected_files(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Every expected file was written by this run.

    Reads the files in the cell's output folder. Fails when one of `expected_files` is absent there
    and, for a trainer's command, in the folder of its log. `*` stands for any part of a name.
    """
    wanted = claim.spec.expected_files
    if not wanted:
        return None
    log = evidence.one(LogSource)
    beside = "" if log is None else log.file.rpartition("/")[0]
    absent = [name for name in wanted if not _is_there(name, beside, evidence.files)]
    message = (
        f"not made by this run: {listed(absent)}; it made {listed(evidence.files, 5) or 'none'}; "
        f"{_why_absent(absent, evidence)}"
    )
    return judge_by(Exactly(len(wanted)), len(wanted) - len(absent), message)


def _is_there(name: str, beside: str, files: tuple[str, ...]) -> bool:
    patterns = (name, f"{beside}/{name}") if beside else (name,)
    return any(fnmatchcase(file, pattern) for file in files for pattern in patterns)


def _why_absent(absent: list[str], evidence: Evidence) -> str:
    command = evidence.one(Command)
    strategy = "" if command is None else command.arguments.get("save_strategy", "")
    if strategy in ("no", "false") and any(name.endswith(_WEIGHTS) for name in absent):
        return f"save_strategy is {strategy}, so nothing is saved: set it to steps"
    return "likely saving is off, or goes to another folder"
