"""The family's shell commands, from another working directory, down to the Base / Novel / HM table."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def bash(script: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHON": sys.executable} | environment
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / script), *arguments], cwd=cwd, env=env, capture_output=True, text=True
    )


def parse(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "parse_test_res.py"), *arguments], cwd=cwd, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, toy_data: Path) -> Path:
    """A folder with a space in its name, in which ``my data`` is the data root."""
    folder = tmp_path_factory.mktemp("some where")
    (folder / "my data").symlink_to(toy_data)
    return folder


def test_base2new_chain_ends_in_a_table(workspace: Path, toy_flags: list[str]) -> None:
    places = {"cwd": workspace, "DATA": "my data", "OUTPUT": "my output"}
    flags = [*toy_flags, "OPTIM.MAX_EPOCH", "1"]
    for seed in ("1", "2"):
        for script in ("base2new_train.sh", "base2new_test.sh"):
            done = bash(f"heba/{script}", "caltech101", seed, "--", *flags, **places)
            assert done.returncode == 0, done.stderr
    run = "caltech101/shots_16/HeBA/base2new"
    for part, classes in (("train_base", 3), ("test_new", 3)):
        for seed in ("1", "2"):
            folder = workspace / "my output" / "base2new" / part / run / f"seed{seed}"
            record = json.loads((folder / "results.json").read_text())
            assert record["num_classes"] == classes
            assert record["seed"] == int(seed)
    again = bash("heba/base2new_test.sh", "caltech101", "2", "--", *flags, **places)
    assert "Finished already" in again.stdout
    table = parse("my output/base2new", cwd=workspace)
    assert table.returncode == 0, table.stderr
    assert re.search(r"caltech101 .*±", table.stdout)
    for header in ("Base", "Novel", "HM"):
        assert header in table.stdout
    family = parse(f"my output/base2new/train_base/{run}", cwd=workspace)
    assert "* accuracy:" in family.stdout


def test_zero_shot_clip_runs_on_every_protocol(workspace: Path, toy_flags: list[str]) -> None:
    places = {"cwd": workspace, "DATA": "my data", "OUTPUT": "zero-shot"}
    flags = [*toy_flags[:4], "DATALOADER.NUM_WORKERS", "0"]
    assert bash("zsclip/zeroshot.sh", "caltech101", "--", *flags, **places).returncode == 0
    assert bash("zsclip/base2new.sh", "caltech101", "--", *flags, **places).returncode == 0
    ensemble = bash("zsclip/zeroshot.sh", "caltech101", "--", *flags, TRAINER="ZeroshotCLIP2", **places)
    assert ensemble.returncode == 0, ensemble.stderr
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
    places = {"cwd": workspace, "DATA": "my data", "OUTPUT": "xd", "SOURCE": "caltech101"}
    flags = [*toy_flags, "OPTIM.MAX_EPOCH", "1", "TRAINER.HeBA.ADAPTER_START", "3"]
    done = bash("heba/xd_train.sh", "1", "--", *flags, **places)
    assert done.returncode == 0, done.stderr
    done = bash("heba/xd_test.sh", "caltech101", "1", "--", *flags, **places)
    assert done.returncode == 0, done.stderr
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
    places = {"cwd": workspace, "DATA": "my data", "OUTPUT": "empty"}
    done = bash("heba/base2new_test.sh", "caltech101", "1", "--", *toy_flags, **places)
    assert done.returncode == 2
    assert "train first" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("script", ["base2new_train.sh", "base2new_test.sh", "xd_train.sh", "xd_test.sh"])
def test_a_call_without_arguments_prints_the_usage(workspace: Path, script: str) -> None:
    done = bash(f"heba/{script}", cwd=workspace)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: bash ")


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
            import train

            args = train.parse_args(words[2:])
            for file in (args.config_file, args.dataset_config_file):
                assert not file or (ROOT / file).is_file()
            assert len(args.opts) % 2 == 0
        else:
            arguments = words[1 + len(called) :]
            topic = arguments[:1] if called == ["reproduce.py"] else []
            command = [sys.executable, *called, *topic, "--help"]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            assert all(word in done.stdout for word in arguments if word.startswith("--"))
    else:
        assert words[0] in ("git", "cd", "gdown", "pip")


def test_ablations_run_by_overriding_keys(workspace: Path, toy_flags: list[str]) -> None:
    places = {"cwd": workspace, "DATA": "my data", "OUTPUT": "variants"}
    flags = [*toy_flags, *("OPTIM.MAX_EPOCH", "1", "DATALOADER.TRAIN_X.BATCH_SIZE", "12")]
    done = bash("heba/ablate.sh", "caltech101", "1", "--", *flags, **places)
    assert done.returncode == 0, done.stderr
    sizes = {}
    for path in (workspace / "variants").rglob("train_base/*/*/*/*/*/results.json"):
        sizes[path.relative_to(workspace / "variants" / "ablation").parts[0]] = json.loads(path.read_text())
    sizes = {name: record["trainable_parameters"] for name, record in sizes.items()}
    assert len(sizes) == 7
    full, attention = sizes["full"], sizes["attention_bottleneck"]
    assert attention < sizes["attention_expansion"]
    assert sizes["dense_visual_stream"] < full
    assert all(sizes[name] == full for name in ("zero_initialisation", "no_slow_fast", "no_label_smoothing"))
    table = parse("variants/ablation", cwd=workspace)
    assert table.stdout.count("caltech101") >= 7
