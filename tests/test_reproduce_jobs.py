"""The jobs that reproduce.py makes of a protocol: the shell scripts' own commands."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from runner.jobs import Job, Plan, expand
from tests.conftest import ROOT


def plan(protocol: str, **changes: object) -> Plan:
    given = Plan(protocol, ["HeBA"], ["caltech101", "dtd"], [1, 2], [16], Path("/data"), Path("/out"))
    return replace(given, **changes)


def script_calls(tmp_path: Path, script: str, *arguments: str, **environment: str) -> list[list[str]]:
    """The calls of train.py that a shell script makes, from a stand-in for Python that writes them down."""
    calls = tmp_path / "calls"
    calls.unlink(missing_ok=True)
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$1" in *train.py) shift; for w; do printf "%s\\0" "$w"; done >> "{calls}"; '
        f'printf "\\n" >> "{calls}";; esac\n'
    )
    python.chmod(0o755)
    env = os.environ | {"PYTHON": str(python), "DATA": "/data", "OUTPUT": "/out"} | environment
    subprocess.run(["bash", str(ROOT / "scripts" / script), *arguments], env=env, check=True)
    return [line.split("\0")[:-1] for line in calls.read_text().splitlines()]


def arguments(job: Job) -> list[list[str]]:
    return [list(run.arguments) for run in job.runs]


def test_base2new_jobs_are_the_shell_scripts_commands(tmp_path: Path) -> None:
    jobs = {job.name: job for job in expand(plan("base2new", options=["OPTIM.LR", "1"]))}
    for dataset in ("caltech101", "dtd"):
        for seed in ("1", "2"):
            calls = []
            for script in ("heba/base2new_train.sh", "heba/base2new_test.sh"):
                calls += script_calls(tmp_path, script, dataset, seed, "--", "OPTIM.LR", "1")
            assert arguments(jobs[f"HeBA {dataset} seed{seed}"]) == calls
    assert len(jobs) == 4


def test_zero_shot_jobs_are_the_shell_scripts_commands(tmp_path: Path) -> None:
    for protocol in ("base2new", "calibrate"):
        jobs = expand(plan(protocol, trainers=["ZeroshotCLIP"]))
        assert [job.name for job in jobs] == ["ZeroshotCLIP caltech101 seed1", "ZeroshotCLIP dtd seed1"]
        assert arguments(jobs[1]) == script_calls(tmp_path, "zsclip/base2new.sh", "dtd")


def test_cross_dataset_jobs_are_the_shell_scripts_commands(tmp_path: Path) -> None:
    jobs = {job.name: job for job in expand(plan("cross_dataset", source="food101"))}
    train = script_calls(tmp_path, "heba/xd_train.sh", "2", SOURCE="food101")
    test = script_calls(tmp_path, "heba/xd_test.sh", "dtd", "2", SOURCE="food101")
    assert arguments(jobs["HeBA food101 seed2"]) == train
    assert arguments(jobs["HeBA food101-to-dtd seed2"]) == test
    assert jobs["HeBA food101-to-dtd seed2"].after == "HeBA food101 seed2"
    assert len(jobs) == 6


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
