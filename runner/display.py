"""What the user sees: a live table in a terminal, plain lines elsewhere, a summary at the end."""

import os
import re
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TextIO

from tabulate import tabulate

from reporting.read import read_results
from runner.schedule import Task, last_attempt

REFRESH = 1.0  # seconds
PLAIN_REFRESH = 60.0  # seconds, where lines stay
TAIL = 20_000  # bytes of a log that are searched for its last epoch
EPOCH = re.compile(
    r"^epoch \[(\d+)/(\d+)\] batch .{1,200} loss \S+ \((\S+)\)"
    r".{1,200} eta (?:(\d+) days?, )?(\d+):(\d\d):(\d\d)",
    re.MULTILINE,
)
EVALUATING = ("\nFinish training", "\nEvaluate on the *test* set")


@dataclass(frozen=True)
class Progress:
    """What a running job's log says last.

    Attributes:
        epoch: the present one, from 1; 0 before training has said anything, and when it is over.
        epochs: how many there are.
        loss: mean of the epoch so far, as the log has it.
        left: seconds of training that it expects; None if it does not train now.
        evaluates: whether training is over.
    """

    epoch: int = 0
    epochs: int = 0
    loss: str = ""
    left: float | None = None
    evaluates: bool = False

    def __str__(self) -> str:
        if self.left is None:
            return "evaluates" if self.evaluates else ""
        return f"epoch {self.epoch}/{self.epochs}, loss {self.loss}, {clock(self.left)} left"


