"""Whole runs of train.py on a toy data set: what a run leaves, resuming, evaluating, and users' mistakes."""

import errno
import gc
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import command_line
import train
from fileio.atomic import temporary_name
from runner.config import setup_cfg
from runner.folder import OPENING, check_model_dir, exclusive_run_folder, last_epoch, saved_traceback
from runner.record import differing_settings, read_record
from tests.conftest import ROOT, run_main

BASE2NEW = str(ROOT / "configs" / "trainers" / "HeBA" / "base2new.yaml")
CALTECH101 = str(ROOT / "configs" / "datasets" / "caltech101.yaml")


def command(data: Path, output: Path, opts: list[str], *flags: str, seed: int = 1) -> list[str]:
    """Arguments of train.py; ``flags`` come before the KEY VALUE pairs."""
    return [
        *("--root", str(data), "--seed", str(seed), "--trainer", "HeBA", "--output-dir", str(output)),
        *("--dataset-config-file", CALTECH101, "--config-file", BASE2NEW, *flags, *opts),
    ]


def subprocess_command(arguments: list[str]) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *arguments]


def weights(output: Path, epoch: int = 3) -> dict[str, torch.Tensor]:
    path = output / "adapter_learner" / f"model.pth.tar-{epoch}"
    return torch.load(path, weights_only=True)["state_dict"]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def logged_losses(output: Path) -> list[tuple[int, float]]:
    """The steps of metrics.jsonl with their losses."""
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, toy_data: Path, toy_flags: list[str]) -> Path:
    """A finished training run on the base classes."""
    output = tmp_path_factory.mktemp("trained")
    arguments = command(toy_data, output, [*toy_flags, "DATASET.SUBSAMPLE_CLASSES", "base"])
    done = run_main(train.main, arguments)
    assert done.returncode == 0, done.stderr
    return output


def test_a_run_leaves_its_record_its_log_and_its_last_epoch(trained: Path) -> None:
    files = {
        str(path.relative_to(trained))
        for path in trained.rglob("*")
        if path.is_file() and "tensorboard" not in path.parts
    }
    assert files == {
        "log.txt",
        "metrics.jsonl",
        "config.yaml",
        "results.json",
        "adapter_learner/checkpoint",
        "adapter_learner/model.pth.tar-3",
        "adapter_learner/adapter.safetensors",
    }
    record = json.loads((trained / "results.json").read_text())
    assert record["trainer"] == "HeBA"
    assert record["dataset"] == "Caltech101"
    assert record["subsample_classes"] == "base"
    assert record["seed"] == 1
    assert record["shots"] == 4
    assert record["epochs"] == 3
    assert record["num_classes"] == 3
    assert record["total"] == 9
    assert record["accuracy"] == pytest.approx(100 * record["correct"] / 9)
    assert record["adapter_scale"] == 0.025
    assert record["config"]["INPUT.SIZE"] == [32, 32]
    log = (trained / "log.txt").read_text()
    assert "Creating a 4-shot dataset" in log
    assert "epoch [3/3] batch [3/3]" in log
    assert "Finish training" in log
    assert f"* accuracy: {record['accuracy']:.2f}%" in log


def test_a_finished_run_says_so_and_is_not_repeated(
    trained: Path, toy_data: Path, toy_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
    assert train.main(command(toy_data, trained, [*toy_flags, "DATASET.SUBSAMPLE_CLASSES", "base"])) == 0
    assert "Finished already" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}


def test_a_finished_run_is_not_taken_for_another(
    trained: Path, toy_data: Path, toy_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    opts = [*toy_flags, "DATASET.SUBSAMPLE_CLASSES", "base", "OPTIM.LR", "0.5"]
    assert train.main(command(toy_data, trained, opts)) == 2
    assert "OPTIM.LR 0.0075 != 0.5" in capsys.readouterr().err


def test_same_seed_gives_the_same_run_whatever_the_number_of_workers(
    trained: Path, toy_data: Path, toy_flags: list[str], tmp_path: Path
) -> None:
    opts = [*toy_flags, "DATASET.SUBSAMPLE_CLASSES", "base", "DATALOADER.NUM_WORKERS", "2"]
    done = run_main(train.main, command(toy_data, tmp_path, opts))
    assert done.returncode == 0, done.stderr
    assert same(weights(tmp_path), weights(trained))


def test_another_seed_gives_another_run(
    trained: Path, toy_data: Path, toy_flags: list[str], tmp_path: Path
) -> None:
    opts = [*toy_flags, "DATASET.SUBSAMPLE_CLASSES", "base"]
    done = run_main(train.main, command(toy_data, tmp_path, opts, seed=0))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "results.json").read_text())["seed"] == 0
    assert not same(weights(tmp_path), weights(trained))


