"""reproduce.py: what the user sees, and a whole small protocol."""

import io
import json
import re
import shlex
import time
from dataclasses import replace
from pathlib import Path

import pytest

import reproduce
from runner.display import Display, clock, progress, time_left
from runner.jobs import Job, Plan, Run
from runner.results import show_methods
from runner.schedule import Scheduler, Slot, Task
from runner.state import recorded_seconds
from tests.conftest import ROOT
from tests.result_trees import experiment, write_protocols, write_results

# As Dassl writes it; test_a_training_tells_its_epoch_loss_and_time reads what the program wrote.
LINE = (
    "epoch [%d/50] batch [5/20] time 0.123 (0.130) data 0.001 (0.010) loss 0.3000 (0.2500) "
    "acc 50.0000 (48.1000) lr 2.0000e-03 eta 0:01:02\n"
)


def some_tasks(folder: Path) -> list[Task]:
    names = ("done", "before", "busy", "next", "bad")
    jobs = [Job(name, "HeBA dtd", "dtd", (Run(folder / name, ()),)) for name in names]
    tasks = {job.name: Task(job, folder / f"{job.name}.log") for job in jobs}
    tasks["done"].status, tasks["done"].seconds = "finished", 100.0
    tasks["before"].status, tasks["before"].was_finished = "finished", True
    tasks["busy"].status, tasks["busy"].since, tasks["busy"].slot = "running", time.time() - 40, Slot("GPU 1")
    tasks["bad"].status, tasks["bad"].reason = "failed", "no luck (exit status 1)"
    tasks["busy"].log.write_text(f"\n$ first attempt\n{LINE % 1}\n$ second\n{LINE % 3}{LINE % 4}")
    (folder / "done").mkdir()
    record = {"subsample_classes": "base", "accuracy": 81.234}
    (folder / "done" / "results.json").write_text(json.dumps(record))
    return list(tasks.values())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_table_that_is_redrawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    tasks, out = some_tasks(tmp_path), Terminal()
    display = Display(tasks, 1, out)
    display.tick()
    lines = out.getvalue().splitlines()
    assert lines[0] == "2 of 5 jobs finished (1 before), 1 running, 1 failed, 1 waiting"
    assert lines[1] == "0:00:00 so far, about 0:02:40 left"
    assert lines[2].split()[:5] == ["running", "busy", "GPU", "1", "0:00:40"]
    assert lines[2].endswith("epoch 4/50, loss 0.2500, 0:01:02 left")
    assert lines[3].split()[:2] == ["failed", "bad"]
    display.tick()  # within the same second: nothing new
    assert out.getvalue().splitlines() == lines
    display.changed(tasks[0])
    assert "\x1b[4A\x1b[J[3/5] done: finished in 0:01:40: base 81.23\n" in out.getvalue()


def test_elsewhere_each_event_is_a_line(tmp_path: Path) -> None:
    tasks, out = some_tasks(tmp_path), io.StringIO()
    display = Display(tasks, 1, out)
    display.tick()
    for task in tasks[2:]:
        display.changed(task)
    assert out.getvalue().splitlines() == [
        "[3/5] busy: started on GPU 1",
        "[3/5] next: crashed, will be tried once more: ",
        f"[3/5] bad: FAILED: no luck (exit status 1); log: {tmp_path}/bad.log",
    ]
    assert "\x1b" not in out.getvalue()
    assert f"failed: bad: no luck (exit status 1)\n    log: {tmp_path}/bad.log" in display.summary()


def test_elsewhere_the_jobs_progress_is_written_once_a_minute(tmp_path: Path) -> None:
    tasks, out = some_tasks(tmp_path), io.StringIO()
    display = Display(tasks, 1, out)
    display.tick()
    assert out.getvalue() == ""
    display.began -= 61
    display.tick()
    display.tick()
    assert out.getvalue().splitlines() == [
        "2 of 5 jobs finished (1 before), 1 running, 1 failed, 1 waiting; 0:01:01 so far, about 0:02:40 left",
        "    busy on GPU 1: 0:00:40, epoch 4/50, loss 0.2500, 0:01:02 left",
    ]


