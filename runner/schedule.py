"""Runs jobs in processes of their own, a few at a time; what crashes is tried once more."""

import contextlib
import ctypes
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from command_line import INTERRUPTED, STOP_SIGNALS, interrupting_signals, names_file, one_line
from fileio import lock_holder
from fileio.errors import FULL
from reporting.text import visible
from runner.jobs import Job

logger = logging.getLogger(__name__)

USERS_MISTAKE = 2  # train.py's status for what a second try does not cure
POLL = 0.2  # seconds
PATIENCE = (20.0, 5.0)  # seconds after SIGINT, then after SIGTERM
ALIKE = 2  # jobs that fail with the same user's mistake stop those that share what they have in common
PROMPT = "\n$ "  # before the command of each attempt in a log
PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent ends
LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


@dataclass
class Slot:
    """A place where one job runs at a time: a GPU, or a share of the CPU's cores."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Task:
    """A job and how it fares: waiting, running, finished, failed, interrupted (a signal came to it alone), or
    blocked by the failure of another."""

    job: Job
    log: Path
    status: str = "waiting"
    attempts: int = 0
    since: float = 0.0  # when the present attempt began
    seconds: float = 0.0  # how long the last attempt took
    returncode: int | None = None
    reason: str = ""  # why it did not finish
    was_finished: bool = False  # before this call
    holder: str = ""  # another process in its folder, which it waits for
    slot: Slot | None = None
    process: subprocess.Popen | None = None


class Watcher(Protocol):
    """Who wants to know how the tasks fare."""

    def changed(self, task: Task) -> None:
        """Called when a task begins, ends, or is tried again."""

    def tick(self) -> None:
        """Called all the time."""


class Scheduler:
    """Runs tasks on slots until nothing is left to do.

    Args:
        tasks: in the order in which they should begin.
        slots: how many run at a time, and where.
        watcher: gets told.
        command: the command line of a job.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        slots: Sequence[Slot],
        watcher: Watcher,
        command: Callable[[Job], list[str]] = Job.command,
    ) -> None:
        self.tasks = tasks
        self.free = list(slots)
        self.watcher = watcher
        self.command = command

    def run(self) -> None:
        """Returns when there is nothing left to do.

        Raises:
            KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP came; the processes have been stopped.
        """
        with interrupting_signals(also=[signal.SIGINT]):  # which a shell's background jobs would ignore
            try:
                while self.step():
                    time.sleep(POLL)
            except BaseException:
                self.stop()
                raise

    def step(self) -> bool:
        """Looks after the running tasks and begins what can begin; False when all is done."""
        for task in self.running():
            if task.process.poll() is not None:
                self.end(task)
        for task in self.tasks:
            if task.status == "waiting":
                self.begin_or_block(task)
        self.watcher.tick()
        return any(task.status in ("waiting", "running") for task in self.tasks)

    def running(self) -> list[Task]:
        return [task for task in self.tasks if task.status == "running"]

    def begin_or_block(self, task: Task) -> None:
        """Begins a task if its model is trained and a slot is free."""
        first = next((other for other in self.tasks if other.job.name == task.job.after), None)
        if first is not None and first.status in ("failed", "interrupted", "blocked"):
            task.status, task.reason = "blocked", f'"{first.job.name}" {first.status}'
            self.watcher.changed(task)
        elif self.free and (first is None or first.status == "finished") and not self.is_held(task):
            self.begin(task, self.free.pop(0))

    def is_held(self, task: Task) -> bool:
        """Whether another process works in the task's folders: another call's, or one whose call was killed.

        The task waits for it, and then goes on from what it leaves.
        """
        holder = holder_of(task.job)
        if holder and holder != task.holder:
            task.holder = holder
            self.watcher.changed(task)
        task.holder = holder
        return bool(holder)

    def begin(self, task: Task, slot: Slot) -> None:
        task.slot, task.since = slot, time.time()
        try:
            task.process = start(self.command(task.job), task.log, slot.environment)
        except OSError as error:
            if error.errno in FULL:  # the others will not find room either
                raise
            self.free.append(slot)
            task.status, task.reason = "failed", f"could not be started: {one_line(error)}"
        else:
            task.status = "running"
            task.attempts += 1
        self.watcher.changed(task)

    def end(self, task: Task) -> None:
        """Books the end of a process: finished, interrupted, failed, or to be tried again."""
        end_group(task.process)
        self.free.append(task.slot)
        task.returncode, task.seconds = task.process.returncode, time.time() - task.since
        lacking = [run.folder for run in task.job.runs if not (run.folder / "results.json").is_file()]
        if task.returncode == 0 and not lacking:
            task.status = "finished"
        elif was_interrupted(task.returncode):
            task.status, task.reason = "interrupted", describe_end(task.returncode, task.log, lacking)
        elif task.returncode == USERS_MISTAKE and holder_of(task.job):  # who came between look and start
            task.status = "waiting"
            task.attempts -= 1
            return
        else:
            again = task.attempts == 1 and task.returncode != USERS_MISTAKE
            task.status = "waiting" if again else "failed"
            task.reason = describe_end(task.returncode, task.log, lacking)
        self.watcher.changed(task)
        if task.status == "failed" and task.returncode == USERS_MISTAKE:
            self.stop_like(task)

    def stop_like(self, task: Task) -> None:
        """Blocks the waiting tasks that share with those that failed alike what these have in common.

        Two seeds of a method on a data set stop its other seeds, a method's failures on two data sets the
        method, and failures of two methods on two data sets everything.
        """
        reason = task.job.alike(task.reason)
        failed = [t for t in self.tasks if t.status == "failed" and t.returncode == USERS_MISTAKE]
        failed = [other for other in failed if other.job.alike(other.reason) == reason]
        if len(failed) < ALIKE:
            return
        shared = set.intersection(*(traits(other.job) for other in failed))
        for other in self.tasks:
            if other.status == "waiting" and shared <= traits(other.job):
                names = " and ".join(f'"{one.job.name}"' for one in failed[:ALIKE])
                other.status, other.reason = "blocked", f"{names} failed alike"
                self.watcher.changed(other)

    def stop(self) -> None:
        """Stops what is running: SIGINT, on which train.py keeps its resume file, then harder means."""
        processes = [task.process for task in self.running()]
        for task in self.running():
            task.status = "waiting"
        with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C: no more patience
            # To train.py alone: loader workers that stop first would look like a crash.
            signal_and_wait(processes, lambda process: process.send_signal(signal.SIGINT), PATIENCE[0])
        with contextlib.suppress(KeyboardInterrupt):
            signal_and_wait(processes, end_group, PATIENCE[1])
        for process in processes:
            end_group(process, signal.SIGKILL)
            process.wait()


