"""Several processes by torchrun's own agent: an entry goes in, and each rank calls it.

Nothing listens on a port: ranks meet through files in the run directory, and what they then
exchange goes over the loopback interface.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.context import ForkProcess
from pathlib import Path

import psutil
import torch
from torch import distributed
from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tunematrix.errors import RanksEnded
from tunematrix.evidence.run_dir import RunDir
from tunematrix.stack.backends.common import Unusable
from tunematrix.stack.releases import fitting, own_device

COLLECTIVES: Mapping[str, str] = {"cpu": "gloo", "cuda": "nccl"}
"""What ranks communicate with, by device."""
MEETING_SECONDS = 60
END_SECONDS = 5
TICK = 0.05
NOISY = ("torch.distributed.elastic", "torch.multiprocessing")
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class RankLogs(LogsSpecs):
    """Sends what each rank prints to its own folder, from where the agent passes it on."""

    def __init__(self, run_dir: RunDir) -> None:
        super().__init__()
        self.run_dir = run_dir

    def reify(self, envs: Mapping[int, Mapping[str, str]]) -> LogsDest:
        """Name the files of each rank."""
        folders = {rank: self.run_dir.rank(rank) for rank in envs}
        for folder in folders.values():
            folder.path.mkdir(exist_ok=True)
        stdouts = {rank: str(folder.stdout) for rank, folder in folders.items()}
        stderrs = {rank: str(folder.stderr) for rank, folder in folders.items()}
        # What a rank raises is among its events.
        errors = dict.fromkeys(folders, os.devnull)
        none = {"filtered_stdout": os.devnull, "filtered_stderr": os.devnull}
        known = fitting(LogsDest, none)
        return LogsDest(stdouts, stderrs, stdouts, stderrs, errors, **known)

    @property
    def root_log_dir(self) -> str:
        """Name the folder that they are in."""
        return str(self.run_dir.path)


def launch(
    entry: Callable[..., None],
    run_dir: Path,
    *,
    processes: int,
    timeout: float,
    device: str,
    threads: int,
) -> None:
    """Call `entry` in each of several processes.

    Args:
        entry: takes the run directory, the number of a rank, and what joins it with the others.
        run_dir: of the cell.
        processes: how many.
        timeout: seconds that a rank waits for the others in one operation.
        device: PyTorch's name of its kind; each rank takes one of its own, but for the CPU.
        threads: of each rank.

    Raises:
        RanksEnded: one of them failed; the agent has ended the rest.
    """
    with tempfile.TemporaryDirectory(prefix="ranks-", dir=run_dir) as folder:
        meeting = Path(folder)
        config = _config(RunDir(run_dir), meeting, processes, device)
        arguments = (entry, str(run_dir), str(meeting / "ranks"), device, timeout)
        with _surroundings(threads):
            try:
                elastic_launch(config, _run)(*arguments)
            except ChildFailedError as error:
                codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
                raise RanksEnded(codes, processes) from None


def _config(run_dir: RunDir, meeting: Path, processes: int, device: str) -> LaunchConfig:
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        logs_specs=RankLogs(run_dir),
        log_line_prefix_template="[rank ${rank}] ",
        run_id=run_dir.path.name,
        rdzv_backend="c10d",
        rdzv_endpoint=str(meeting / "agents"),
        rdzv_configs={"store_type": "file", "timeout": MEETING_SECONDS},
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=TICK,
        start_method=_start_method(),
        **own_device(LaunchConfig, device),
        **fitting(LaunchConfig, {"shutdown_timeout": END_SECONDS}),
    )


def claim(cache_dir: str, device: str, processes: int) -> None:
    """See that each process can have a device of its own.

    Raises:
        Unusable: there are too few.
    """
    found = processes if device == "cpu" else torch.accelerator.device_count()
    if found < processes:
        reason = f"{processes} processes take a {device} device each, and PyTorch finds {found}"
        wanted, fix = f"{processes} devices", "set launcher.processes to as many"
        raise Unusable(reason, present=found > 0, fix=fix, wanted=wanted)


def _start_method() -> str:
    """Forks from a process that was forked and has computed nothing; others can't be trusted."""
    was_forked = isinstance(multiprocessing.current_process(), ForkProcess)
    return "fork" if was_forked else "spawn"


def _run(
    entry: Callable[..., None], run_dir: str, meeting: str, device: str, timeout: float
) -> None:
    """Body of a rank."""
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        entry(run_dir, rank, _group(meeting, rank, processes, device, timeout))
    except BaseException as error:
        # The agent keeps what was raised to itself, and takes an early exit(0) for a good end.
        traceback.print_exc()
        if isinstance(error, SystemExit):
            raise RuntimeError(f"the recipe called exit({error.code})") from error
        raise


@contextmanager
def _group(meeting: str, rank: int, processes: int, device: str, timeout: float) -> Iterator[None]:
    """Makes this process one of its group."""
    if device != "cpu":
        torch.accelerator.set_device_index(0)  # the only one that the agent lets it see
    distributed.init_process_group(
        COLLECTIVES[device],
        store=distributed.FileStore(meeting, processes),
        rank=rank,
        world_size=processes,
        timeout=timedelta(seconds=timeout),
    )
    yield
    distributed.destroy_process_group()


@contextmanager
def _surroundings(threads: int) -> Iterator[None]:
    """Sets what ranks inherit; the agent's own signal handlers don't outlive it."""
    loopback = next(
        name
        for name, addresses in psutil.net_if_addrs().items()
        if any(one.family == socket.AF_INET and one.address == "127.0.0.1" for one in addresses)
    )
    before = dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    levels = {name: logging.getLogger(name).level for name in NOISY}
    for name in NOISY:
        # It logs what `RanksEnded` says, and takes seconds to import what formats it.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.update(
        {
            "GLOO_SOCKET_IFNAME": loopback,
            "NCCL_SOCKET_IFNAME": loopback,
            # Left open, accelerate takes a share of the cores.
            "OMP_NUM_THREADS": str(threads),
        }
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for number, handler in handlers.items():
            signal.signal(number, handler)
