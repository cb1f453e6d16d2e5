"""A server is ready, is watched and ends with all that it started, whatever happens around it."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
from tests.stack.serving_step import children, family

from tunematrix.errors import MachineProblem, StepFailed
from tunematrix.paths import python_path
from tunematrix.stack.steps.serving import ports
from tunematrix.stack.steps.serving.server import Server, started

TOY = Path(__file__).with_name("toy_openai_server.py")
SECONDS = 30.0


def words(port: int, fault: str = "none") -> tuple[str, ...]:
    """Return what starts the toy server."""
    return (sys.executable, str(TOY), str(port), fault)


def wait_for(what: Callable[[], bool]) -> None:
    """Wait until something is so, or fail."""
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_clean_end(tmp_path: Path) -> None:
    """SIGTERM ends it; nothing is left, and the port is free."""
    port, before = ports.chosen(0), family()
    with started(words(port), port, tmp_path / "log") as server:
        assert server.wait_until_ready(SECONDS, lambda _: None) > 0
        assert not ports.is_free(port)
        end = server.stop()
    assert (end.code, end.asked, end.killed) == (-signal.SIGTERM, True, False)
    assert (end.left, end.port_free) == ((), True)
    assert family() <= before


def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """After the time that it has for a polite end."""
    port = ports.chosen(0)
    with started(words(port, "ignores SIGTERM"), port, tmp_path / "log", polite=1.0) as server:
        server.wait_until_ready(SECONDS, lambda _: None)
        end = server.stop()
    assert (end.code, end.killed, end.port_free) == (-signal.SIGKILL, True, True)
    assert 1.0 <= end.seconds < 5


def test_a_helper_that_outlives_it_is_named_and_ended(tmp_path: Path) -> None:
    """Even one that has left its session."""
    port, before = ports.chosen(0), family()
    with started(words(port, "leaves a helper"), port, tmp_path / "log") as server:
        server.wait_until_ready(SECONDS, lambda _: None)
        end = server.stop()
    (left,) = end.left
    assert "time.sleep(600)" in left and not end.killed
    assert family() <= before


def test_it_is_told_how_long_it_waits(tmp_path: Path) -> None:
    """Every other second, until the time is over; then the server has ended."""
    port, told = ports.chosen(0), list[float]()
    with (
        started(words(port, "never ready"), port, tmp_path / "log") as server,
        pytest.raises(StepFailed, match=r"wasn't ready within its 2.5 s \(server_timeout\)"),
    ):
        server.wait_until_ready(2.5, told.append)
    assert [int(one) for one in told] == [2]
    assert ports.is_free(port)


class Healthy(BaseHTTPRequestHandler):
    """Somebody else's server."""

    def do_GET(self) -> None:
        """Answer everything well."""
        self.send_response(200)
        self.end_headers()


def test_another_server_at_its_port_is_not_taken_for_it(tmp_path: Path) -> None:
    """Ours isn't ready, whoever answers; and when it ends, it is said who has the port."""
    with HTTPServer(("127.0.0.1", 0), Healthy) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        port = other.server_port
        sleeps = (sys.executable, "-c", "import time; time.sleep(600)")
        with (
            started(sleeps, port, tmp_path / "log") as server,
            pytest.raises(StepFailed, match="wasn't ready within"),
        ):
            server.wait_until_ready(1.0, lambda _: None)
        with (
            started(words(port), port, tmp_path / "log") as server,
            pytest.raises(MachineProblem, match=rf"port {port} .* is taken by .*pid {os.getpid()}"),
        ):
            server.wait_until_ready(SECONDS, lambda _: None)
        other.shutdown()


def test_a_port_that_is_taken() -> None:
    """It is said by whom; one that a connection only lingers at is free."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(MachineProblem) as caught:
            ports.chosen(port)
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = holder.accept()
        accepted.close()
        client.close()
    assert f"port {port} of 127.0.0.1 is taken by " in str(caught.value)
    assert f"(pid {os.getpid()})" in str(caught.value)
    assert "write port: 0" in str(caught.value)
    assert ports.chosen(port) == port


def test_ports_are_drawn_apart() -> None:
    """Whatever a step has seeded: others would have seeded the same."""
    drawn = set()
    for _ in range(4):
        random.seed(0)
        drawn.add(ports.chosen(0))
    assert len(drawn) > 1


SCRIPT = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from tunematrix.stack.steps.serving.server import started
    port, log, *words = sys.argv[1:]
    with started(words, int(port), Path(log)) as server:
        server.wait_until_ready(30, lambda _: None)
        print(server._pid, server._guard.pid, flush=True)
        time.sleep(600)
    """
)


@pytest.mark.parametrize("victim", ["step", "guard"])
@pytest.mark.parametrize("fault", ["none", "ignores SIGTERM"])
def test_it_does_not_outlive_a_kill(tmp_path: Path, victim: str, fault: str) -> None:
    """kill -9 of the step's process, or of the guard between them."""
    if fault != "none" and victim == "step":
        pytest.skip("the guard then waits for as long as a polite end may take")
    if victim == "guard" and sys.platform != "linux":
        pytest.skip("only Linux's kernel ends a process with its parent")
    port = ports.chosen(0)
    step = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(port), str(tmp_path / "log"), *words(port, fault)],
        env={**os.environ, "PYTHONPATH": python_path()},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert step.stdout is not None
    with step, step.stdout:
        server, guard = (psutil.Process(int(pid)) for pid in step.stdout.readline().split())
        (step if victim == "step" else guard).kill()
        wait_for(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
        wait_for(lambda: ports.is_free(port))
        step.kill()


def test_a_guard_that_is_gone_is_no_clean_end(tmp_path: Path) -> None:
    """Nobody can say then what was left."""
    port = ports.chosen(0)
    with started(words(port), port, tmp_path / "log") as server:
        server.wait_until_ready(SECONDS, lambda _: None)
        _guard_of(server).kill()
        with pytest.raises(MachineProblem, match="guards the server was ended from outside"):
            server.stop()


def _guard_of(server: Server) -> psutil.Process:
    (found,) = (
        each
        for each in children()
        if "tunematrix.stack.steps.serving.guard" in each.cmdline()
        and str(server.port) in each.cmdline()
    )
    return found
