"""The five steps of docs/METHODS.md, followed word for word in a copy of the repository."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from demo import make_data
from tests.conftest import ROOT, copy_repository
from tests.test_reproduce_jobs import script_calls


@pytest.fixture(scope="module")
def blocks() -> list[tuple[str, str]]:
    """The blocks of code of the steps, with their languages."""
    steps = (ROOT / "docs" / "METHODS.md").read_text("utf-8").split("## How to add yours")[1]
    return re.findall(r"```(\w+)\n(.*?)```", steps, flags=re.DOTALL)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[str, str]]) -> Path:
    """A copy in which steps 1 to 4 were taken."""
    house = tmp_path_factory.mktemp("house")
    copy_repository(house)
    assert [language for language, _ in blocks] == ["python", "bash", "bash", "markdown", "bash", "python"]
    (_, method), (_, configurations), (_, scripts), (_, line), *_ = blocks
    (house / "trainers" / "rescale.py").write_text(method)
    for commands in (configurations, scripts):
        subprocess.run(["bash", "-euc", commands], cwd=house, check=True)
    page = house / "docs" / "METHODS.md"
    text = page.read_text("utf-8")
    end = text.index("\n\n", text.index("| `ZeroshotCLIP` |"))  # of the first table
    page.write_text(f"{text[:end]}\n{line.rstrip()}{text[end:]}", "utf-8")
    return house


def run(house: Path, *command: str, **environment: str) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(command, cwd=house, env=env, capture_output=True, text=True)


def test_a_method_added_by_the_steps_keeps_what_all_methods_keep(
    house: Path, blocks: list[tuple[str, str]]
) -> None:
    words = blocks[4][1].splitlines()[0].split()
    assert words[:3] == ["python", "-m", "pytest"]
    done = run(house, sys.executable, *words[1:], "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d\d passed", done.stdout)
    assert "skipped" not in done.stdout


def test_a_method_added_by_the_steps_is_a_model_without_a_trainer(
    house: Path, blocks: list[tuple[str, str]]
) -> None:
    code = blocks[5][1].replace("ViT-B/16", "Demo-ViT/8") + "print(model.text_features().shape)"
    done = run(house, sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "torch.Size([2, 128])"


def test_a_method_added_by_the_steps_runs_beside_the_others(
    house: Path, blocks: list[tuple[str, str]], tmp_path: Path
) -> None:
    words = blocks[4][1].splitlines()[1].split()
    assert words[:3] == ["python", "reproduce.py", "demo"]
    few = replace(make_data.DATA_SETS["demo"], images={"train": 1, "val": 1, "test": 1})
    make_data.make("demo", few, tmp_path)
    places = ["--root", str(tmp_path), "--output", str(tmp_path / "out"), "--seeds", "1", "--dry-run"]
    done = run(house, sys.executable, *words[1:], *places)
    assert done.returncode == 0, done.stderr
    jobs = [line for line in done.stdout.splitlines() if "train.py" in line]
    trainers = [re.search(r"--trainer (\w+)", line)[1] for line in jobs]
    assert trainers == words[4:] == ["ZeroshotCLIP", "Rescale", "HeBA"]
    assert str(house / "configs/trainers/Rescale/demo.yaml") in done.stdout


def test_a_method_added_by_the_steps_is_trained_and_evaluated_by_its_scripts(
    house: Path, toy_data: Path, tiny_clip_path: Path, tmp_path: Path
) -> None:
    """Both in one process, which imports torch once."""
    flags = [
        *("MODEL.BACKBONE.NAME", str(tiny_clip_path), "MODEL.BACKBONE.QUICK_GELU", "True"),
        *("DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "2", "TRAINER.Rescale.PREC", "fp32"),
    ]
    places = {"DATA": str(toy_data), "OUTPUT": str(house / "output"), "SHOTS": "2"}
    arguments = ("caltech101", "1", "--", *flags)
    (train,), (test,) = (
        script_calls(tmp_path, f"rescale/base2new_{part}.sh", *arguments, root=house, **places)
        for part in ("train", "test")
    )
    done = run(house, sys.executable, "train.py", *train, "--then", *test)
    assert done.returncode == 0, done.stderr
    for half, classes in (("train_base", "base"), ("test_new", "new")):
        folder = house / f"output/base2new/{half}/caltech101/shots_2/Rescale/base2new/seed1"
        record = json.loads((folder / "results.json").read_text())
        assert record["trainer"] == "Rescale"
        assert record["subsample_classes"] == classes
        assert record["trainable_parameters"] == 4 * 2 * (128 + 128)
        assert record["total"] == 9
