"""Jobs as processes: crashes, slots, interrupts; with stand-ins for train.py."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

import reproduce
import train
from fileio import exclusive
from runner import schedule
from runner.display import Display
from runner.jobs import Job, Run
from runner.schedule import Scheduler, Slot, Task
from runner.slots import cpu_slots, gpu_slots
from tests.conftest import ROOT


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
    kinds = [name.rpartition(" ")[0] for name in names]
    datasets = [kind.rpartition(" ")[2] for kind in kinds]
    return [
        Job(name, kind, dataset, (Run(folder / name, ()),), after.get(name, ""))
        for name, kind, dataset in zip(names, kinds, datasets, strict=True)
    ]


def scheduler(
    folder: Path, slots: list[Slot], after: dict[str, str] | None = None, **codes: str
) -> Scheduler:
    """Tasks of the given names that run Python code; ``done()`` in it leaves what marks a finished run.

    The parts of a name with blanks are trainer, data set and seed, as those of a plan.
    """
    start = (
        "import os, pathlib, signal, sys, time; name, folder = sys.argv[1:]; folder = pathlib.Path(folder)\n"
        "def done(): (folder / name).mkdir(); (folder / name / 'results.json').write_text('{}')\n"
    )
    tasks = [Task(job, folder / f"{job.name}.log") for job in jobs_of(folder, codes, after or {})]
    watch = Watch()
    watch.tasks = tasks

    def command(job: Job) -> list[str]:
        return [sys.executable, "-S", "-c", start + codes[job.name], job.name, str(folder)]

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


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, number: int, visible: str | None = None) -> None:
    """A stand-in of torch.cuda that finds GPUs, as many as CUDA_VISIBLE_DEVICES leaves."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: number)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


def test_each_slot_has_one_job_at_a_time_with_its_own_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpus(monkeypatch, 2, "3,5")
    code = "time.sleep(0.1); print('GPU', os.environ['CUDA_VISIBLE_DEVICES']); done()"
    runs = scheduler(tmp_path, gpu_slots(["0", "1"], 5), **{f"job{n}": code for n in range(5)})
    runs.run()
    assert runs.watcher.most == 2
    used = [(tmp_path / f"job{n}.log").read_text().split("GPU ")[-1].strip() for n in range(5)]
    assert used[:2] == ["3", "5"]
    assert set(used) == {"3", "5"}


@pytest.mark.parametrize(
    ("number", "visible", "given", "devices"),
    [
        (2, None, ["0", "1"], ["0", "1"]),
        (2, None, ["all"], ["0", "1"]),
        (2, "6,4", ["1"], ["4"]),
        (2, "6, 4", ["ALL"], ["6", "4"]),
        (1, "6,9,4", ["all"], ["6"]),  # CUDA leaves out what follows a number that is none
        (2, "GPU-aa,GPU-bb", ["1", "GPU-a"], ["GPU-bb", "GPU-a"]),
        (1, "MIG-cc", ["MIG-cc"], ["MIG-cc"]),
    ],
)
def test_gpus_are_those_of_the_callers_environment(
    monkeypatch: pytest.MonkeyPatch, number: int, visible: str | None, given: list[str], devices: list[str]
) -> None:
    pretend_gpus(monkeypatch, number, visible)
    slots = gpu_slots(given, 9)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == devices


@pytest.mark.parametrize(
    ("number", "visible", "given", "said"),
    [
        (0, None, ["0"], "--gpus 0: no such GPU; torch finds none; leave --gpus out to use the CPU"),
        (0, "", ["all"], 'names no GPU; torch finds none with CUDA_VISIBLE_DEVICES=""'),
        (2, "6,4", ["0", "4"], '--gpus 4: no such GPU; torch finds 2 with .*="6,4": 0 .6., 1 .4.'),
        (2, None, ["1", "2", "x"], "--gpus 2, x: no such GPU; torch finds 2: 0, 1"),
        (1, "GPU-aa", ["GPU-b"], "--gpus GPU-b: no such GPU"),
    ],
)
def test_gpus_that_are_not_there_are_refused(
    monkeypatch: pytest.MonkeyPatch, number: int, visible: str | None, given: list[str], said: str
) -> None:
    pretend_gpus(monkeypatch, number, visible)
    with pytest.raises(ValueError, match=said):
        gpu_slots(given, 9)


def test_jobs_at_the_same_time_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("HEBA_JOBS", raising=False)
    monkeypatch.setattr("runner.slots.cores", lambda: 9)
    pretend_gpus(monkeypatch, 4)
    shares = {"OMP_NUM_THREADS": "4", "HEBA_JOBS": "2"}
    assert [slot.environment for slot in cpu_slots(2, 9)] == [shares] * 2
    assert cpu_slots(4, 2) == cpu_slots(2, 9)  # no more than there are jobs to do
    assert cpu_slots(1, 9)[0].environment == {}
    assert gpu_slots(["0"], 9)[0].environment == {"CUDA_VISIBLE_DEVICES": "0"}
    assert gpu_slots(["all"], 2)[1].environment == {"CUDA_VISIBLE_DEVICES": "1", **shares}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cpu_slots(2, 9)[0].environment == {"OMP_NUM_THREADS": "1", "HEBA_JOBS": "2"}