def test_a_training_tells_its_epoch_loss_and_time(tmp_path: Path, written_run: Path) -> None:
    (task,) = [task for task in some_tasks(tmp_path) if task.job.name == "busy"]
    log = (written_run / "base" / "log.txt").read_text()
    training, evaluation = log.split("Finish training")
    parts = {"starts": training.partition("\nepoch [")[0], "trains": training, "evaluates": log}
    found = {}
    for name, text in parts.items():
        task.log.write_text(f"\n$ a command\n{text}")
        found[name] = str(progress(task))
    assert found["starts"] == ""
    assert re.fullmatch(r"epoch 3/3, loss \d\.\d{4}, 0:00:\d\d left", found["trains"])
    assert found["evaluates"] == "evaluates"
    # the end of a training names the adapter and the command that predicts with it
    assert evaluation.splitlines()[-2:] == [
        "The adapter is in base/adapter_learner/adapter.safetensors",
        "Predict with it: python predict.py <pictures> --model-dir base",
    ]


def test_a_kind_that_trains_for_the_first_time_tells_what_is_left_at_least(tmp_path: Path) -> None:
    tasks = some_tasks(tmp_path)
    tasks[0].status = "waiting"
    assert time_left(tasks, 1) == (pytest.approx(62 + 2 * 102, abs=3), False)


def test_the_time_left_is_that_of_kinds_which_are_known(tmp_path: Path) -> None:
    tasks = some_tasks(tmp_path)
    left, is_all = time_left(tasks, 2)
    assert left == pytest.approx(100, abs=2)  # 60 and 100 seconds side by side
    assert is_all
    tasks[3].job = replace(tasks[3].job, kind="never seen")
    assert time_left(tasks, 2) == (pytest.approx(60, abs=2), False)
    tasks[0].status = "waiting"
    tasks[2].log.unlink()
    assert time_left(tasks, 2) == (0, False)


def test_a_job_that_takes_long_is_not_expected_to_take_nothing(tmp_path: Path) -> None:
    tasks = [task for task in some_tasks(tmp_path) if task.status in ("finished", "running")]
    tasks[-1].since -= 1000
    assert time_left(tasks, 1)[0] > 50


@pytest.mark.usefixtures("written_run")
def test_at_the_end_the_plans_methods_stand_in_one_table(tmp_path: Path) -> None:
    write_protocols(tmp_path, ["caltech101", "dtd"])
    write_results(tmp_path / experiment("train_base", "dtd", config="mine") / "seed1", 1)  # not asked for
    plan = Plan("base2new", ["HeBA", "ZeroshotCLIP"], ["dtd"], [1, 2], [16], tmp_path, tmp_path)
    heading, _, _, _, heba, zero_shot, *_ = show_methods(plan, None).splitlines()
    assert heading.startswith("Base to novel, all methods: ")
    costs = ["87,158,016", "60.0", "4.5", "3,072"]
    assert heba.split()[:3] == ["HeBA", "base2new", "80.45"]  # of seeds 1 and 2
    assert heba.split()[-5:] == ["2/2", *costs]
    assert zero_shot.split()[-5:] == ["1/1", "0", "—", "4.5", "2,048"]
    alone = show_methods(replace(plan, trainers=["HeBA"], datasets=["caltech101", "dtd"]), None)
    assert alone.startswith("Base to novel: HeBA base2new, 16 shots, ")
    assert [line.split()[0] for line in alone.splitlines()[4:]] == ["caltech101", "dtd", "Average"]
    assert "few" not in show_methods(replace(plan, protocol="cross_dataset", trainers=["HeBA"]), None)
    assert show_methods(replace(plan, output=tmp_path / "empty"), None) == ""


