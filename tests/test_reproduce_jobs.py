"""The jobs that reproduce.py makes of a protocol: the shell scripts' own commands."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from runner import jobs as runner_jobs
from runner.jobs import Job, Plan, expand
from tests.conftest import ROOT

# Each folder of scripts that trains, and the trainer that its scripts name.
SCRIPTS = {
    path.parent.name: re.search(r"^TRAINER=(\w+)", path.read_text(), re.MULTILINE)[1]
    for path in sorted((ROOT / "scripts").glob("*/base2new_train.sh"))
}


def plan(protocol: str, **changes: object) -> Plan:
    given = Plan(protocol, ["HeBA"], ["caltech101", "dtd"], [1, 2], [16], Path("/data"), Path("/out"))
    return replace(given, **changes)


def script_calls(
    tmp_path: Path, script: str, *arguments: str, root: Path = ROOT, **environment: str
) -> list[list[str]]:
    """The calls of train.py that a shell script makes, from a stand-in for Python that writes them down.

    Args:
        tmp_path: folder for the stand-in.
        script: below ``scripts``.
        arguments: of the script.
        root: the repository or a copy of it.
        environment: variables that the script reads.
    """
    calls = tmp_path / "calls"
    calls.unlink(missing_ok=True)
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$1" in *train.py) shift; for w; do printf "%s\\0" "$w"; done >> "{calls}"; '
        f'printf "\\n" >> "{calls}";; esac\n'
    )
    python.chmod(0o755)
    env = os.environ | {"PYTHON": str(python), "DATA": "/data", "OUTPUT": "/out"} | environment
    subprocess.run(["bash", str(root / "scripts" / script), *arguments], env=env, check=True)
    return [line.split("\0")[:-1] for line in calls.read_text().splitlines()]


def arguments(job: Job) -> list[list[str]]:
    return [list(run.arguments) for run in job.runs]


def test_every_trainer_has_a_folder_of_scripts() -> None:
    configured = {path.parent.name for path in (ROOT / "configs" / "trainers").glob("*/base2new.yaml")}
    assert sorted(SCRIPTS.values()) == sorted(configured)
    for folder in SCRIPTS:
        names = {path.name for path in (ROOT / "scripts" / folder).iterdir()}
        assert names >= {f"{part}_{what}.sh" for part in ("base2new", "xd") for what in ("train", "test")}


@pytest.mark.parametrize("folder", SCRIPTS)
def test_a_script_called_without_arguments_says_how(folder: str) -> None:
    for name in ("base2new_train", "base2new_test", "xd_train", "xd_test"):
        call = ["bash", str(ROOT / "scripts" / folder / f"{name}.sh")]
        done = subprocess.run(
            call, env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert done.stderr.startswith("usage: bash ")


@pytest.mark.parametrize("folder", SCRIPTS)
def test_base2new_jobs_are_the_shell_scripts_commands(tmp_path: Path, folder: str) -> None:
    trainer, datasets = SCRIPTS[folder], ["caltech101", "imagenet"]
    found = expand(plan("base2new", trainers=[trainer], datasets=datasets, options=["OPTIM.LR", "1"]))
    jobs = {job.name: job for job in found}
    for dataset, seed in (("caltech101", "1"), ("imagenet", "2")):
        calls = []
        for script in (f"{folder}/base2new_train.sh", f"{folder}/base2new_test.sh"):
            calls += script_calls(tmp_path, script, dataset, seed, "--", "OPTIM.LR", "1")
        assert arguments(jobs[f"{trainer} {dataset} seed{seed}"]) == calls
    assert len(jobs) == 4


def test_zero_shot_jobs_are_the_shell_scripts_commands(tmp_path: Path) -> None:
    for protocol in ("base2new", "calibrate"):
        jobs = expand(plan(protocol, trainers=["ZeroshotCLIP"]))
        assert [job.name for job in jobs] == ["ZeroshotCLIP caltech101 seed1", "ZeroshotCLIP dtd seed1"]
        assert arguments(jobs[1]) == script_calls(tmp_path, "zsclip/base2new.sh", "dtd")


@pytest.mark.parametrize("folder", SCRIPTS)
def test_cross_dataset_jobs_are_the_shell_scripts_commands(tmp_path: Path, folder: str) -> None:
    trainer = SCRIPTS[folder]
    found = expand(plan("cross_dataset", trainers=[trainer], source="food101"))
    jobs = {job.name: job for job in found}
    train = script_calls(tmp_path, f"{folder}/xd_train.sh", "2", SOURCE="food101")
    test = script_calls(tmp_path, f"{folder}/xd_test.sh", "dtd", "2", SOURCE="food101")
    assert arguments(jobs[f"{trainer} food101 seed2"]) == train
    assert arguments(jobs[f"{trainer} food101-to-dtd seed2"]) == test
    assert jobs[f"{trainer} food101-to-dtd seed2"].after == f"{trainer} food101 seed2"
    assert len(jobs) == 6


@pytest.mark.parametrize("scripts", SCRIPTS)
def test_a_data_set_may_have_a_configuration_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scripts: str
) -> None:
    """The shell's command and the runner's; the run's folder bears the general name in both."""
    house = tmp_path / "house"
    (house / "configs").mkdir(parents=True)
    for room in ("scripts", "train.py", "configs/datasets"):
        (house / room).symlink_to(ROOT / room)
    given = {"trainers": [SCRIPTS[scripts]], "seeds": [1]}
    folder = house / "configs" / "trainers" / SCRIPTS[scripts]
    folder.mkdir(parents=True)
    for name in ("base2new", "base2new_imagenet", "x2d", "x2d_dtd"):
        (folder / f"{name}.yaml").touch()
    monkeypatch.setattr(runner_jobs, "ROOT", house)
    both = expand(plan("base2new", datasets=["imagenet", "dtd"], **given))
    for job, config in zip(both, ("base2new_imagenet", "base2new"), strict=True):
        assert {run.arguments[7] for run in job.runs} == {str(folder / f"{config}.yaml")}
        assert job.runs[0].folder.parts[-2:] == ("base2new", "seed1")
        calls = []
        for part in ("train", "test"):
            script = house / f"scripts/{scripts}/base2new_{part}.sh"
            calls += script_calls(tmp_path, str(script), job.dataset, "1")
        assert arguments(job) == calls
    # A model keeps the configuration of the data set that it was trained on, wherever it is evaluated.
    kept = expand(plan("cross_dataset", source="food101", datasets=["dtd"], **given))
    assert {job.runs[0].arguments[7] for job in kept} == {str(folder / "x2d.yaml")}
    script = str(house / f"scripts/{scripts}/xd_test.sh")
    assert arguments(kept[1]) == script_calls(tmp_path, script, "dtd", "1", SOURCE="food101")
    moved = expand(plan("cross_dataset", source="dtd", datasets=["food101"], **given))
    assert {job.runs[0].arguments[7] for job in moved} == {str(folder / "x2d_dtd.yaml")}
    assert arguments(moved[1]) == script_calls(tmp_path, script, "food101", "1", SOURCE="dtd")


