"""A fleet whose workers are on hosts of their own, as far as addresses and cables go.

    python -m tests.bench.fleet_hosts FOLDER

Each worker has a network of its own and a virtual cable to the scheduler's; one cable is pulled
while cells run. It needs Linux and root, changes nothing outside, and is run by hand; docs/fleet.md
has what it found.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.bench.fleet_kills import project_in
from tests.plugin.conftest import Project
from tests.plugin.fleets import fleet_of

CELLS, HOSTS = 90, 2
HERE = "10.99.{}.1"
THERE = "10.99.{}.2"
PORT = 8786


def sh(command: str) -> None:
    """Run a command that has to succeed."""
    subprocess.run(command, shell=True, check=True)  # noqa: S602 - of our own


def lay_cables() -> None:
    """Give each host a network, and a cable to it."""
    sh("mount -t tmpfs none /run && ip link set lo up")
    for n in range(HOSTS):
        sh(f"ip netns add host{n} && ip link add cable{n} type veth peer name eth0 netns host{n}")
        sh(f"ip addr add {HERE.format(n)}/24 dev cable{n} && ip link set cable{n} up")
        inside = f"ip netns exec host{n}"
        sh(f"{inside} ip addr add {THERE.format(n)}/24 dev eth0 && {inside} ip link set lo up")
        sh(f"{inside} ip link set eth0 up && {inside} ip route add default via {HERE.format(n)}")
    sh("sysctl -qw net.ipv4.ip_forward=1")


def main(folder: Path) -> int:
    """Run cells on both hosts, pull a cable, and say what came of it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lay_cables()
    project = project_in(folder)
    with fleet_of(project) as fleet:
        own = [f"--certificates={fleet.certificates}"]
        verbs = [sys.executable, "-m", "tunematrix"]
        others = [subprocess.Popen([*verbs, "scheduler", f"--port={PORT}", *own], cwd=folder)]
        time.sleep(5)
        for n in range(HOSTS):
            at = f"{HERE.format(n)}:{PORT}"
            worker = [*verbs, "worker", at, "-e", "plain", "-n1", f"--name=host{n}", *own]
            inside = ["ip", "netns", "exec", f"host{n}"]
            others.append(subprocess.Popen([*inside, *worker], cwd=folder))
        try:
            return _pulled(project, own)
        finally:
            for one in reversed(others):
                one.kill()
                one.wait()


def _pulled(project: Project, own: list[str]) -> int:
    store = project.root / ".tunematrix/plain/results.jsonl"
    at = f"--fleet={HERE.format(0)}:{PORT}"
    command = [sys.executable, "-m", "pytest", "--environment=plain", at, *own, "-q"]
    project.wait_for(lambda: project.run([*command, "--seeds=1"]).code == 0, seconds=120)
    store.unlink()
    began = time.monotonic()
    with project.started([*command, f"--seeds={CELLS}"]) as run:
        project.wait_for(lambda: store.exists() and store.read_text().count("\n") > CELLS // 4)
        sh("ip link set cable1 down")
        print(f"{time.monotonic() - began:.0f} s: a cable was pulled", flush=True)
        text, _ = run.communicate(timeout=400)
    print(f"{time.monotonic() - began:.0f} s: ended with {run.returncode}")
    records = [json.loads(line) for line in store.read_text().splitlines()]
    counted = Counter(one["cell_id"] for one in records)
    workers = Counter(one["machine"].get("worker") for one in records)
    print(f"cells: {len(counted)} of {CELLS}, twice: {len(records) - len(counted)}")
    print(f"outcomes: {dict(Counter(one['outcome'] for one in records))}, by: {dict(workers)}")
    print("\n".join(text.splitlines()[:6]))
    return int(len(counted) < CELLS or len(records) > CELLS or run.returncode != 0)


if __name__ == "__main__":
    if os.environ.get("TUNEMATRIX_APART"):
        sys.exit(main(Path(sys.argv[1]).resolve()))
    apart = ["unshare", "--net", "--mount", sys.executable, "-m", "tests.bench.fleet_hosts"]
    os.environ["TUNEMATRIX_APART"] = "1"
    os.execvp(apart[0], [*apart, *sys.argv[1:]])
