"""100,000 cells over 200 simulated workers on one machine, some of which die at random.

    python -m tests.bench.fleet_simulation FOLDER [CELLS [WORKERS]]

Each worker is Dask's, and answers in a millisecond without running anything; scheduler, driver,
plan, store and report are real. It takes a quarter of an hour, and is run by hand; docs/fleet.md
has its table.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tunematrix.checks.bound import AtMost
from tunematrix.checks.verdict import Verdict
from tunematrix.fleet.address import parse_address
from tunematrix.fleet.certificates import make_certificates, read_certificates
from tunematrix.fleet.offer import Offer, identity_of
from tunematrix.fleet.settings import settle_settings
from tunematrix.fleet.travel import Errand, pack
from tunematrix.fleet.worker import made
from tunematrix.fleet.workplace import Wanted
from tunematrix.project import read_project
from tunematrix.results.planned import planned_fields
from tunematrix.results.record import Record, machine

CELLS, WORKERS, PROCESSES = 100_000, 200, 4
OF_A_SPEC = 1080
SECONDS_TO_LIVE = 5.0
"""Of a process's workers, one dies so often on the mean."""
CHECKS = 30
"""Of each record, about as many as a real cell has."""
MATRIX = """
  method: [lora, dora]
  quantizer: [none, hqq-int4, hqq-int8, quanto-int8]
  data: [text, chat, unequal, packed, prompt-completion]
  optimizer: [adamw, adam, sgd]
  scheduler: [constant, linear, cosine]
  precision: [fp32, bf16, fp16]
"""


class Stub:
    """Answers at once, with a record like that of a cell that passed."""

    def perform(self, errand: Errand, wanted: Wanted) -> bytes:
        """Return a record."""
        checks = tuple(
            Verdict(f"check_{n}", "passed", 0.5, AtMost(1.0), "nats", f"measured {n}")
            for n in range(CHECKS)
        )
        record = Record(
            run_id=errand.terms.run_id,
            spec="",
            environment="cpu",
            outcome="passed",
            checks=checks,
            metrics={"gap_closed": 0.9, "process_peak_mb": 50.0},
            durations={"total": 0.001},
            versions={"torch": "2.13.0"},
            machine=dict(machine()),
            **planned_fields(errand.cell),
        )
        return pack(record, None)


async def work(address: str, folder: Path, count: int, seed: int) -> None:
    """Be some workers, one of which dies now and then and is followed by another one."""
    settle_settings()
    certificates, chance = read_certificates(folder / "certificates"), random.Random(seed)
    where, project = parse_address(address), read_project(folder, "cpu")
    identity, stub, died = identity_of(project), Stub(), 0

    async def begin() -> Any:
        name = f"stub-{seed}-{chance.getrandbits(32):08x}"
        offer = Offer(name, "cpu", ("cpu",), 1, identity, "3.11", "Linux", {"cpu": "x"}, 0, {})
        worker = made(where, certificates, offer, stub, tempfile.mkdtemp(prefix="stub-"))
        return await worker

    workers = [await begin() for _ in range(count)]
    print("at work", flush=True)
    while True:
        await asyncio.sleep(chance.expovariate(1 / SECONDS_TO_LIVE))
        place = chance.randrange(count)
        dying = workers[place]
        with suppress(Exception):
            dying.batched_stream.comm.abort()  # as a cable that is pulled
        died += 1
        (folder / f"died-{seed}").write_text(str(died))
        workers[place] = await begin()


def main(folder: Path, cells: int, workers: int) -> int:
    """Run, and say what it took; return 1 where a record was lost or doubled."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    specs = -(-cells // OF_A_SPEC)
    (folder / "specs").mkdir()
    (folder / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\ntunematrix_specs = ["specs"]\n'
    )
    for number in range(specs):
        head = f"test_id: s{number}\nrecipe: sft\noverrides: {{train.seed: {number}}}\nmatrix:"
        (folder / f"specs/s{number:03}.yaml").write_text(head + MATRIX)
    certificates = make_certificates(folder / "certificates")
    own = f"--certificates={certificates.folder}"
    with _scheduler(folder, own) as address, _workers(folder, address, workers):
        began, peak, busy = time.monotonic(), 0, 0.0
        verbs = ["run", "-e", "cpu", "--fleet", address, own, "-q", "-p", "no:cacheprovider"]
        with (folder / "run.log").open("w") as log:
            run = subprocess.Popen(
                [sys.executable, "-m", "tunematrix", *verbs], cwd=folder, stdout=log, stderr=log
            )
            while run.poll() is None:
                with suppress(psutil.Error):
                    driver = psutil.Process(run.pid)
                    peak = max(peak, driver.memory_info().rss)
                    busy = sum(driver.cpu_times()[:2])
                time.sleep(0.2)
        seconds = time.monotonic() - began
    print(f"the driver's own time on a core: {busy:.0f} s")
    return account(folder, seconds, peak, run.returncode)


@contextmanager
def _scheduler(folder: Path, own: str) -> Iterator[str]:
    log = folder / "scheduler.log"
    command = [sys.executable, "-m", "tunematrix", "scheduler", "--host=127.0.0.1", "--port=0", own]
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=file)
    try:
        while (match := re.search(r"scheduler at tls://(\S+)", log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield match[1]
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _workers(folder: Path, address: str, workers: int) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.bench.fleet_simulation", "--work", address, str(folder)]
    count = str(workers // PROCESSES)
    logs = [folder / f"workers-{seed}.log" for seed in range(PROCESSES)]
    processes = []
    for seed, log in enumerate(logs):
        with log.open("w") as file:
            more = [*command, count, str(seed)]
            processes.append(subprocess.Popen(more, stdout=file, stderr=file))
    try:
        while not all("at work" in log.read_text() for log in logs):
            assert all(one.poll() is None for one in processes), [one.read_text() for one in logs]
            time.sleep(0.2)
        yield
    finally:
        for one in processes:
            one.kill()
            one.wait()


def account(folder: Path, seconds: float, peak: int, code: int) -> int:
    """Say what it took, and what came of it."""
    store = folder / ".tunematrix/cpu/results.jsonl"
    counted, outcomes = Counter[str](), Counter[str]()
    with store.open() as file:
        for line in file:
            record = json.loads(line)
            counted[record["cell_id"]] += record["outcome"] != "unsupported"
            outcomes[record["outcome"]] += 1
    cells = {name for name, count in counted.items() if count}
    doubled = [name for name, count in counted.items() if count > 1]
    died = sum(int(path.read_text()) for path in folder.glob("died-*"))
    page = folder / ".tunematrix/cpu/report.html"
    print(f"cells: {len(cells)}, exit code {code}, {dict(outcomes)}, doubled: {len(doubled)}")
    print(
        f"seconds: {seconds:.0f}, {1000 * seconds / max(1, len(cells)):.1f} ms a cell; died: {died}"
    )
    print(f"driver: {peak / 1e6:.0f} MB; store: {store.stat().st_size / 1e6:.0f} MB")
    print(f"page: {page.stat().st_size / 1e6:.1f} MB" if page.exists() else "page: none")
    return int(bool(doubled))


if __name__ == "__main__":
    if sys.argv[1] == "--work":
        address, place, count, seed = sys.argv[2:]
        asyncio.run(work(address, Path(place), int(count), int(seed)))
    given = [int(text) for text in sys.argv[2:]]
    sys.exit(main(Path(sys.argv[1]).resolve(), *(given + [CELLS, WORKERS][len(given) :])))
