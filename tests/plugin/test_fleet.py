"""A run over a fleet of real workers: one plan, one store, and cells that run where they can."""

from __future__ import annotations

import json
import pickle
import signal
import socket
import ssl
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from distributed import protocol
from distributed.protocol.utils import pack_frames
from tests.plugin.fleets import Fleet, Member, fleet_of

from tunematrix.fleet.certificates import make_certificates, read_certificates

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Run

BOTH = "--environment=plain,other"
AGREE = """
relation:
  arms: {one: {train.batch_size: 4}, two: {train.batch_size: 2}}
  compare: [gradients]
  tolerance: {gradients: 1e-3}
  planted: [{arm: two, fault: "tiny_recipes:scale"}]
"""


@pytest.fixture(scope="module")
def fleet(new_project: NewProject) -> Iterator[Fleet]:
    """A scheduler, and a worker in each of two environments."""
    project = new_project()
    project.spec("good", "succeed", quantizers="[plain, tiny-int4]")
    project.spec("bad", "refuse")
    project.spec("endless", "hang")
    project.spec("agree", "keep", AGREE)
    project.spec("deadly", "kill_its_worker")
    with fleet_of(project) as fleet:
        fleet.worker("plain", "-n2")
        fleet.worker("other", "-n1", "--name=second")
        yield fleet


def run(fleet: Fleet, *arguments: str) -> tuple[Run, dict[str, dict[str, Any]]]:
    """Run some specs over the fleet; return how that ended, and the record of each cell."""
    folder = fleet.project.root / ".tunematrix/plain+other"
    store = folder / "results.jsonl"
    store.unlink(missing_ok=True)
    ended = fleet.project.pytest(BOTH, *fleet.options, *arguments)
    lines = store.read_text(encoding="utf-8").splitlines() if store.exists() else []
    records = [json.loads(line) for line in lines]
    counted = Counter(record["cell_id"] for record in records)
    assert set(counted.values()) <= {1}, counted
    return ended, {record["cell_id"]: record for record in records}


def test_one_run(fleet: Fleet) -> None:
    """One store has the cells of both environments; what failed brings its evidence along."""
    ended, records = run(fleet, "specs/good.yaml", "specs/bad.yaml")
    assert ended.code == 1, ended.text
    outcomes = {name: (one["environment"], one["outcome"]) for name, one in records.items()}
    assert outcomes == {
        f"{spec}[{where}-{quantizer}]": (where, outcome)
        for where in ("plain", "other")
        for spec, quantizer, outcome in (
            ("good", "plain", "passed"),
            ("good", "tiny-int4", "passed"),
            ("bad", "plain", "failed"),
        )
    }
    bad = records["bad[other-plain]"]
    assert (bad["spec"], bad["machine"]["worker"]) == ("specs/bad.yaml", "second")
    folder = fleet.project.root / bad["run_dir"]
    assert (folder / "output/half.txt").read_text() == "half"
    assert "integers take no gradient" in (folder / "events.jsonl").read_text()
    assert records["good[plain-plain]"]["run_dir"] == ""
    assert "cells of plain: ✗ 1 failed   ✓ 2 passed" in ended.text


COUNTS = """
import gc, json
from collections import Counter
from pathlib import Path

KINDS = ("Verdict", "Element", "Ticket", "Future")

def pytest_sessionfinish(session):
    gc.collect()
    found = Counter(type(one).__name__ for one in gc.get_objects())
    Path("kept.json").write_text(json.dumps({kind: found[kind] for kind in KINDS}))
"""


def test_nothing_is_kept_of_a_cell_that_is_on_record(fleet: Fleet) -> None:
    """Neither its checks, nor its case of the JUnit file, which is whole nevertheless."""
    project = fleet.project
    project.write("counts.py", COUNTS)
    ended, records = run(fleet, "specs/good.yaml", "--seeds=5", "-p", "counts")
    assert ended.code == 0, ended.text
    kept = json.loads((project.root / "kept.json").read_text())
    assert len(records) == 20 and all(one["checks"] for one in records.values())
    assert (kept["Verdict"], kept["Ticket"]) == (0, 0), kept
    assert kept["Future"] < 10 and kept["Element"] < 10, kept
    file = ".tunematrix/plain+other/junit.xml"
    assert list(project.junit(file).values()) == ["passed"] * len(records)
    cases = ElementTree.parse(project.root / file).getroot().iter("testcase")
    properties = {(one.get("name"), one.get("value")) for one in next(cases).iter("property")}
    assert ("outcome", "passed") in properties and len(properties) > 5