def test_jobs_at_the_same_time_share_loader_workers_and_shared_memory(
    monkeypatch: pytest.MonkeyPatch, toy_data: Path, toy_flags: list[str]
) -> None:
    from dassl.data import DataManager, image_cache
    from runner.config import setup_cfg

    monkeypatch.setattr("dassl.data.data_manager._num_cpus", lambda: 4)
    free = {"f_bavail": 1000, "f_frsize": 4000}
    monkeypatch.setattr(image_cache.os, "statvfs", lambda path: SimpleNamespace(**free))
    words = ["--root", str(toy_data), "--trainer", "HeBA", "--dataset-config-file"]
    words += [str(ROOT / "configs/datasets/caltech101.yaml"), *toy_flags, "DATALOADER.NUM_WORKERS", "2"]
    cfg = setup_cfg(train.parse_args(words))
    found = {}
    for jobs in ("", "4"):
        monkeypatch.setenv("HEBA_JOBS", jobs)
        loader = DataManager(cfg).train_loader_x
        found[jobs] = (loader.num_workers, len(loader.dataset._cache._bytes))
    assert found == {"": (2, 2_000_000), "4": (1, 500_000)}


def test_jobs_that_fail_alike_stop_the_others_of_their_kind(tmp_path: Path) -> None:
    same = "print('error: no descriptions in ' + str(folder / name)); sys.exit(2)"
    names = [f"{trainer} {data} seed{n}" for n in (1, 2, 3) for trainer in "AB" for data in ("x", "y")]
    codes = {name: same if name.startswith("A x") else "done()" for name in names}
    runs = scheduler(tmp_path, [Slot("")], **codes)
    runs.run()
    fared = {task.job.name: task.status for task in runs.tasks}
    assert {name for name, status in fared.items() if status == "failed"} == {"A x seed1", "A x seed2"}
    assert {name for name, status in fared.items() if status == "blocked"} == {"A x seed3"}
    reason = next(task.reason for task in runs.tasks if task.status == "blocked")
    assert reason == '"A x seed1" and "A x seed2" failed alike'


@pytest.mark.parametrize(
    ("failing", "begun"),
    [
        (("A x", "A y"), {"A x seed1", "B x seed1", "A y seed1", "B y seed1", "B x seed2", "B y seed2"}),
        (("A x", "B y"), {"A x seed1", "B x seed1", "A y seed1", "B y seed1"}),  # nothing in common: all
    ],
)
def test_what_stops_is_what_the_failed_have_in_common(
    tmp_path: Path, failing: tuple[str, ...], begun: set[str]
) -> None:
    names = [f"{trainer} {data} seed{n}" for n in (1, 2) for data in ("x", "y") for trainer in "AB"]
    mistake = "print('error: wrong'); sys.exit(2)"
    codes = {name: mistake if name.startswith(failing) else "done()" for name in names}
    runs = scheduler(tmp_path, [Slot("")], **codes)
    runs.run()
    assert {task.job.name for task in runs.tasks if task.attempts} == begun


def test_the_reason_of_a_failure_is_the_last_attempts(tmp_path: Path) -> None:
    first = (
        "mark = folder / 'mark'\nif not mark.exists(): mark.touch(); print('error: the first'); sys.exit(1)\n"
    )
    runs = scheduler(
        tmp_path, [Slot("")], twice=f"{first}print('the second'); sys.exit(3)", silent="sys.exit(4)"
    )
    (tmp_path / "silent.log").write_text("$ an earlier call\nerror: long ago\n")
    runs.run()
    assert [task.reason for task in runs.tasks] == [
        "the second (exit status 3)",
        "it said nothing (exit status 4)",
    ]


def test_a_job_waits_for_another_process_in_its_folder(tmp_path: Path) -> None:
    runs = scheduler(
        tmp_path, [Slot("")], held="(folder / name / 'results.json').write_text('{}')", free="done()"
    )
    (tmp_path / "held").mkdir()
    out = io.StringIO()
    runs.watcher = Display(runs.tasks, 1, out)
    with exclusive(tmp_path / "held" / ".lock"):  # as train.py's
        while runs.tasks[1].status != "finished":
            runs.step()
            time.sleep(0.02)
        assert runs.tasks[0].status == "waiting"
        assert runs.step()
    runs.run()
    assert runs.tasks[0].status == "finished"
    said = f"held: waits, another process is in its folder: process {os.getpid()} on "
    assert out.getvalue().count(said) == 1


def test_a_job_that_met_another_process_in_its_folder_has_not_failed(tmp_path: Path) -> None:
    code = "done() if (folder / 'second').exists() else sys.exit(2)"
    runs = scheduler(
        tmp_path, [Slot("")], late=code.replace("done()", "(folder / name / 'results.json').touch()")
    )
    (task,) = runs.tasks
    (tmp_path / "late").mkdir()
    runs.step()
    with exclusive(tmp_path / "late" / ".lock"):  # another call came between look and start
        task.process.wait()
        runs.step()
        assert task.status == "waiting"
    (tmp_path / "second").touch()
    runs.run()
    assert (task.status, task.attempts) == ("finished", 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
def test_a_job_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from runner.schedule import start\n"
        "code = 'import time; print(1, flush=True); time.sleep(60)'\n"
        "job = start([sys.executable, '-S', '-c', code], Path(sys.argv[1]), {})\n"
        "print(job.pid, flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    call = [sys.executable, "-c", program, str(log)]
    with subprocess.Popen(call, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        job = int(parent.stdout.readline())
        while not log.read_text().endswith("\n1\n"):
            time.sleep(0.02)
        parent.kill()
    wait_for_end(job)


def test_a_log_that_cannot_be_opened_fails_its_job_alone(tmp_path: Path) -> None:
    runs = scheduler(tmp_path, [Slot("")], bad="done()", good="done()")
    runs.tasks[0].log.mkdir()
    runs.run()
    assert [task.status for task in runs.tasks] == ["failed", "finished"]
    assert runs.tasks[0].reason.startswith("could not be started: [Errno 21] Is a directory: ")


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