def test_all_trainers_are_those_with_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "configs" / "trainers"
    for path in ("ZeroshotCLIP/vit_b16", "MaPLe/base2new", "CoOp/base2new", "CoOp/demo", "CoCoOp/x2d"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{path}.yaml").touch()
    (tmp_path / "configs" / "datasets").symlink_to(ROOT / "configs" / "datasets")
    monkeypatch.setattr(runner_jobs, "ROOT", tmp_path)

    def trainers(protocol: str, **changes: object) -> list[str]:
        asked = {"trainers": ["all"], "seeds": [1], "datasets": ["dtd"]} | changes
        return list(dict.fromkeys(job.name.split()[0] for job in expand(plan(protocol, **asked))))

    assert trainers("base2new") == ["ZeroshotCLIP", "CoOp", "MaPLe"]
    assert trainers("base2new", trainers=["MaPLe", "all"]) == ["MaPLe", "ZeroshotCLIP", "CoOp"]
    assert trainers("base2new", datasets=["demo"]) == ["ZeroshotCLIP", "CoOp"]
    assert trainers("cross_dataset") == ["ZeroshotCLIP", "CoCoOp"]
    assert trainers("base2new", config="x2d") == ["ZeroshotCLIP", "CoCoOp"]


def test_both_transfer_protocols_share_the_model() -> None:
    jobs = [expand(plan(protocol))[0] for protocol in ("cross_dataset", "domain_generalization")]
    assert jobs[0] == jobs[1]
    assert jobs[0].runs[0].folder == Path("/out/imagenet/HeBA/x2d_16shots/seed1")


def test_one_seed_of_everything_comes_before_the_next() -> None:
    names = [job.name for job in expand(plan("base2new"))]
    assert names == ["HeBA caltech101 seed1", "HeBA dtd seed1", "HeBA caltech101 seed2", "HeBA dtd seed2"]


def test_few_shot_trains_on_all_classes_with_each_number_of_shots() -> None:
    jobs = expand(plan("few_shot", shots=[1, 16], seeds=[1], trainers=["HeBA", "ZeroshotCLIP"]))
    folders = [str(job.runs[0].folder) for job in jobs]
    assert folders == [
        "/out/few_shot/caltech101/shots_1/HeBA/base2new/seed1",
        "/out/few_shot/dtd/shots_1/HeBA/base2new/seed1",
        "/out/few_shot/caltech101/shots_16/HeBA/base2new/seed1",
        "/out/few_shot/dtd/shots_16/HeBA/base2new/seed1",
        "/out/few_shot/caltech101/shots_0/ZeroshotCLIP/vit_b16/seed1",
        "/out/few_shot/dtd/shots_0/ZeroshotCLIP/vit_b16/seed1",
    ]
    assert not any("DATASET.SUBSAMPLE_CLASSES" in job.runs[0].arguments for job in jobs)


def test_a_job_of_two_runs_is_one_process() -> None:
    job = expand(plan("base2new"))[0]
    command = job.command()
    assert command[:2] == [sys.executable, str(ROOT / "train.py")]
    assert command[2:] == [*job.runs[0].arguments, "--then", *job.runs[1].arguments]


def test_an_unknown_configuration_is_named_with_those_there() -> None:
    with pytest.raises(ValueError, match=r'no configuration "typo".*there: base2new, .*x2d'):
        expand(plan("base2new", config="typo"))


def test_the_demos_data_sets_have_the_demos_configuration() -> None:
    mixed = expand(plan("base2new", datasets=["demo", "dtd"], trainers=["HeBA", "ZeroshotCLIP"], seeds=[1]))
    configs = {job.name: Path(job.runs[0].arguments[7]).stem for job in mixed}
    assert configs == {
        "HeBA demo seed1": "demo",
        "HeBA dtd seed1": "base2new",
        "ZeroshotCLIP demo seed1": "demo",
        "ZeroshotCLIP dtd seed1": "vit_b16",
    }
    moved = expand(plan("cross_dataset", source="demo", datasets=["demo_count_shape"], seeds=[1]))
    assert [str(job.runs[0].folder) for job in moved] == [
        "/out/demo/HeBA/demo_16shots/seed1",
        "/out/evaluation/HeBA/demo_16shots/demo_count_shape/seed1",
    ]
    assert all(Path(job.runs[0].arguments[7]).stem == "demo" for job in moved)


def test_a_methods_options_go_to_its_own_runs_alone() -> None:
    options = ("TRAINER.LWEIB.PREC", "bf16", "OPTIM.LR", "0.1", "TRAINER.LWIEB.PREC", "fp32")
    made = plan("demo", trainers=["LwEIB", "MultiModalAdapter"], datasets=["demo"], options=options)
    told = {job.name.split()[0]: job.runs[0].arguments for job in expand(made)}
    assert told["LwEIB"][-6:] == options
    assert told["MultiModalAdapter"][-4:] == options[2:]  # a name that nobody has is refused by the run


def test_a_configuration_of_the_protocols_name_goes_first() -> None:
    made = plan("few_shot", trainers=["CoOp", "MaPLe"], datasets=["dtd"], shots=[1])
    found = {job.name.split()[0]: job.runs[0] for job in expand(made)}
    assert "/CoOp/few_shot/seed" in str(found["CoOp"].folder)
    assert any(word.endswith("CoOp/few_shot.yaml") for word in found["CoOp"].arguments)
    assert "/MaPLe/base2new/seed" in str(found["MaPLe"].folder)