class Display:
    """Follows the tasks.

    Args:
        tasks: all tasks, those finished before included.
        slots: how many run at a time, for the estimate of the time left.
        out: a terminal gets a table that is redrawn in place, anything else a line for each event, and once
            a minute how far the jobs are. Default: stdout.
    """

    def __init__(self, tasks: Sequence[Task], slots: int, out: TextIO | None = None) -> None:
        self.tasks = tasks
        self.slots = slots
        self.out = out or sys.stdout
        self.live = self.out.isatty() and os.environ.get("TERM") != "dumb"
        self.began = time.time()
        self.drawn = 0  # lines of the table on the screen
        self.drawn_at = 0.0  # for plain lines: when they were written last

    def changed(self, task: Task) -> None:
        """Says what happened to a task."""
        done = sum(other.status not in ("waiting", "running") for other in self.tasks)
        what = {
            "running": f"started{' again' if task.attempts > 1 else ''}{place(task)}",
            "waiting": (
                f"waits, another process is in its folder: {task.holder}"
                if task.holder
                else f"crashed, will be tried once more: {task.reason}"
            ),
            "finished": f"finished in {clock(task.seconds)}: {accuracies(task)}",
            "failed": f"FAILED: {task.reason}; log: {task.log}",
            "interrupted": f"interrupted: {task.reason}",
            "blocked": f"not run: {task.reason}",
        }[task.status]
        self.erase()
        if not self.live or task.status != "running":
            self.out.write(f"[{done}/{len(self.tasks)}] {task.job.name}: {what}\n")
        self.out.flush()
        if self.live:
            self.drawn_at = 0.0

    def tick(self) -> None:
        """Redraws the live table about once a second, or writes how far the jobs are once a minute."""
        if not self.live:
            self.write_plainly()
        elif time.time() - self.drawn_at >= REFRESH:
            self.erase()
            columns, rows = shutil.get_terminal_size()
            lines = [line[: columns - 1] for line in self.table()[: max(rows - 2, 1)]]
            self.out.write("".join(f"{line}\n" for line in lines))
            self.out.flush()
            self.drawn, self.drawn_at = len(lines), time.time()

    def write_plainly(self) -> None:
        """Counts, time, and a line for each job that runs, unless they were written within the minute."""
        if time.time() - max(self.drawn_at, self.began) < PLAIN_REFRESH:
            return
        self.drawn_at = time.time()
        self.out.write(f"{counts(self.tasks)}; {self.time()}\n")
        for task in self.tasks:
            if task.status == "running":
                how_far = str(progress(task)) or "starts"
                self.out.write(
                    f"    {task.job.name}{place(task)}: {clock(time.time() - task.since)}, {how_far}\n"
                )
        self.out.flush()

    def erase(self) -> None:
        """Takes the live table off the screen: what is written next stands in its place."""
        if self.drawn:
            self.out.write(f"\x1b[{self.drawn}A\x1b[J")
            self.drawn = 0

    def table(self) -> list[str]:
        """The live table's lines: counts and time, then the jobs that run and those that failed."""
        rows = [
            ("running", task.job.name, slot_name(task), clock(time.time() - task.since), str(progress(task)))
            for task in self.tasks
            if task.status == "running"
        ]
        rows += [
            ("waiting", task.job.name, "", "", f"another process is in its folder: {task.holder}")
            for task in self.tasks
            if task.status == "waiting" and task.holder
        ]
        rows += [
            (task.status, task.job.name, "", "", task.reason)
            for task in self.tasks
            if task.status in ("failed", "interrupted", "blocked")
        ]
        return [
            counts(self.tasks),
            self.time(),
            *tabulate(rows, tablefmt="plain").splitlines(),
        ]

    def time(self) -> str:
        """``0:10:00 so far, about 0:02:40 left``."""
        left, is_all = time_left(self.tasks, self.slots)
        so_far = f"{clock(time.time() - self.began)} so far"
        return so_far + (f", {'about' if is_all else 'at least'} {clock(left)} left" if left else "")

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

    Of a kind none of which is done, a job that trains tells the least: what its log expects. Else nothing is
    known, and counts as nothing. A job that takes longer than the others of its kind is expected to be over
    soon.
    """
    kinds: dict[str, list[float]] = {}
    for task in tasks:
        if task.status == "finished" and task.seconds:
            kinds.setdefault(task.job.kind, []).append(task.seconds)
    rest = [task for task in tasks if task.status in ("waiting", "running")]
    known = sum(task.job.kind in kinds for task in rest)
    whole = {kind: statistics.fmean(seconds) for kind, seconds in kinds.items()}
    lefts = [0.0]
    for task in (task for task in rest if task.status == "running"):
        spent = time.time() - task.since
        if task.job.kind in kinds:
            lefts.append(max(whole[task.job.kind] - spent, 0.1 * spent))
        elif (expected := progress(task).left) is not None:
            lefts.append(expected)
            whole[task.job.kind] = max(spent + expected, whole.get(task.job.kind, 0.0))
    lefts += [whole.get(task.job.kind, 0.0) for task in rest if task.status == "waiting"]
    return max(sum(lefts) / max(slots, 1), max(lefts)), known == len(rest)


def accuracies(task: Task) -> str:
    """``base 97.12, new 94.00``, or nothing where a record has no accuracy."""
    found = []
    for run in task.job.runs:
        result = read_results(run.folder / "results.json", "accuracy")
        if result.value is not None:
            found.append(f"{result.classes} {result.value:.2f}")
    return ", ".join(found) or "no accuracy"


def progress(task: Task) -> Progress:
    """How far a task's last attempt is, by Dassl's lines in its log."""
    text = last_attempt(task.log, TAIL)
    start = max(text.rfind(mark) for mark in EVALUATING)
    found = list(EPOCH.finditer(text, max(start, 0)))
    if not found:
        return Progress(evaluates=start >= 0)
    epoch, epochs, loss, days, *clock_face = found[-1].groups()
    hours, minutes, seconds = map(int, clock_face)
    left = (int(days or 0) * 24 + hours) * 3600 + minutes * 60 + seconds
    return Progress(int(epoch), int(epochs), loss, left)


def slot_name(task: Task) -> str:
    return task.slot.name if task.slot else ""  # on a cluster nobody knows


def place(task: Task) -> str:
    return f" on {slot_name(task)}" if slot_name(task) else ""


def clock(seconds: float) -> str:
    """``0:02:31``."""
    return str(timedelta(seconds=round(seconds)))
