"""The same jobs on a Slurm cluster, as arrays, through submitit (an extra: pip install submitit)."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runner import ROOT
from runner.jobs import Job
from runner.schedule import USERS_MISTAKE, Task, Watcher, describe_end, start, was_interrupted

logger = logging.getLogger(__name__)

# Of one job; --slurm KEY=VALUE overrides them and adds others (partition, qos, slurm_array_parallelism, …).
RESOURCES = {"gpus_per_node": 1, "cpus_per_task": 8, "timeout_min": 240}
POLL = 1.0  # seconds


def parse_resources(pairs: Sequence[str]) -> dict[str, Any]:
    """``["partition=gpu", "timeout_min=60"]`` as submitit's parameters; whole numbers become numbers.

    Raises:
        ValueError: a word is not KEY=VALUE.
    """
    resources: dict[str, Any] = dict(RESOURCES)
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise ValueError(f'--slurm takes KEY=VALUE, e.g. partition=gpu, not "{pair}"')
        name = key if key in RESOURCES or key.startswith(("slurm_", "mem_gb", "nodes")) else f"slurm_{key}"
        resources[name] = int(value) if value.lstrip("-").isdigit() else value
    return resources


def describe_request(tasks: Sequence[Task], pairs: Sequence[str]) -> list[str]:
    """What Slurm would be asked for, in lines."""
    resources = " ".join(
        f"{name.removeprefix('slurm_')}={value}" for name, value in parse_resources(pairs).items()
    )
    lines = [f"each job would ask Slurm for: {resources}"]
    for number, wave in enumerate(waves(tasks)):
        when = ", which begins when the first has ended" if number else ""
        lines.append(f"array {number + 1}: {len(wave)} jobs{when}")
    return lines


def run_job(command: list[str], log: str) -> tuple[int, float]:
    """Runs on the node: one job, and once more if it crashes; returns the exit status and the seconds."""
    began = time.time()
    returncode = start(command, Path(log), {}).wait()
    if returncode not in (0, USERS_MISTAKE) and not was_interrupted(returncode):
        returncode = start(command, Path(log), {}).wait()
    return returncode, time.time() - began


def waves(tasks: Sequence[Task]) -> list[list[Task]]:
    """The tasks that wait for nobody, then those that wait for one of these."""
    names = {task.job.name for task in tasks}
    first = [task for task in tasks if task.job.after not in names]
    second = [task for task in tasks if task.job.after in names]
    return [wave for wave in (first, second) if wave]


class ClusterScheduler:
    """Submits tasks as arrays and follows them; an interrupt leaves the submitted jobs alone.

    Args:
        tasks: those still to be done.
        watcher: gets told.
        folder: submitit's own files.
        resources: submitit's parameters.
        cluster: ``slurm``, or ``local`` for processes on this machine, without a queue.
        command: the command line of a job.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        watcher: Watcher,
        folder: Path,
        resources: dict[str, Any],
        cluster: str = "slurm",
        command: Callable[[Job], list[str]] = Job.command,
    ) -> None:
        try:
            import submitit
        except ImportError:
            raise ValueError("--launcher slurm needs submitit: pip install submitit") from None
        self.tasks = tasks
        self.watcher = watcher
        self.cluster = cluster
        self.command = command
        try:
            self.executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        except RuntimeError as error:  # no sbatch on this machine
            raise ValueError(f"--launcher {cluster}: {error}") from error
        self.executor.update_parameters(name="heba", **(resources if cluster == "slurm" else {}))
        self.submitted: dict[str, Any] = {}

    def run(self) -> None:
        """Returns when every task is finished, failed or blocked.

        Slurm itself keeps the second wave back until the first has ended. What ended without its model
        fails there with train.py's own message.

        Raises:
            KeyboardInterrupt: the submitted jobs go on.
        """
        previous: list[Task] = []
        for wave in waves(self.tasks):
            if self.cluster != "slurm":
                self.follow(previous)
            self.submit(wave, previous)
            previous = wave
        self.follow(self.tasks)

    def submit(self, wave: Sequence[Task], previous: Sequence[Task]) -> None:
        """Submits an array that begins when the previous one has ended."""
        if previous and self.cluster == "slurm":
            ids = sorted({self.submitted[task.job.name].job_id.split("_")[0] for task in previous})
            self.executor.update_parameters(
                slurm_additional_parameters={"dependency": f"afterany:{':'.join(ids)}"}
            )
        # The nodes find this package without its being installed.
        path = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([path] if path else [])])
        try:
            jobs = self.executor.map_array(
                run_job, [self.command(task.job) for task in wave], [str(task.log) for task in wave]
            )
        finally:
            os.environ.pop("PYTHONPATH")
            if path is not None:
                os.environ["PYTHONPATH"] = path
        for task, job in zip(wave, jobs, strict=True):
            self.submitted[task.job.name] = job
            logger.info("%s: job %s", task.job.name, job.job_id)

    def follow(self, tasks: Sequence[Task]) -> None:
        """Watches submitted tasks until all have ended."""
        while unended := [task for task in tasks if task.status in ("waiting", "running")]:
            for task in unended:
                self.look_at(task)
            self.watcher.tick()
            time.sleep(POLL)

    def look_at(self, task: Task) -> None:
        """Brings a task's status up to date."""
        job = self.submitted[task.job.name]
        if job.done():
            error = job.exception()
            task.returncode, task.seconds = (None, 0.0) if error else job.result()
            if task.returncode == 0:
                task.status = "finished"
            elif error:
                last = str(error).strip().splitlines()[-1]
                task.status, task.reason = "failed", f"{job.state}: {last} (see {job.paths.stderr})"
            else:
                task.status = "interrupted" if was_interrupted(task.returncode) else "failed"
                task.reason = describe_end(task.returncode, task.log, [])
            self.watcher.changed(task)
        elif task.status == "waiting" and job.state == "RUNNING":
            task.status, task.since = "running", time.time()
            self.watcher.changed(task)
