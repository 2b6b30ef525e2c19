"""Jobs as processes: crashes, slots, interrupts; with stand-ins for train.py."""

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

import reproduce
from runner import schedule
from runner.display import Display
from runner.jobs import Job, Run
from runner.schedule import Scheduler, Slot, Task
from runner.slots import cpu_slots, gpu_slots


class Watch:
    """Writes down what happens."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.most = 0
        self.tasks: list[Task] = []

    def changed(self, task: Task) -> None:
        self.seen.append((task.job.name, task.status))

    def tick(self) -> None:
        self.most = max(self.most, sum(task.status == "running" for task in self.tasks))


def jobs_of(folder: Path, names: Iterable[str], after: dict[str, str]) -> list[Job]:
    return [Job(name, "", "", (Run(folder / name, ()),), after.get(name, "")) for name in names]


def scheduler(
    folder: Path, slots: list[Slot], after: dict[str, str] | None = None, **codes: str
) -> Scheduler:
    """Tasks of the given names that run Python code; ``done()`` in it leaves what marks a finished run."""
    start = (
        "import os, pathlib, signal, sys, time; name, folder = sys.argv[1:]; folder = pathlib.Path(folder)\n"
        "def done(): (folder / name).mkdir(); (folder / name / 'results.json').write_text('{}')\n"
    )
    tasks = [Task(job, folder / f"{job.name}.log") for job in jobs_of(folder, codes, after or {})]
    watch = Watch()
    watch.tasks = tasks

    def command(job: Job) -> list[str]:
        return [sys.executable, "-c", start + codes[job.name], job.name, str(folder)]

    return Scheduler(tasks, slots, watch, command)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "POLL", 0.02)


def test_what_crashes_is_tried_once_more_and_stops_nobody(tmp_path: Path) -> None:
    flag = "mark = folder / ('tried-' + name)\nif not mark.exists(): mark.touch(); "
    runs = scheduler(
        tmp_path,
        [Slot("")],
        killed=f"{flag}os.kill(os.getpid(), signal.SIGKILL)\ndone()",
        broken="raise RuntimeError('no luck')",
        mistaken="print('error: wrong flag'); sys.exit(2)",
        lying="pass",
        good="done()",
    )
    runs.run()
    fared = {task.job.name: (task.status, task.attempts) for task in runs.tasks}
    assert fared == {
        "killed": ("finished", 2),
        "broken": ("failed", 2),
        "mistaken": ("failed", 1),
        "lying": ("failed", 2),
        "good": ("finished", 1),
    }
    reasons = {task.job.name: task.reason for task in runs.tasks}
    assert reasons["broken"] == "RuntimeError: no luck (exit status 1)"
    assert reasons["mistaken"] == "wrong flag (exit status 2)"
    assert "left no" in reasons["lying"]
    assert ("killed", "waiting") in runs.watcher.seen
    assert (tmp_path / "broken.log").read_text().count("Traceback") == 2  # both attempts


def test_what_a_signal_ended_is_interrupted_and_not_tried_again(tmp_path: Path) -> None:
    runs = scheduler(
        tmp_path,
        [Slot("")],
        after={"late": "stopped"},
        stopped="print('SIGTERM: stopped after epoch 3 of 9'); sys.exit(130)",
        ended="os.kill(os.getpid(), signal.SIGTERM)",
        late="done()",
        good="done()",
    )
    runs.run()
    fared = {task.job.name: (task.status, task.attempts, task.reason) for task in runs.tasks}
    assert fared == {
        "stopped": ("interrupted", 1, "SIGTERM: stopped after epoch 3 of 9 (exit status 130)"),
        "ended": ("interrupted", 1, "killed by SIGTERM"),
        "late": ("blocked", 0, '"stopped" interrupted'),
        "good": ("finished", 1, ""),
    }
    assert reproduce.exit_status(runs.tasks) == 130
    assert reproduce.exit_status(runs.tasks[-1:]) == 0
    runs.tasks[-1].status = "failed"
    assert reproduce.exit_status(runs.tasks) == 1
    out = io.StringIO()
    display = Display(runs.tasks, 1, out)
    display.changed(runs.tasks[0])
    assert out.getvalue().startswith("[4/4] stopped: interrupted: SIGTERM: stopped after epoch 3 of 9")
    assert "interrupted: ended: killed by SIGTERM" in display.summary()
    assert "0 of 4 jobs finished, 1 failed, 2 interrupted, 1 not run" in display.summary()


def test_a_log_that_cannot_be_written_stops_the_others_with_its_path(tmp_path: Path) -> None:
    runs = scheduler(tmp_path, [Slot(""), Slot("")], first="time.sleep(60)", second="done()")
    runs.tasks[1].log = Path("/dev/full")
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        runs.run()
    wait_for_end(runs.tasks[0].process.pid)


def test_what_needs_a_failed_job_is_not_run(tmp_path: Path) -> None:
    runs = scheduler(
        tmp_path,
        [Slot(""), Slot("")],
        after={"early": "train", "late": "trained"},
        early="done()",
        train="sys.exit(2)",
        late="assert (folder / 'trained').exists(); done()",
        trained="time.sleep(0.2); done()",
    )
    runs.run()
    fared = {task.job.name: task.status for task in runs.tasks}
    assert fared == {"early": "blocked", "train": "failed", "late": "finished", "trained": "finished"}
    assert runs.tasks[0].attempts == 0


def test_each_slot_has_one_job_at_a_time_with_its_own_gpu(tmp_path: Path) -> None:
    code = "time.sleep(0.1); print('GPU', os.environ['CUDA_VISIBLE_DEVICES']); done()"
    runs = scheduler(tmp_path, gpu_slots("3,5"), **{f"job{n}": code for n in range(5)})
    runs.run()
    assert runs.watcher.most == 2
    used = [(tmp_path / f"job{n}.log").read_text().split("GPU ")[-1].strip() for n in range(5)]
    assert used[:2] == ["3", "5"]
    assert set(used) == {"3", "5"}


def test_jobs_on_the_cpu_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("runner.slots.cores", lambda: 9)
    assert [slot.environment for slot in cpu_slots(2)] == [{"OMP_NUM_THREADS": "4"}] * 2
    assert cpu_slots(1)[0].environment == {}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cpu_slots(2)[0].environment == {"OMP_NUM_THREADS": "1"}
    with pytest.raises(ValueError, match="--jobs is 0"):
        cpu_slots(0)
    with pytest.raises(ValueError, match="names no GPU"):
        gpu_slots(",")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_stops_the_children_and_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(schedule, "PATIENCE", (1.0, 1.0))
    sleeper = "subprocess = __import__('subprocess'); child = subprocess.Popen(['sleep', '60'])\n"
    sleeper += "(folder / ('pid-' + name)).write_text(f'{os.getpid()} {child.pid}')\n"
    polite = (
        f"{sleeper}try: time.sleep(60)\nexcept KeyboardInterrupt: (folder / 'polite').touch(); sys.exit(130)"
    )
    deaf = f"signal.signal(signal.SIGINT, signal.SIG_IGN)\n{sleeper}time.sleep(60)"
    runs = scheduler(tmp_path, [Slot(""), Slot("")], good=polite, deaf=deaf, never="done()")

    def interrupt() -> None:
        while len(list(tmp_path.glob("pid-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    deadline = time.monotonic() + 30
    threading.Thread(target=interrupt).start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        runs.run()
    assert signal.getsignal(signal.SIGTERM) == before
    assert (tmp_path / "polite").exists()
    assert [task.status for task in runs.tasks] == ["waiting"] * 3
    for pids in tmp_path.glob("pid-*"):
        for pid in pids.read_text().split():
            wait_for_end(int(pid))
    assert not (tmp_path / "never").exists()


def wait_for_end(pid: int) -> None:
    """A process is gone, or a zombie that nobody has collected yet."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} still runs")