def holder_of(job: Job) -> str:
    """Which process works in one of a job's folders; "" if none does."""
    holders = (lock_holder(run.folder / ".lock") for run in job.runs)
    return next(filter(None, holders), "")


def traits(job: Job) -> set[str]:
    """What a job has in common with others: its method, data set, shots."""
    return {*job.kind.split(), job.dataset}


def start(command: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen:
    """Starts a command in a process group of its own; everything it says is added to ``log``.

    Raises:
        OSError: the log cannot be opened, or no process can be started.
    """
    parent = os.getpid()

    def end_with_parent() -> None:
        """Runs in the new process: a parent that is killed cannot stop it, so Linux sends it SIGTERM then."""
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    log.parent.mkdir(parents=True, exist_ok=True)
    with names_file(str(log)), log.open("a", encoding="utf-8") as file:
        file.write(f"{PROMPT}{' '.join(shlex.join(command).splitlines())}\n")  # what follows is its own
        file.flush()
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            start_new_session=True,
            preexec_fn=end_with_parent if LIBC is not None else None,
        )


def signal_and_wait(
    processes: list[subprocess.Popen], send: Callable[[subprocess.Popen], None], patience: float
) -> None:
    """Signals the living processes and waits until all have ended, at most ``patience`` seconds."""
    deadline = time.monotonic() + patience
    for process in processes:
        if process.poll() is None:
            send(process)
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)


def end_group(process: subprocess.Popen, number: int = signal.SIGTERM) -> None:
    """Signals all that is left of a process's group, such as loader workers of a crashed one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def was_interrupted(returncode: int) -> bool:
    """Whether a signal that asks a process to stop has ended it: not a crash, and not to be tried again."""
    return returncode in (INTERRUPTED, *(-number for number in (signal.SIGINT, *STOP_SIGNALS)))


def describe_end(returncode: int, log: Path, lacking: list[Path]) -> str:
    """Why a task's last attempt failed: its error line or the last line it wrote, and the exit status."""
    if returncode == 0:
        return f'it ended well but left no "{lacking[0] / "results.json"}"'
    if returncode < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-returncode).name}"
    lines = [line.strip() for line in last_attempt(log).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    last = (errors or lines or ["it said nothing"])[-1]
    last = last.removeprefix("error: ").removesuffix(" (HEBA_TRACEBACK=1 shows where)")
    return f"{visible(last)} (exit status {returncode})"


def last_attempt(log: Path, size: int = 1_000_000) -> str:
    """What the last attempt of a task wrote to its log, at most the last ``size`` bytes of it.

    A log that cannot be read gives "".
    """
    try:
        with log.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - size, 0))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition(PROMPT)[2].partition("\n")[2] if PROMPT in text else text