def test_where_nothing_finished_no_table_is_shown(
    toy_data: Path,
    job_flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail_all(scheduler: Scheduler) -> None:
        for task in scheduler.tasks:
            task.status, task.reason = "failed", "no luck"

    monkeypatch.setattr(Scheduler, "run", fail_all)
    call = ["base2new", "--root", str(toy_data), "--output", str(tmp_path), "--datasets", "caltech101"]
    assert reproduce.main([*call, "--seeds", "1", "--", *job_flags]) == 1
    said = capsys.readouterr().out
    assert "failed: HeBA caltech101 seed1: no luck" in said
    assert "published" not in said
    assert "\n\n" not in said


def test_a_dry_run_prints_commands_and_what_is_missing(
    toy_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["base2new", "--root", str(toy_data), "--output", str(tmp_path), "--seeds", "1", "2", "--dry-run"]
    assert reproduce.main([*call, "--", "OPTIM.LR", "0.5"]) == 0
    said = capsys.readouterr()
    commands = [shlex.split(line) for line in said.out.splitlines()]
    assert len(commands) == 2
    assert commands[0][1] == str(ROOT / "train.py")
    assert commands[0][-2:] == ["OPTIM.LR", "0.5"]
    assert "oxford_pets: no folder" in said.err
    assert "caltech101: no folder" not in said.err
    assert said.err.startswith("2 jobs to do, 0 of 2 are finished: HeBA 2\n")
    assert "data sets: caltech101; seeds: 1, 2\n" in said.err
    assert "how long: not known" in said.err
    assert "where: 1 job at a time on the " in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (["base2new", "--datasets", "dtd"], "dtd (no folder"),
        (["base2new", "--strict"], "imagenet (no folder"),
        (["base2new", "--root", "/nix"], "none of the data sets is below"),
        (["cross_dataset", "--source", "demo"], "python demo/make_data.py --root"),
        (["cross_dataset"], "imagenet (no folder"),
        (["base2new", "--datasets", "caltech101", "--shots", "0"], "--shots 0: give images a class"),
        (["few_shot", "--datasets", "caltech101", "--shots", "1", "-3"], "--shots -3: give images a class"),
        (["base2new", "--datasets", "caltech101", "--", "OPTIM.LR"], "pairs KEY VALUE"),
    ],
)
def test_mistakes_are_named_before_anything_starts(
    toy_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], call: list[str], named: str
) -> None:
    assert reproduce.main([call[0], "--root", str(toy_data), "--output", str(tmp_path), *call[1:]]) == 2
    assert named in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_how_long_and_what_slurm_would_be_asked_for(
    toy_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], written_run: Path
) -> None:
    log = tmp_path / "log"
    record = json.loads((written_run / "base" / "results.json").read_text())
    runs = (Run(written_run / "base", ()), Run(written_run / "novel", ()))
    seconds = recorded_seconds(Job("x", "HeBA dtd", "dtd", runs))
    assert seconds > record["seconds"] > 0
    kind = Job("x", "HeBA dtd", "dtd", ())
    tasks = [
        Task(kind, log, "finished", seconds=seconds, was_finished=True),
        Task(kind, log),
        Task(kind, log),
    ]
    assert reproduce.describe_time(tasks, 1).startswith(f"about {clock(2 * seconds)} by the finished jobs")
    call = [
        "base2new",
        "--datasets",
        "caltech101",
        "--root",
        str(toy_data),
        "--output",
        str(tmp_path / "new"),
    ]
    slurm = ["--launcher", "slurm", "--slurm", "partition=gpu", "timeout_min=60"]
    assert reproduce.main([*call, *slurm, "--dry-run"]) == 0
    said = capsys.readouterr().err.splitlines()
    asked = "gpus_per_node=1 cpus_per_task=8 timeout_min=60 partition=gpu"
    assert said[-2:] == [f"each job would ask Slurm for: {asked}", "array 1: 3 jobs"]


def test_an_output_that_is_a_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        assert reproduce.main(["demo", "--root", str(tmp_path), "--output", str(output)]) == 2
        said = f'error: --output "{output}": "{tmp_path / "file"}" is a file; name a folder'
        assert capsys.readouterr().err.startswith(said)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # nothing was drawn