def wait_for(path: Path, process: subprocess.Popen) -> None:
    """Returns when a process has made a file."""
    deadline = time.time() + 120
    while not path.exists():
        assert process.poll() is None, "the process ended before it could be stopped"
        assert time.time() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("seconds", ["0", "60"])
def test_a_killed_run_ends_with_bit_identical_weights(
    trained: Path,
    toy_data: Path,
    toy_flags: list[str],
    tmp_path: Path,
    seconds: str,
) -> None:
    opts = [*toy_flags, "DATASET.SUBSAMPLE_CLASSES", "base", "TRAIN.RESUME_SECONDS", seconds]
    arguments = command(toy_data, tmp_path, opts)
    process = subprocess.Popen(subprocess_command(arguments), stdout=subprocess.DEVNULL)
    wait_for(tmp_path / ("resume.pth.tar" if seconds == "0" else "metrics.jsonl"), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "results.json").exists()
    done = run_main(train.main, arguments)
    assert done.returncode == 0, done.stderr
    assert ("will resume training" in done.stdout) == (seconds == "0")
    assert same(weights(tmp_path), weights(trained))
    assert not (tmp_path / "resume.pth.tar").exists()
    one, other = (json.loads((folder / "results.json").read_text()) for folder in (tmp_path, trained))
    assert one["accuracy"] == other["accuracy"]
    assert one["config_digest"] == other["config_digest"]
    assert (one["phases"]["train"]["start_epoch"] > 0) == (seconds == "0")
    assert (one["phases"]["train"]["seconds_before"] > 0) == (seconds == "0")
    assert logged_losses(tmp_path) == logged_losses(trained)


