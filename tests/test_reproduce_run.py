"""Whole small protocols through reproduce.py: killed on the way, continued, and submitted as an array."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import reproduce
from runner.schedule import Task
from runner.slurm import ClusterScheduler, parse_resources, waves
from tests.conftest import ROOT
from tests.test_reproduce_schedule import Watch, jobs_of


def children(pid: int) -> list[int]:
    """Processes that a process has started and that still run (Linux)."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()]


def start_and_wait_for_an_epoch(call: list[str], folder: Path) -> tuple[subprocess.Popen, int]:
    """Calls the shell script; returns it and its job once this job has kept an epoch in ``folder``."""
    kept = folder / "resume.pth.tar"
    before = kept.stat().st_mtime_ns if kept.exists() else 0
    command = ["bash", str(ROOT / "scripts" / "heba" / "reproduce.sh"), *call]
    env = os.environ | {"PYTHON": sys.executable}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    deadline = time.monotonic() + 120
    while not kept.exists() or kept.stat().st_mtime_ns == before:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (job,) = children(process.pid)
    return process, job


def test_a_protocol_survives_an_interrupt_and_a_killed_job(
    toy_data: Path, job_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["base2new", "--seeds", "1", "--shots", "4", "--root", str(toy_data), "--output", str(tmp_path)]
    call += ["--", *job_flags, "OPTIM.MAX_EPOCH", "20", "TRAIN.RESUME_SECONDS", "0"]
    run = "caltech101/shots_4/HeBA/base2new/seed1"
    base, novel = tmp_path / "base2new" / "train_base" / run, tmp_path / "base2new" / "test_new" / run

    process, job = start_and_wait_for_an_epoch(call, base)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted; the same command goes on from here" in said
    assert not Path(f"/proc/{job}").exists()
    log = (tmp_path / "logs" / "base2new" / "HeBA-caltech101-seed1.log").read_text()
    # train.py was asked, not killed
    assert "interrupted; the same command goes on from the last saved state" in log
    assert "Traceback" not in log

    process, job = start_and_wait_for_an_epoch(call, base)
    os.kill(job, signal.SIGKILL)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert "HeBA caltech101 seed1: crashed, will be tried once more: killed by SIGKILL" in said
    assert "1 of 1 jobs finished in" in said
    assert "Base to novel: HeBA base2new, 4 shots" in said
    record = json.loads((base / "results.json").read_text())
    assert record["phases"]["train"]["start_epoch"] > 1  # it went on, it did not begin again
    assert json.loads((novel / "results.json").read_text())["loaded"] == record["saved"]

    assert reproduce.main(call) == 0
    assert "1 of 1 jobs finished (1 before)" in capsys.readouterr().out
    (novel / "results.json").unlink()
    dry = ["base2new", "--dry-run", *call[1:]]
    assert reproduce.main(dry) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "--eval-only" in line  # the training run is not repeated
    assert "--then" not in line
    assert reproduce.main([*dry, "OPTIM.LR", "0.5"]) == 2
    said = capsys.readouterr()
    assert said.out == ""  # other settings: what is finished is something else, and nothing would start
    assert "holds a finished run with other settings (OPTIM.LR 0.0075 != 0.5)" in said.err


# --- arrays -----------------------------------------------------------------------------------------------


def test_resources_are_submitits_parameters() -> None:
    assert parse_resources(["partition=gpu", "timeout_min=60", "slurm_array_parallelism=4"]) == {
        "gpus_per_node": 1,
        "cpus_per_task": 8,
        "timeout_min": 60,
        "slurm_partition": "gpu",
        "slurm_array_parallelism": 4,
    }
    with pytest.raises(ValueError, match="KEY=VALUE"):
        parse_resources(["gpu"])


def test_a_second_array_holds_what_needs_the_first(tmp_path: Path) -> None:
    names = ("train", "test", "other")
    tasks = [Task(job, tmp_path / "log") for job in jobs_of(tmp_path, names, {"test": "train"})]
    assert [[task.job.name for task in wave] for wave in waves(tasks)] == [["train", "other"], ["test"]]
    assert [[task.job.name for task in wave] for wave in waves(tasks[1:])] == [["test", "other"]]


def test_jobs_run_as_submitits_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install submitit")
    monkeypatch.setattr("runner.slurm.POLL", 0.1)
    codes = {
        "train": "time.sleep(0.3); done()",
        "test": "assert (folder / 'train').exists(); done()",
        "crashing": "mark = folder / 'mark'\nif not mark.exists(): mark.touch(); sys.exit(1)\ndone()",
        "mistaken": "print('error: wrong flag'); sys.exit(2)",
    }
    jobs = jobs_of(tmp_path, codes, {"test": "train"})
    tasks = [Task(job, tmp_path / f"{job.name}.log") for job in jobs]
    watch = Watch()
    start = f"import pathlib, sys, time; folder = pathlib.Path({str(tmp_path)!r})\n"
    start += "def done(): (folder / name).mkdir(); (folder / name / 'results.json').write_text('{}')\n"

    def command(job: object) -> list[str]:
        return [sys.executable, "-c", f"{start}name = {job.name!r}\n{codes[job.name]}"]

    scheduler = ClusterScheduler(tasks, watch, tmp_path / "slurm", {}, cluster="local", command=command)
    scheduler.run()
    assert {task.job.name: task.status for task in tasks} == {
        "train": "finished",
        "test": "finished",
        "crashing": "finished",
        "mistaken": "failed",
    }
    assert tasks[-1].reason == "wrong flag (exit status 2)"
