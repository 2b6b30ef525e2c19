"""What the user sees: a live table in a terminal, plain lines elsewhere, a summary at the end."""

import json
import os
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TextIO

from tabulate import tabulate

from reporting.read import read_results
from runner.schedule import Task

REFRESH = 1.0  # seconds


class Display:
    """Follows the tasks.

    Args:
        tasks: all tasks, those finished before included.
        slots: how many run at a time, for the estimate of the time left.
        out: a terminal gets a table that is redrawn in place, anything else a line for each event. Default:
            stdout.
    """

    def __init__(self, tasks: Sequence[Task], slots: int, out: TextIO | None = None) -> None:
        self.tasks = tasks
        self.slots = slots
        self.out = out or sys.stdout
        self.live = self.out.isatty() and os.environ.get("TERM") != "dumb"
        self.began = time.time()
        self.drawn = 0  # lines of the table on the screen
        self.drawn_at = 0.0

    def changed(self, task: Task) -> None:
        """Says what happened to a task."""
        done = sum(other.status not in ("waiting", "running") for other in self.tasks)
        what = {
            "running": f"started{' again' if task.attempts > 1 else ''}{place(task)}",
            "waiting": f"crashed, will be tried once more: {task.reason}",
            "finished": f"finished in {clock(task.seconds)}: {accuracies(task)}",
            "failed": f"FAILED: {task.reason}; log: {task.log}",
            "interrupted": f"interrupted: {task.reason}",
            "blocked": f"not run: {task.reason}",
        }[task.status]
        self.erase()
        if not self.live or task.status != "running":
            self.out.write(f"[{done}/{len(self.tasks)}] {task.job.name}: {what}\n")
        self.out.flush()
        self.drawn_at = 0.0

    def tick(self) -> None:
        """Redraws the live table about once a second."""
        if self.live and time.time() - self.drawn_at >= REFRESH:
            self.erase()
            columns, rows = shutil.get_terminal_size()
            lines = [line[: columns - 1] for line in self.table()[: max(rows - 2, 1)]]
            self.out.write("".join(f"{line}\n" for line in lines))
            self.out.flush()
            self.drawn, self.drawn_at = len(lines), time.time()

    def erase(self) -> None:
        """Takes the live table off the screen: what is written next stands in its place."""
        if self.drawn:
            self.out.write(f"\x1b[{self.drawn}A\x1b[J")
            self.drawn = 0

    def table(self) -> list[str]:
        """The live table's lines: counts and time, then the jobs that run and those that failed."""
        left, is_all = time_left(self.tasks, self.slots)
        so_far = f"{clock(time.time() - self.began)} so far"
        if left:
            so_far += f", {'about' if is_all else 'at least'} {clock(left)} left"
        rows = [
            ("running", task.job.name, task.slot.name, clock(time.time() - task.since), progress(task))
            for task in self.tasks
            if task.status == "running"
        ]
        rows += [
            (task.status, task.job.name, "", "", task.reason)
            for task in self.tasks
            if task.status in ("failed", "interrupted", "blocked")
        ]
        return [
            counts(self.tasks),
            so_far,
            *tabulate(rows, tablefmt="plain").splitlines(),
        ]

    def summary(self) -> str:
        """How it ended: the counts, and for each job that did not finish why and where its log is."""
        self.erase()
        lines = [f"{counts(self.tasks)} in {clock(time.time() - self.began)}"]
        for task in self.tasks:
            if task.status in ("failed", "interrupted"):
                lines += [f"{task.status}: {task.job.name}: {task.reason}", f"    log: {task.log}"]
            elif task.status == "blocked":
                lines.append(f"not run: {task.job.name}: {task.reason}")
        return "\n".join(lines)


def counts(tasks: Sequence[Task]) -> str:
    """``12 of 33 jobs finished (10 before), 2 running, 1 failed, 18 waiting``."""
    numbers = Counter(task.status for task in tasks)
    before = sum(task.was_finished for task in tasks)
    parts = [
        f"{numbers['finished']} of {len(tasks)} jobs finished" + (f" ({before} before)" if before else "")
    ]
    names = {"running": "running", "failed": "failed", "interrupted": "interrupted", "blocked": "not run"}
    names["waiting"] = "waiting"
    parts += [f"{numbers[status]} {name}" for status, name in names.items() if numbers[status]]
    return ", ".join(parts)


def time_left(tasks: Sequence[Task], slots: int) -> tuple[float, bool]:
    """Seconds that the rest will take by jobs of the same kind that are done, and whether that is all.

    Of a kind none of which is done nothing is known: it counts as nothing, and the seconds are the least that
    is left. A job that takes longer than the others of its kind is expected to be over soon.
    """
    kinds: dict[str, list[float]] = {}
    for task in tasks:
        if task.status == "finished" and not task.was_finished:
            kinds.setdefault(task.job.kind, []).append(task.seconds)
    rest = [task for task in tasks if task.status in ("waiting", "running")]
    known = [task for task in rest if task.job.kind in kinds]
    lefts = [0.0]
    for task in known:
        spent = time.time() - task.since if task.status == "running" else 0.0
        lefts.append(max(statistics.fmean(kinds[task.job.kind]) - spent, 0.1 * spent))
    return max(sum(lefts) / slots, max(lefts)), len(known) == len(rest)


def accuracies(task: Task) -> str:
    """``base 97.12, new 94.00``, or nothing where a record has no accuracy."""
    found = []
    for run in task.job.runs:
        result = read_results(run.folder / "results.json", "accuracy")
        if result.value is not None:
            found.append(f"{result.classes} {result.value:.2f}")
    return ", ".join(found) or "no accuracy"


def progress(task: Task) -> str:
    """The last logged epoch of a training run."""
    for run in task.job.runs:
        last = last_line(run.folder / "metrics.jsonl")
        if last and not (run.folder / "results.json").exists():
            try:
                row = json.loads(last)
                return f"epoch {row['epoch']}" + (f" loss {row['loss']:.3f}" if row.get("loss") else "")
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
    return ""


def last_line(path: Path) -> str:
    """The last line of a file, however long the file is; "" if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - 4096, 0))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def place(task: Task) -> str:
    return f" on {task.slot.name}" if task.slot and task.slot.name else ""


def clock(seconds: float) -> str:
    """``0:02:31``."""
    return str(timedelta(seconds=round(seconds)))
