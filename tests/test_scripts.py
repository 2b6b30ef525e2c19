"""The family's shell commands, from another working directory, down to the Base / Novel / HM table.

One command starts Python as a user's does. The other scripts' calls of train.py are written down and made in
this process.
"""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import parse_test_res
import train
from adapt.prompts import ClassPrompts
from clip.model import CLIP
from runner.config import setup_cfg
from tests.conftest import ROOT, run_main
from tests.test_reproduce_jobs import script_calls
from trainers.heba import HeBA


def bash(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHON": sys.executable} | environment
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / script), *arguments], env=env, capture_output=True, text=True
    )


def run_calls(script: str, *arguments: str, **environment: str) -> str:
    """Makes the script's calls of train.py in this process; returns what they write to stdout."""
    said = ""
    for call in script_calls(Path.cwd(), script, *arguments, **environment):
        done = run_main(train.main, call)
        assert done.returncode == 0, done.stderr
        said += done.stdout
    return said


def parse(*arguments: str) -> subprocess.CompletedProcess:
    return run_main(parse_test_res.main, arguments)


@pytest.fixture
def workspace(tmp_path: Path, toy_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a folder with a space in its name, in which ``my data`` is the data root."""
    folder = tmp_path / "some where"
    folder.mkdir()
    (folder / "my data").symlink_to(toy_data)
    monkeypatch.chdir(folder)
    return folder


def test_base2new_chain_ends_in_a_table(workspace: Path, toy_flags: list[str]) -> None:
    places = {"DATA": "my data", "OUTPUT": "my output"}
    flags = [*toy_flags, "OPTIM.MAX_EPOCH", "1"]
    done = bash("heba/base2new_train.sh", "caltech101", "1", "--", *flags, **places)
    assert done.returncode == 0, done.stderr
    run_calls("heba/base2new_test.sh", "caltech101", "1", "--", *flags, **places)
    for script in ("base2new_train.sh", "base2new_test.sh"):
        run_calls(f"heba/{script}", "caltech101", "2", "--", *flags, **places)
    run = "caltech101/shots_16/HeBA/base2new"
    for part, classes in (("train_base", 3), ("test_new", 3)):
        for seed in ("1", "2"):
            folder = workspace / "my output" / "base2new" / part / run / f"seed{seed}"
            record = json.loads((folder / "results.json").read_text())
            assert record["num_classes"] == classes
            assert record["seed"] == int(seed)
    again = run_calls("heba/base2new_test.sh", "caltech101", "2", "--", *flags, **places)
    assert "Finished already" in again
    table = parse("my output/base2new")
    assert table.returncode == 0, table.stderr
    assert re.search(r"caltech101 .*±", table.stdout)
    for header in ("Base", "Novel", "HM"):
        assert header in table.stdout
    family = parse(f"my output/base2new/train_base/{run}")
    assert "* accuracy:" in family.stdout


def test_zero_shot_clip_runs_on_every_protocol(workspace: Path, toy_flags: list[str]) -> None:
    places = {"DATA": "my data", "OUTPUT": "zero-shot"}
    flags = [*toy_flags[:4], "DATALOADER.NUM_WORKERS", "0"]
    run_calls("zsclip/zeroshot.sh", "caltech101", "--", *flags, **places)
    run_calls("zsclip/base2new.sh", "caltech101", "--", *flags, **places)
    run_calls("zsclip/zeroshot.sh", "caltech101", "--", *flags, TRAINER="ZeroshotCLIP2", **places)
    records = [
        json.loads(path.read_text()) for path in sorted((workspace / "zero-shot").rglob("results.json"))
    ]
    assert [(record["trainer"], record["subsample_classes"]) for record in records] == [
        ("ZeroshotCLIP", "all"),
        ("ZeroshotCLIP2", "all"),
        ("ZeroshotCLIP", "new"),
        ("ZeroshotCLIP", "base"),
    ]
    assert all(record["trainable_parameters"] == 0 for record in records)


def test_cross_dataset_chain(workspace: Path, toy_flags: list[str]) -> None:
    places = {"DATA": "my data", "OUTPUT": "xd", "SOURCE": "caltech101"}
    flags = [*toy_flags, "OPTIM.MAX_EPOCH", "1", "TRAINER.HeBA.ADAPTER_START", "3"]
    run_calls("heba/xd_train.sh", "1", "--", *flags, **places)
    run_calls("heba/xd_test.sh", "caltech101", "1", "--", *flags, **places)
    results = sorted(
        str(path.relative_to(workspace / "xd")) for path in (workspace / "xd").rglob("results.json")
    )
    assert results == [
        "caltech101/HeBA/x2d_16shots/seed1/results.json",
        "evaluation/HeBA/x2d_16shots/caltech101/seed1/results.json",
    ]
    record = json.loads((workspace / "xd" / results[1]).read_text())
    assert record["adapter_scale"] == 0.05
    assert record["num_classes"] == 6


def test_evaluation_before_training_says_what_to_do(workspace: Path, toy_flags: list[str]) -> None:
    places = {"DATA": "my data", "OUTPUT": "empty"}
    (call,) = script_calls(workspace, "heba/base2new_test.sh", "caltech101", "1", "--", *toy_flags, **places)
    done = run_main(train.main, call)
    assert done.returncode == 2
    assert "train first" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        *((f"{name}.sh", 3, "") for name in ("heba/base2new_train", "heba/base2new_test", "zsclip/base2new")),
        *((f"{name}.sh", 130, "") for name in ("heba/base2new_train", "zsclip/base2new", "heba/ablate")),
        ("heba/ablate.sh", 1, "error: these variants failed: no_slow_fast zero_initialisation"),
    ],
)
def test_a_failed_or_interrupted_run_ends_the_script_with_its_status(
    workspace: Path, script: str, status: int, said: str
) -> None:
    """After a failure ablate.sh goes on with the next variant and names those that failed."""
    python = workspace / "python"
    code = 3 if said else status
    python.write_text(f'#!/bin/sh\ncase "$1" in *train.py) echo run failed >&2; exit {code};; esac\n')
    python.chmod(0o755)
    chosen = "zero_initialisation no_slow_fast"
    done = bash(script, "caltech101", "1", PYTHON=str(python), VARIANTS=chosen)
    assert done.returncode == status
    assert set(said.split()) <= set(done.stderr.split())
    assert done.stderr.count("run failed") == (2 if said else 1)


def readme_commands() -> list[str]:
    """Every line of the README's bash blocks, without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("line", readme_commands())
def test_commands_of_the_readme_exist_and_parse(line: str) -> None:
    """Scripts, files and configurations exist, flags are known, and bash can read the line."""
    assert subprocess.run(["bash", "-n", "-c", line]).returncode == 0
    words = [word for word in shlex.split(line) if not re.match(r"^[A-Z_]+=", word)]
    if words[0] == "bash":
        assert (ROOT / words[1]).is_file()
        if words[1].startswith("scripts/heba/base2new") or words[1].startswith("scripts/zsclip"):
            assert (ROOT / "configs" / "datasets" / f"{words[2]}.yaml").is_file()
    elif words[0] == "python":
        called = words[1:3] if words[1] == "-m" else words[1:2]
        assert (ROOT / (called[-1].replace(".", "/") + ".py" if called[0] == "-m" else called[0])).is_file()
        if words[1] == "train.py":
            args = train.parse_args(words[2:])
            for file in (args.config_file, args.dataset_config_file):
                assert not file or (ROOT / file).is_file()
            assert len(args.opts) % 2 == 0
        else:
            arguments = words[1 + len(called) :]
            topic = arguments[:1] if called == ["reproduce.py"] else []
            program = importlib.import_module(called[-1].removesuffix(".py").replace("/", "."))
            done = run_main(program.main, [*topic, "--help"])
            assert done.returncode == 0, done.stderr
            assert all(word in done.stdout for word in arguments if word.startswith("--"))
    else:
        assert words[0] in ("git", "cd", "gdown", "pip")


def ablations() -> dict[str, list[str]]:
    """The variants of ablate.sh and their KEY VALUE pairs."""
    text = (ROOT / "scripts" / "heba" / "ablate.sh").read_text()
    lines = text.split("<<'VARIANTS'\n")[1].split("\nVARIANTS\n")[0].splitlines()
    return {words[0]: words[1:] for words in map(str.split, lines)}


def test_every_ablation_is_a_setting_that_heba_knows() -> None:
    weights = {}
    for name, pairs in ablations().items():
        args = train.parse_args(["--trainer", "HeBA", *pairs])
        args.backbone = "ViT-B/16"
        method = HeBA.method_of(setup_cfg(args))
        with torch.device("meta"):  # ViT-B/16's shapes without its weights
            backbone = CLIP(512, 224, 12, 768, 16, 77, 49408, 512, 8, 12)
            learner = method.attach_adapters(backbone, ClassPrompts(torch.zeros(1, 77), torch.ones(1)))
        weights[name] = sum(weight.numel() for weight in learner.parameters())
    full, attention = weights["full"], weights["attention_bottleneck"]
    assert full == 87_158_016
    assert attention < full
    assert attention < weights["attention_expansion"]
    assert weights["dense_visual_stream"] < full
    same = {name for name, number in weights.items() if number == full}
    assert same == {"full", "zero_initialisation", "no_slow_fast", "no_label_smoothing"}


def test_ablations_run_by_overriding_keys(workspace: Path, toy_flags: list[str]) -> None:
    places = {"DATA": "my data", "OUTPUT": "variants"}
    flags = [*toy_flags, *("OPTIM.MAX_EPOCH", "1", "DATALOADER.TRAIN_X.BATCH_SIZE", "12")]
    chosen = "full dense_visual_stream"
    run_calls("heba/ablate.sh", "caltech101", "1", "--", *flags, **places, VARIANTS=chosen)
    found = sorted(path.name for path in (workspace / "variants" / "ablation").iterdir())
    assert found == sorted(chosen.split())
    table = parse("variants/ablation")
    assert table.stdout.count("caltech101") >= 2


SCRIPTS = sorted(path for path in (ROOT / "scripts").glob("*/*.sh") if "common.sh" in path.read_text("utf-8"))


@pytest.mark.parametrize("path", [ROOT / "scripts" / "setup.sh", *SCRIPTS], ids=lambda path: path.stem)
def test_each_script_says_what_it_does(path: Path) -> None:
    """Before it looks for Python: on a machine where nothing is set up yet."""
    done = subprocess.run(
        ["bash", str(path), "--help"], env=os.environ | {"PYTHON": "none"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"{path.parent.name}/{path.name}" in done.stdout
    variants = path.read_text("utf-8").partition("<<'VARIANTS'\n")[2].splitlines()[:-1]
    assert all(line.split()[0] in done.stdout for line in variants)