def test_arms_on_several_workers(fleet: Fleet) -> None:
    """Their tensors are fetched, and compared here; a sabotaged arm runs there, too."""
    ended, records = run(fleet, "specs/agree.yaml", "-m", "relation or planted")
    assert ended.code == 0, ended.text
    for where in ("plain", "other"):
        assert records[f"agree[{where}-plain]"]["outcome"] == "passed"
        assert records[f"agree[{where}-plain]"]["environment"] == where
        assert records[f"agree[{where}-plain]!scale"]["outcome"] == "passed"


def test_interrupted(fleet: Fleet) -> None:
    """Ctrl-C ends the cells on the workers, which take others then."""
    project = fleet.project
    command = ("-m", "tunematrix", "run", "-e", "plain,other", *fleet.options)
    before = children(fleet)
    with project.started([*python(), *command, "specs/endless.yaml"]) as process:
        project.wait_for(lambda: len(children(fleet)) >= len(before) + 6)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 2
    project.wait_for(lambda: len(children(fleet)) <= len(before), seconds=30)
    assert run(fleet, "specs/good.yaml")[0].code == 0


def test_refusals(fleet: Fleet) -> None:
    """A project that differs is told by the file; a missing environment at once."""
    spec = fleet.project.root / "specs/good.yaml"
    text = spec.read_text()
    try:
        spec.write_text(text + "min_steps_logged: 2\n")
        ended, records = run(fleet, "specs/good.yaml")
    finally:
        spec.write_text(text)
    assert (ended.code, records) == (6, {})
    assert "second (other): its project differs: specs/good.yaml (changed)" in ended.text
    missing = fleet.project.pytest("--environment=cpu", *fleet.options, "specs/good.yaml")
    assert missing.code == 6
    assert f"no worker for cpu at tls://{fleet.address}; start one" in missing.text
    alone = fleet.project.pytest(BOTH, "specs/good.yaml")
    assert (alone.code, "name its scheduler with --fleet" in alone.text) == (4, True)


def test_attacks(fleet: Fleet, tmp_path: Path) -> None:
    """Each member listens at one port, and unpickles nothing of anybody without its certificate."""
    theirs = make_certificates(tmp_path / "theirs")
    alone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    alone.check_hostname, alone.verify_mode = False, ssl.CERT_NONE
    other = theirs.context()
    other.verify_mode = ssl.CERT_NONE
    strangers = {"plain": None, "anonymous": alone, "other": other}
    ports = [sorted(listens(member)) for member in fleet.members[:3]]
    assert [len(each) for each in ports] == [1, 1, 1], ports
    for (port,) in ports:
        for name, context in strangers.items():
            trace = tmp_path / f"{name}-{port}"
            attack(port, context, trace)
            assert not trace.exists(), f"{name} ran code by port {port}"
    (port,) = ports[1]
    trace = tmp_path / "member"
    attack(port, read_certificates(fleet.certificates).context(), trace)
    assert trace.exists(), "the attack would harm nobody, so that it proves nothing"
    assert run(fleet, "specs/good.yaml")[0].code == 0


class Harm:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def listens(member: Member) -> set[int]:
    """The ports that a process listens at, by IPv4 or IPv6."""
    found = psutil.Process(member.process.pid).net_connections(kind="inet")
    return {one.laddr.port for one in found if one.status == psutil.CONN_LISTEN}


def attack(port: int, context: ssl.SSLContext | None, trace: Path) -> None:
    """Say what a worker of Dask's runs: the handshake, then a request with a pickled payload."""
    payload = pickle.dumps(Harm(trace))
    greeting = {"compression": None, "python": [3, 11, 0], "pickle-protocol": 5}
    request = {"op": "run", "function": payload, "args": payload, "kwargs": payload, "reply": True}
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as plain:
            connection = plain if context is None else context.wrap_socket(plain)
            with connection:
                for message in (greeting, request):
                    frames = pack_frames(protocol.dumps(message))
                    connection.sendall(len(frames).to_bytes(8, "little") + frames)
                connection.settimeout(3)
                while connection.recv(65536):
                    pass
    except OSError:
        pass  # refused, as it should be
    time.sleep(0.2)


def test_what_dies(fleet: Fleet) -> None:
    """A cell that kills three workers ends as an error; a scheduler that comes back loses none."""
    for number in range(3):
        fleet.worker("other", "-n1", f"--name=doomed-{number}")
    fleet.members[2].end(signal.SIGTERM)
    ended, records = run(fleet, "specs/deadly.yaml", "-k", "other")
    assert ended.code == 1, ended.text
    deadly = records["deadly[other-plain]"]
    assert deadly["outcome"] == "error"
    assert "3 workers died while they ran it" in deadly["reason"]


def children(fleet: Fleet) -> list[psutil.Process]:
    """All processes below the fleet's workers."""
    found = []
    for member in fleet.members:
        if member.process.poll() is None:
            found += psutil.Process(member.process.pid).children(recursive=True)
    return found


def python() -> list[str]:
    """This Python."""
    import sys

    return [sys.executable]