def test_a_signal_to_all_processes_of_a_run_ends_its_epoch_and_those_after_then(
    trained: Path, toy_data: Path, toy_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Slurm sends it, loader workers included; with stdout closed, and SIGHUP ignored by nohup."""
    opts = [*toy_flags, "DATASET.SUBSAMPLE_CLASSES", "base", "DATALOADER.NUM_WORKERS", "1"]
    arguments = command(toy_data, tmp_path / "run", opts)
    then = ["--then", *command(toy_data, tmp_path / "then", opts)]
    shell = ["sh", "-c", 'trap "" HUP; exec "$@" >&-', "sh", *subprocess_command([*arguments, *then])]
    process = subprocess.Popen(shell, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(tmp_path / "run" / "metrics.jsonl", process)
    os.killpg(process.pid, signal.SIGHUP)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    first, last = errors.splitlines()
    assert first == "SIGTERM: stops after this epoch; a second signal stops at once"
    assert re.fullmatch(r'SIGTERM: stopped after epoch \d of 3 in ".*run"; the same command goes on .*', last)
    assert not (tmp_path / "then").exists()
    assert train.main(arguments) == 0
    assert "Previous epoch: " in capsys.readouterr().out
    assert same(weights(tmp_path / "run"), weights(trained))


def test_a_signal_before_the_first_epoch_ends_a_run_with_a_line(
    toy_data: Path,
    toy_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("trainers.heba.HeBA.before_train", lambda self: os.kill(os.getpid(), signal.SIGTERM))
    with command_line.interrupting_signals():
        assert train.main(command(toy_data, tmp_path, toy_flags)) == 130
    said = "SIGTERM: stopped; the same command goes on from the last saved state, if any"
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_run_outside_the_main_thread_works(toy_data: Path, toy_flags: list[str], tmp_path: Path) -> None:
    statuses: list[int] = []
    arguments = command(toy_data, tmp_path, [*toy_flags, "OPTIM.MAX_EPOCH", "1"])
    thread = threading.Thread(target=lambda: statuses.append(train.main(arguments)))
    thread.start()
    thread.join()
    assert statuses == [0]


@pytest.mark.parametrize("chosen", ["novel", "base"])
def test_novel_classes_are_evaluated_at_both_scales_and_a_key_chooses(
    trained: Path, toy_data: Path, toy_flags: list[str], tmp_path: Path, chosen: str
) -> None:
    opts = [
        *toy_flags,
        *("DATASET.SUBSAMPLE_CLASSES", "new", "TRAINER.HeBA.ADAPTER_SCALE_NOVEL", "0.9"),
        *("TRAINER.HeBA.NOVEL_RESULT_SCALE", chosen),
    ]
    flags = ("--eval-only", "--model-dir", str(trained), "--load-epoch", "last")
    done = run_main(train.main, command(toy_data, tmp_path, opts, *flags))
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "results.json").read_text())
    scales = {"novel": 0.9, "base": 0.025}
    other = "base" if chosen == "novel" else "novel"
    assert record["adapter_scale"] == scales[chosen]
    assert list(record["other"]) == [f"{other}_scale"]
    assert record["other"][f"{other}_scale"]["adapter_scale"] == scales[other]
    assert record["loaded"].keys() == {"adapter_learner"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("* accuracy")]
    assert lines[-1] == f"* accuracy: {record['accuracy']:.2f}%"
    assert len(lines) == 2


def test_weights_of_a_retrained_model_are_evaluated_again(
    trained: Path,
    toy_data: Path,
    toy_flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    opts = [*toy_flags, "DATASET.SUBSAMPLE_CLASSES", "new"]
    model, output = tmp_path / "model" / "adapter_learner", tmp_path / "test"
    model.mkdir(parents=True)
    checkpoint = torch.load(trained / "adapter_learner" / "model.pth.tar-3", weights_only=True)
    torch.save(checkpoint, model / "model.pth.tar-3")
    flags = ("--eval-only", "--model-dir", str(model.parent), "--load-epoch", "last")
    arguments = command(toy_data, output, opts, *flags)
    assert run_main(train.main, arguments).returncode == 0
    next(iter(checkpoint["state_dict"].values())).mul_(2)
    torch.save(checkpoint, model / "model.pth.tar-3")
    assert train.main(arguments) == 2
    assert "the evaluated weights" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["fp16", "amp", "bf16"])
def test_half_precisions_train_and_evaluate(
    toy_data: Path, toy_flags: list[str], tmp_path: Path, precision: str
) -> None:
    """In one step of one image a class."""
    opts = [*toy_flags, "TRAINER.HeBA.PREC", precision, "OPTIM.MAX_EPOCH", "1", "DATASET.NUM_SHOTS", "1"]
    opts += ["DATASET.SUBSAMPLE_CLASSES", "base"]
    done = run_main(train.main, command(toy_data, tmp_path, opts))
    assert done.returncode == 0, done.stderr
    assert all(tensor.dtype == torch.float32 for tensor in weights(tmp_path, 1).values())
    assert json.loads((tmp_path / "results.json").read_text())["total"] == 9


MISTAKES = {
    "data set file": (["--dataset-config-file", "configs/datasets/typo.yaml"], [], "typo.yaml"),
    "data set name": ([], ["DATASET.NAME", "Caltech102"], "Caltech102"),
    "no data set": ([], ["DATASET.NAME", ""], "name the data set's configuration with --dataset-config-file"),
    "no trainer": ([], ["TRAINER.NAME", ""], "name the method with --trainer"),
    "no shots": ([], ["DATASET.NUM_SHOTS", "0"], "DATASET.NUM_SHOTS is 0, which is no training"),
    "less than no shots": ([], ["DATASET.NUM_SHOTS", "-2"], "DATASET.NUM_SHOTS is -2"),
    "huge number": ([], ["OPTIM.LR", "9" * 400], "OPTIM.LR is a number too large"),
    "nested value": ([], ["OPTIM.MAX_EPOCH", "-" * 50_000 + "1"], "OPTIM.MAX_EPOCH"),
    "data folder": (["--root", "/no/such/folder"], [], "/no/such/folder"),
    "descriptions": ([], ["TRAINER.HeBA.DESCRIPTIONS", "/no/such.json"], "/no/such.json"),
    "backbone": ([], ["MODEL.BACKBONE.NAME", "ViT-B/61"], "ViT-B/61"),
    "trainer": (["--trainer", "Heba"], [], "Heba"),
    "key": ([], ["TRAINER.HeBA.ADAPTER_SCLAE", "0.1"], "TRAINER.HeBA.ADAPTER_SCLAE"),
    "type": ([], ["OPTIM.LR", "fast"], "OPTIM.LR"),
    "half a pair": ([], ["OPTIM.LR"], "KEY VALUE"),
    "precision": ([], ["TRAINER.HeBA.PREC", "fp8"], "TRAINER.HeBA.PREC"),
    "image size": ([], ["INPUT.SIZE", "(224, 224)"], "INPUT.SIZE"),
    "activation": ([], ["MODEL.BACKBONE.QUICK_GELU", "None"], "MODEL.BACKBONE.QUICK_GELU"),
    "adapter range": ([], ["TRAINER.HeBA.ADAPTER_END", "12"], "ADAPTER_END"),
    "template": ([], ["TRAINER.HeBA.TEMPLATES", "('a photo.',)"], "a photo."),
    "classes": ([], ["DATASET.SUBSAMPLE_CLASSES", "novel"], "DATASET.SUBSAMPLE_CLASSES"),
    "model folder": (["--eval-only", "--model-dir", "/no/run", "--load-epoch", "last"], [], "/no/run"),
    "epoch": (["--eval-only", "--model-dir", "TRAINED", "--load-epoch", "99"], [], "model.pth.tar-99"),
    "no model": (["--eval-only"], [], "--model-dir"),
    "resume folder": (["--resume", "/no/run"], [], "/no/run"),
    "activation word": ([], ["MODEL.BACKBONE.QUICK_GELU", "maybe"], "MODEL.BACKBONE.QUICK_GELU"),
    "scale": ([], ["TRAINER.HeBA.ADAPTER_SCALE", "big"], "TRAINER.HeBA.ADAPTER_SCALE"),
    "scale 0": ([], ["TRAINER.HeBA.ADAPTER_SCALE_BASE", "0"], "nothing to train"),
    "ratio": ([], ["TRAINER.HeBA.SLOW_FAST_RATIO", "2"], "TRAINER.HeBA.SLOW_FAST_RATIO"),
    "ratio none": ([], ["TRAINER.HeBA.SLOW_FAST_RATIO", "None"], "TRAINER.HeBA.SLOW_FAST_RATIO is None"),
    "kernel none": ([], ["TRAINER.HeBA.KERNEL", "None"], "TRAINER.HeBA.KERNEL is None"),
    "negatives": ([], ["TRAINER.HeBA.NEG_SAMPLING_RATIO", "-3"], "TRAINER.HeBA.NEG_SAMPLING_RATIO is -3"),
    "smoothing": ([], ["TRAINER.HeBA.LABEL_SMOOTHING", "-1"], "TRAINER.HeBA.LABEL_SMOOTHING"),
    "epochs": ([], ["OPTIM.MAX_EPOCH", "0"], "OPTIM.MAX_EPOCH"),
    "split": ([], ["TEST.SPLIT", "train"], "TEST.SPLIT"),
    "learning rate": ([], ["OPTIM.LR", "-1"], "OPTIM.LR"),
    "views": ([], ["DATALOADER.K_TRANSFORMS", "2"], "DATALOADER.K_TRANSFORMS"),
    "template type": ([], ["TRAINER.HeBA.TEMPLATES", "(1,)"], 'template "1"'),
    "other settings than trained with": (
        ["--eval-only", "--model-dir", "TRAINED", "--load-epoch", "last"],
        ["DATASET.SUBSAMPLE_CLASSES", "new"],
        "TRAINER.HeBA.ADAPTER_SCALE_FACTOR 2.25 != 3.0",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_users_mistake_is_one_clear_line_and_status_2(
    trained: Path,
    toy_data: Path,
    toy_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mistake: str,
) -> None:
    flags, opts, named = MISTAKES[mistake]
    if mistake == "other settings than trained with":  # not said on the command line, but in a file
        settings = tmp_path / "mine.yaml"
        settings.write_text("TRAINER:\n  HeBA:\n    ADAPTER_SCALE_FACTOR: 3\n")
        flags = [*flags, "--config-file", str(settings)]
        tmp_path = tmp_path / "out"
    flags = [str(trained) if flag == "TRAINED" else flag for flag in flags]
    monkeypatch.chdir(ROOT)
    status = train.main(command(toy_data, tmp_path, [*toy_flags, *opts], *flags))
    assert status == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert named in lines[0]
    assert not (tmp_path / "results.json").exists()


def test_a_checkpoint_without_results_still_tells_its_settings(
    trained: Path, toy_data: Path, toy_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "adapter_learner", tmp_path / "model" / "adapter_learner")
    settings = tmp_path / "mine.yaml"
    settings.write_text("TRAINER:\n  HeBA:\n    TEXT_CTX_INIT: itap of\n")
    flags = ("--eval-only", "--model-dir", str(tmp_path / "model"), "--load-epoch", "last")
    flags += ("--config-file", str(settings))
    assert train.main(command(toy_data, tmp_path / "out", toy_flags, *flags)) == 2
    assert "TRAINER.HeBA.TEXT_CTX_INIT 'a photo of a' != 'itap of'" in capsys.readouterr().err


def test_a_folder_that_holds_nothing_to_resume_is_refused(
    toy_data: Path, toy_flags: list[str], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    flags = ("--resume", str(tmp_path / "empty"))
    done = run_main(train.main, command(toy_data, tmp_path / "out", toy_flags, *flags))
    assert done.returncode == 2
    assert "holds no checkpoint" in done.stderr


def test_a_full_disk_and_too_little_memory_are_one_line(
    toy_data: Path,
    toy_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    lacking = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
    for error, said in (
        (full, f"error: [Errno 28] No space left on device: '{tmp_path}': make room, or write elsewhere"),
        (lacking, "error: out of memory (can't allocate memory: you tried to allocate"),
    ):
        monkeypatch.setattr("runner.run.loaded_files", lambda args, error=error: throw(error))
        assert train.main(command(toy_data, tmp_path, toy_flags)) == 2
        line = capsys.readouterr().err.strip()
        assert line.startswith(said)
        assert "\n" not in line
        assert "Traceback" in (tmp_path / "traceback.txt").read_text()
    assert "lower DATALOADER.TRAIN_X.BATCH_SIZE" in line


def throw(error: Exception) -> None:
    raise error


def test_an_output_folder_that_cannot_be_made_is_named(
    toy_data: Path, toy_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert train.main(command(toy_data, tmp_path / "file", toy_flags)) == 2
    assert f'--output-dir "{tmp_path / "file"}" cannot be made' in capsys.readouterr().err


def test_novel_classes_are_evaluated_once_where_both_scales_are_one(
    trained: Path, toy_data: Path, toy_flags: list[str], tmp_path: Path
) -> None:
    opts = [*toy_flags, "DATASET.SUBSAMPLE_CLASSES", "new", "TRAINER.HeBA.ADAPTER_SCALE_NOVEL", "0.025"]
    flags = ("--eval-only", "--model-dir", str(trained), "--load-epoch", "last")
    done = run_main(train.main, command(toy_data, tmp_path, opts, *flags))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("* accuracy") == 1
    assert "other" not in json.loads((tmp_path / "results.json").read_text())


def test_settings_said_on_the_command_line_may_differ_from_training(
    trained: Path, toy_data: Path, toy_flags: list[str], tmp_path: Path
) -> None:
    opts = [*toy_flags, "DATASET.SUBSAMPLE_CLASSES", "new", "TRAINER.HeBA.ADAPTER_SCALE_BASE", "0.5"]
    flags = ("--eval-only", "--model-dir", str(trained), "--load-epoch", "last")
    done = run_main(train.main, command(toy_data, tmp_path, opts, *flags))
    assert done.returncode == 0, done.stderr
    other = json.loads((tmp_path / "results.json").read_text())["other"]
    assert other["base_scale"]["adapter_scale"] == 0.5


def test_a_changed_setting_is_refused_wherever_the_run_was_cut(
    trained: Path, toy_data: Path, toy_flags: list[str], tmp_path: Path
) -> None:
    """Also after the last epoch, when only results.json is missing."""
    shutil.copytree(trained, tmp_path / "cut")
    (tmp_path / "cut" / "results.json").unlink()
    opts = [*toy_flags, "DATASET.SUBSAMPLE_CLASSES", "base", "OPTIM.LR", "0.5"]
    arguments = command(toy_data, tmp_path / "cut", opts)
    done = run_main(train.main, arguments)
    assert done.returncode == 2
    assert "OPTIM.LR was 0.0075, is 0.5" in done.stderr
    assert "Traceback" not in done.stderr
    assert "ValueError" in (tmp_path / "cut" / "traceback.txt").read_text()
    done = run_main(train.main, [*arguments[:-1], "0.0075"])
    assert done.returncode == 0, done.stderr
    assert same(weights(tmp_path / "cut"), weights(trained))
    assert not (tmp_path / "cut" / "traceback.txt").exists()


def test_an_evaluation_does_not_go_into_a_training_folder(
    trained: Path, toy_data: Path, toy_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "resume.pth.tar").touch()
    flags = ("--eval-only", "--model-dir", str(trained), "--load-epoch", "last")
    assert train.main(command(toy_data, tmp_path, toy_flags, *flags)) == 2
    assert "holds a training run" in capsys.readouterr().err


def test_a_traceback_with_a_lone_surrogate_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image"), saved_traceback(tmp_path):
        raise ValueError("image \udcff")
    assert "image \\udcff" in (tmp_path / "traceback.txt").read_text()


def test_a_backbone_of_other_weights_is_told_from_that_of_training(
    toy_data: Path,
    toy_flags: list[str],
    tiny_clip_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of the same shape and under the same name, with results.json and without."""
    clip = tmp_path / "clip.pt"
    shutil.copy(tiny_clip_path, clip)
    named = tmp_path / "mine.yaml"
    named.write_text(f"MODEL: {{BACKBONE: {{NAME: {clip}}}}}\n")
    trained, opts = tmp_path / "trained", [*toy_flags[2:], "OPTIM.MAX_EPOCH", "1", "TEST.NO_TEST", "True"]
    training = command(toy_data, trained, opts, "--config-file", str(named))
    done = run_main(train.main, training)
    assert done.returncode == 0, done.stderr
    args = ("--eval-only", "--model-dir", str(trained), "--load-epoch", "1", "--config-file", str(named))
    parsed = train.parse_args(command(toy_data, tmp_path / "out", opts, *args))
    check_model_dir(setup_cfg(parsed), parsed)
    weights = torch.load(clip, weights_only=True)
    weights["visual.proj"] += 1
    torch.save(weights, clip)
    assert train.main(training) == 2
    assert "other settings (the weights of the backbone)" in capsys.readouterr().err
    for gone in (None, "results.json"):
        if gone:
            (trained / gone).unlink()
        with pytest.raises(ValueError, match=r'trained on other weights than backbone ".*clip.pt" has'):
            check_model_dir(setup_cfg(parsed), parsed)
    parsed = train.parse_args(
        command(toy_data, tmp_path / "out", [*opts, *("MODEL.BACKBONE.NAME", str(clip))], *args)
    )
    check_model_dir(setup_cfg(parsed), parsed)
    assert "used because the command line names them" in caplog.text


def test_training_is_not_continued_on_other_weights(
    toy_data: Path,
    toy_flags: list[str],
    tiny_clip_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clip = tmp_path / "clip.pt"
    shutil.copy(tiny_clip_path, clip)
    opts = [*toy_flags, "MODEL.BACKBONE.NAME", str(clip), "OPTIM.MAX_EPOCH", "2", "TEST.NO_TEST", "True"]
    opts += ["TRAIN.RESUME_SECONDS", "0"]
    training = command(toy_data, tmp_path / "cut", opts)
    with monkeypatch.context() as patched:
        patched.setattr("trainers.heba.HeBA.after_epoch", cut)  # the resume file is written before
        assert train.main(training) == command_line.INTERRUPTED
    weights = torch.load(clip, weights_only=True)
    weights["visual.proj"] += 1
    torch.save(weights, clip)
    assert train.main(training) == 2
    assert 'was trained on other weights so far than backbone "' in capsys.readouterr().err
    shutil.copy(tiny_clip_path, clip)
    assert train.main(training) == 0


def cut(_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("status", [0, 130])
def test_loader_workers_end_with_their_run(
    toy_data: Path, toy_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    opts = [*toy_flags, "OPTIM.MAX_EPOCH", "1", "DATALOADER.NUM_WORKERS", "1"]
    if status:
        monkeypatch.setattr(
            "trainers.heba.HeBA.before_epoch", lambda self: os.kill(os.getpid(), signal.SIGTERM)
        )
    gc.disable()
    try:
        assert train.main(command(toy_data, tmp_path, opts)) == status
        assert not multiprocessing.active_children()
    finally:
        gc.enable()


def test_a_second_process_stays_out_of_a_running_folder(
    toy_data: Path, toy_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with exclusive_run_folder(tmp_path):
        arguments = subprocess_command(command(toy_data, tmp_path, toy_flags))
        done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 2
    assert f'another process is running in "{tmp_path}" (process {os.getpid()} on ' in done.stderr
    assert not (tmp_path / ".lock").exists()


def test_half_written_files_of_a_killed_run_are_swept_up(tmp_path: Path) -> None:
    model, child = tmp_path / "adapter_learner", tmp_path / "seed2"
    half = [tmp_path / "resume.pth.tar", tmp_path / "results.json", model / "model.pth.tar-3"]
    half = [temporary_name(path) for path in [*half, model / "adapter.safetensors"]]
    # a live run's in a folder below this one, and what a user keeps there
    others = [child / "resume.pth.tar", child / "adapter_learner" / "model.pth.tar-3", tmp_path / "me"]
    others = [temporary_name(path) for path in [*others, child / "adapter_learner" / "adapter.safetensors"]]
    others += [tmp_path / "notes.tmp-2024", model / "mine.tmp-1", model / "model.pth.tar-3.tmp-mine"]
    for path in (*half, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with exclusive_run_folder(tmp_path):
        assert not any(path.exists() for path in half)
    assert all(path.exists() for path in others)


@pytest.mark.parametrize(
    "name", ["config.yaml", "metrics.jsonl", "traceback.txt", "adapter_learner/adapter.safetensors"]
)
def test_a_run_does_not_write_over_files_that_no_run_made(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    refused = pytest.raises(ValueError, match=rf'^"{path}" is not of a run.*; move it away, or choose')
    with refused, exclusive_run_folder(tmp_path), saved_traceback(tmp_path):
        pass
    assert [(path, path.read_text()) for path in tmp_path.rglob("*") if path.is_file()] == [(path, "mine")]
    (tmp_path / "log.txt").write_text(f"…\n{OPENING}\n")  # of a run that was cut
    with exclusive_run_folder(tmp_path):
        pass


def test_what_a_failed_start_left_does_not_block_the_next(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wrong"), exclusive_run_folder(tmp_path), saved_traceback(tmp_path):
        raise ValueError("wrong")
    with exclusive_run_folder(tmp_path):
        assert (tmp_path / "traceback.txt").read_text().splitlines()[-1] == "ValueError: wrong"


def test_the_given_configuration_file_is_not_replaced_by_the_merged_one(
    toy_data: Path, toy_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "config.yaml"
    shutil.copy(BASE2NEW, own)
    opts = [*toy_flags, "OPTIM.MAX_EPOCH", "1"]
    arguments = [str(own) if word == BASE2NEW else word for word in command(toy_data, tmp_path, opts)]
    assert train.main(arguments) == 2
    assert f'"{own}" is not of a run' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [own]
    (tmp_path / "log.txt").write_text(OPENING)
    assert train.main(arguments) == 0
    assert own.read_text() == Path(BASE2NEW).read_text()


def test_a_copy_of_a_checkpoint_is_not_taken_for_an_epoch(tmp_path: Path) -> None:
    for name in ("model.pth.tar-3", "model.pth.tar-3.copy-9", "model.pth.tar-3.tmp-123"):
        (tmp_path / "adapter_learner" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "adapter_learner" / name).touch()
    assert last_epoch(str(tmp_path)) == 3


def test_a_missing_image_is_named_before_the_first_epoch(
    toy_data: Path, toy_flags: list[str], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(toy_data, data)
    image = data / "caltech-101" / "101_ObjectCategories" / "ant" / "image_0010.png"  # of the test set
    image.unlink()
    done = run_main(train.main, command(data, tmp_path / "out", toy_flags))
    assert done.returncode == 2
    assert str(image) in done.stderr
    assert "epoch [1/" not in done.stdout


def test_a_run_without_evaluation_is_finished_too(
    toy_data: Path, toy_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(toy_data, tmp_path, [*toy_flags, "TEST.NO_TEST", "True", "OPTIM.MAX_EPOCH", "1"])
    for _ in range(2):
        done = run_main(train.main, arguments)
        assert done.returncode == 0, done.stderr
    assert "Finished already" in done.stdout


def test_keys_of_other_methods_and_later_versions_do_not_invalidate_a_finished_run(
    trained: Path, toy_data: Path, toy_flags: list[str]
) -> None:
    arguments = command(toy_data, trained, [*toy_flags, "DATASET.SUBSAMPLE_CLASSES", "base"])
    cfg = setup_cfg(train.parse_args(arguments))
    record = read_record(str(trained))
    record["config"] |= {"TRAINER.Other.LR": 1, "TRAINER.COOP.N_CTX": 4}
    del record["config"]["TRAINER.HeBA.KERNEL"]
    assert differing_settings(cfg, record) == []
    record["config"]["TRAINER.HeBA.NORM"] = "none"
    assert differing_settings(cfg, record) == ["TRAINER.HeBA.NORM"]


@pytest.mark.parametrize("texts", ['"a sentence"', "[1]", "{}", '[""]', "5", '{"a": 1}'])
def test_descriptions_of_a_wrong_kind_are_refused(
    toy_data: Path, toy_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], texts: str
) -> None:
    some = tmp_path / "some.json"
    some.write_text(f'{{"ant": {texts}}}')
    opts = [*toy_flags, "TRAINER.HeBA.DESCRIPTIONS", str(some)]
    assert train.main(command(toy_data, tmp_path / "out", opts)) == 2
    assert "class ant has" in capsys.readouterr().err


def test_a_class_without_description_is_named(
    toy_data: Path, toy_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = tmp_path / "some.json"
    some.write_text(json.dumps({"Ant": ["small"], "ceiling fan": ["large"], "crab": []}))
    opts = [*toy_flags, "TRAINER.HeBA.DESCRIPTIONS", str(some)]
    assert train.main(command(toy_data, tmp_path / "out", opts)) == 2
    assert "describes no crab, grand_piano, lotus, scissors" in capsys.readouterr().err


def test_published_configuration_files_load(tmp_path: Path, toy_data: Path, toy_flags: list[str]) -> None:
    """The published x2d.yaml, under its corrected key, gives its ADAPTER_SCALE to the adapters."""
    published = tmp_path / "x2d.yaml"
    published.write_text("TRAINER:\n  HeBA:\n    ADAPTER_SCALE: 0.05\n    ADAPTER_SCALE_FACTOR: 10.0\n")
    arguments = command(toy_data, tmp_path, toy_flags, "--config-file", str(published))
    options = setup_cfg(train.parse_args(arguments)).TRAINER.HeBA
    assert options.ADAPTER_SCALE == 0.05
    assert options.ADAPTER_SCALE_BASE == 0.025
    published.write_text("TRAINER:\n  LWEIB:\n    ADAPTER_SCALE: 0.05\n")
    with pytest.raises(ValueError, match=r"x2d.yaml.: TRAINER.LWEIB.ADAPTER_SCALE: .* HeBA does not read"):
        setup_cfg(train.parse_args(arguments))


def test_an_interrupt_says_how_to_go_on(toy_data: Path, toy_flags: list[str], tmp_path: Path) -> None:
    opts = [*toy_flags, "OPTIM.MAX_EPOCH", "500", "TRAIN.RESUME_SECONDS", "0"]
    arguments = subprocess_command(command(toy_data, tmp_path, opts))
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "resume.pth.tar", process)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1].endswith("; the same command goes on from the last saved state, if any")
    assert "Traceback" not in errors


def test_help_needs_no_torch() -> None:
    code = "import sys, train; train.parse_args(['--seed', '1']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ).returncode == 0


def test_whole_numbers_are_taken_where_floats_belong(toy_data: Path, toy_flags: list[str]) -> None:
    opts = [*toy_flags, "TRAINER.HeBA.ADAPTER_SCALE_NOVEL", "0", "OPTIM.LR", "1"]
    cfg = setup_cfg(train.parse_args(command(toy_data, toy_data, opts)))
    assert cfg.TRAINER.HeBA.ADAPTER_SCALE_NOVEL == 0.0
    assert isinstance(cfg.OPTIM.LR, float)


def test_none_takes_back_only_what_is_none_by_default(tmp_path: Path) -> None:
    settings = tmp_path / "mine.yaml"
    settings.write_text("MODEL: {BACKBONE: {NAME: ViT-B/16}}\nTRAINER: {HeBA: {ADAPTER_SCALE: 0.05}}\n")
    arguments = ["--trainer", "HeBA", "--config-file", str(settings)]
    options = setup_cfg(train.parse_args([*arguments, "TRAINER.HeBA.ADAPTER_SCALE", "None"])).TRAINER.HeBA
    assert options.ADAPTER_SCALE is None
    settings.write_text("TRAINER: {HeBA: {ADAPTER_SCALE_BASE: null}}\n")
    with pytest.raises(ValueError, match=r"mine.yaml.*ADAPTER_SCALE_BASE is None; .* default is 0.025"):
        setup_cfg(train.parse_args(arguments))
