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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import command_line
import train
from fileio.atomic import temporary_name
from runner.config import setup_cfg
from runner.folder import OPENING, check_model_dir, exclusive_run_folder, last_epoch, saved_traceback
from runner.record import differing_settings, read_record
from tests.conftest import ROOT, train_words

BASE2NEW = str(ROOT / "configs" / "trainers" / "HeBA" / "base2new.yaml")
BASE = ("DATASET.SUBSAMPLE_CLASSES", "base")
NEW = ("DATASET.SUBSAMPLE_CLASSES", "new")


def command(data: Path, output: Path, opts: Sequence[str], *flags: str) -> list[str]:
    """Arguments of train.py; ``flags`` come before the KEY VALUE pairs."""
    return train_words(data, output, *flags, *opts)


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(toy_data: Path, toy_flags: list[str], capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls train.main on the toy data; returns its status and what it wrote to stdout and stderr."""

    def run(
        output: Path, *opts: str, flags: Sequence[str] = (), data: Path = toy_data
    ) -> tuple[int, str, str]:
        status = train.main(command(data, output, [*toy_flags, *opts], *flags))
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def evaluate(trained: Path, call: Call) -> Call:
    """Calls train.main to evaluate the last epoch of ``trained``."""

    def run(output: Path, *opts: str, flags: Sequence[str] = ()) -> tuple[int, str, str]:
        last = ("--eval-only", "--model-dir", str(trained), "--load-epoch", "last")
        return call(output, *opts, flags=[*last, *flags])

    return run


def result(output: Path) -> dict[str, Any]:
    return json.loads((output / "results.json").read_text())


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
    assert train.main(command(toy_data, output, [*toy_flags, *BASE])) == 0
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
    record = result(trained)
    expected = {
        "trainer": "HeBA",
        "dataset": "Caltech101",
        "subsample_classes": "base",
        "seed": 1,
        "shots": 4,
    }
    expected |= {"epochs": 3, "num_classes": 3, "total": 9, "adapter_scale": 0.025}
    assert {key: record[key] for key in expected} == expected
    assert record["accuracy"] == pytest.approx(100 * record["correct"] / 9)
    assert record["config"]["INPUT.SIZE"] == [32, 32]
    log = (trained / "log.txt").read_text()
    assert "Creating a 4-shot dataset" in log
    assert "epoch [3/3] batch [3/3]" in log
    assert "Finish training" in log
    assert f"* accuracy: {record['accuracy']:.2f}%" in log


def test_a_finished_run_says_so_and_is_not_repeated_or_taken_for_another(trained: Path, call: Call) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
    status, out, _ = call(trained, *BASE)
    assert status == 0
    assert "Finished already" in out
    assert before == {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
    status, _, errors = call(trained, *BASE, "OPTIM.LR", "0.5")
    assert status == 2
    assert "OPTIM.LR 0.0075 != 0.5" in errors


def test_same_seed_gives_the_same_run_whatever_the_number_of_workers(
    trained: Path, call: Call, tmp_path: Path
) -> None:
    assert call(tmp_path, *BASE, "DATALOADER.NUM_WORKERS", "2")[0] == 0
    assert same(weights(tmp_path), weights(trained))


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
    call: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: str,
) -> None:
    """Killed with a resume file; stopped after the first epoch without one, which starts anew."""
    opts = [*BASE, "TRAIN.RESUME_SECONDS", seconds]
    if seconds == "0":
        arguments = subprocess_command(command(toy_data, tmp_path, [*toy_flags, *opts]))
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
        wait_for(tmp_path / "resume.pth.tar", process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    else:
        with monkeypatch.context() as patched:
            patched.setattr("trainers.heba.HeBA.after_epoch", cut)
            assert call(tmp_path, *opts)[0] == command_line.INTERRUPTED
        assert len(logged_losses(tmp_path)) == 3
    assert not (tmp_path / "results.json").exists()
    status, out, _ = call(tmp_path, *opts)
    assert status == 0
    assert ("will resume training" in out) == (seconds == "0")
    assert same(weights(tmp_path), weights(trained))
    assert not (tmp_path / "resume.pth.tar").exists()
    one, other = result(tmp_path), result(trained)
    assert one["accuracy"] == other["accuracy"]
    assert one["config_digest"] == other["config_digest"]
    assert (one["phases"]["train"]["start_epoch"] > 0) == (seconds == "0")
    assert (one["phases"]["train"]["seconds_before"] > 0) == (seconds == "0")
    assert logged_losses(tmp_path) == logged_losses(trained)


def test_a_signal_to_all_processes_of_a_run_ends_its_epoch_and_those_after_then(
    trained: Path, toy_data: Path, toy_flags: list[str], call: Call, tmp_path: Path
) -> None:
    """As Slurm sends it, loader workers included; with stdout closed, and SIGHUP ignored by nohup."""
    opts = [*BASE, "DATALOADER.NUM_WORKERS", "1"]
    arguments = command(toy_data, tmp_path / "run", [*toy_flags, *opts])
    then = ["--then", *command(toy_data, tmp_path / "then", [*toy_flags, *opts])]
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
    status, out, _ = call(tmp_path / "run", *opts)
    assert status == 0
    assert "Previous epoch: " in out
    assert same(weights(tmp_path / "run"), weights(trained))


def test_a_signal_before_the_first_epoch_ends_a_run_with_a_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("trainers.heba.HeBA.before_train", lambda self: os.kill(os.getpid(), signal.SIGTERM))
    with command_line.interrupting_signals():
        status, _, errors = call(tmp_path)
    assert status == 130
    said = "SIGTERM: stopped; the same command goes on from the last saved state, if any"
    assert errors.splitlines()[-1] == said
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_run_outside_the_main_thread_works(toy_data: Path, toy_flags: list[str], tmp_path: Path) -> None:
    statuses: list[int] = []
    arguments = command(toy_data, tmp_path, [*toy_flags, "OPTIM.MAX_EPOCH", "1"])
    thread = threading.Thread(target=lambda: statuses.append(train.main(arguments)))
    thread.start()
    thread.join()
    assert statuses == [0]


@pytest.mark.parametrize(
    ("chosen", "novel", "base", "said"),
    [
        ("novel", "0.9", "", ["base 0.025", "novel 0.9"]),
        ("base", "0.9", "", ["novel 0.9", "base 0.025"]),
        ("novel", "0.025", "", ["novel 0.025"]),
        ("novel", "0.01", "0.5", ["base 0.5", "novel 0.01"]),  # not the scale of training: it was asked for
    ],
)
def test_novel_classes_are_evaluated_at_both_scales_if_they_differ_and_a_key_chooses(
    evaluate: Call, tmp_path: Path, chosen: str, novel: str, base: str, said: list[str]
) -> None:
    opts = ["TRAINER.HeBA.ADAPTER_SCALE_NOVEL", novel, "TRAINER.HeBA.NOVEL_RESULT_SCALE", chosen]
    opts += ["TRAINER.HeBA.ADAPTER_SCALE_BASE", base] if base else []
    status, out, _ = evaluate(tmp_path, *NEW, *opts)
    assert status == 0
    record = result(tmp_path)
    found = [(name.removesuffix("_scale"), other) for name, other in record.get("other", {}).items()]
    found.append((chosen, record))
    assert [f"{name} {each['adapter_scale']:g}" for name, each in found] == said
    assert record["loaded"].keys() == {"adapter_learner"}
    lines = [line for line in out.splitlines() if line.startswith("* accuracy")]
    assert lines == [f"* accuracy: {each['accuracy']:.2f}%" for _, each in found]


def test_weights_of_a_retrained_model_are_evaluated_again(trained: Path, call: Call, tmp_path: Path) -> None:
    model = tmp_path / "model" / "adapter_learner"
    model.mkdir(parents=True)
    checkpoint = torch.load(trained / "adapter_learner" / "model.pth.tar-3", weights_only=True)
    torch.save(checkpoint, model / "model.pth.tar-3")
    flags = ("--eval-only", "--model-dir", str(model.parent), "--load-epoch", "last")
    assert call(tmp_path / "test", *NEW, flags=flags)[0] == 0
    next(iter(checkpoint["state_dict"].values())).mul_(2)
    torch.save(checkpoint, model / "model.pth.tar-3")
    status, _, errors = call(tmp_path / "test", *NEW, flags=flags)
    assert status == 2
    assert "the evaluated weights" in errors


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
    "epoch": (
        ["--eval-only", "--model-dir", "TRAINED", "--load-epoch", "99"],
        [],
        "(found there: model.pth.tar-3)",
    ),
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
    trained: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    flags, opts, named = MISTAKES[mistake]
    if mistake == "other settings than trained with":  # not said on the command line, but in a file
        settings = tmp_path / "mine.yaml"
        settings.write_text("TRAINER:\n  HeBA:\n    ADAPTER_SCALE_FACTOR: 3\n")
        flags = [*flags, "--config-file", str(settings)]
        tmp_path = tmp_path / "out"
    flags = [str(trained) if flag == "TRAINED" else flag for flag in flags]
    monkeypatch.chdir(ROOT)
    status, _, errors = call(tmp_path, *opts, flags=flags)
    assert status == 2
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert named in line
    assert not (tmp_path / "results.json").exists()


def test_a_checkpoint_without_results_still_tells_its_settings(
    trained: Path, call: Call, tmp_path: Path
) -> None:
    shutil.copytree(trained / "adapter_learner", tmp_path / "model" / "adapter_learner")
    settings = tmp_path / "mine.yaml"
    settings.write_text("TRAINER:\n  HeBA:\n    TEXT_CTX_INIT: itap of\n")
    flags = ("--eval-only", "--model-dir", str(tmp_path / "model"), "--load-epoch", "last")
    status, _, errors = call(tmp_path / "out", flags=[*flags, "--config-file", str(settings)])
    assert status == 2
    assert "TRAINER.HeBA.TEXT_CTX_INIT 'a photo of a' != 'itap of'" in errors


def test_folders_that_do_not_fit_are_named(call: Call, evaluate: Call, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "resume.pth.tar").touch()
    for (status, _, errors), said in (
        (call(tmp_path / "out", flags=("--resume", str(tmp_path / "empty"))), "holds no checkpoint"),
        (call(tmp_path / "file"), f'--output-dir "{tmp_path / "file"}" cannot be made'),
        (evaluate(tmp_path), "holds a training run"),
    ):
        assert status == 2
        assert said in errors


def test_a_full_disk_and_too_little_memory_are_one_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    lacking = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
    for error, said in (
        (full, f"error: [Errno 28] No space left on device: '{tmp_path}': make room, or write elsewhere"),
        (lacking, "error: out of memory (can't allocate memory: you tried to allocate"),
    ):
        monkeypatch.setattr("runner.run.loaded_files", lambda args, error=error: throw(error))
        status, _, errors = call(tmp_path)
        assert status == 2
        assert errors.startswith(said)
        assert errors.count("\n") == 1
        assert "Traceback" in (tmp_path / "traceback.txt").read_text()
    assert "lower DATALOADER.TRAIN_X.BATCH_SIZE" in errors


def throw(error: Exception) -> None:
    raise error


def test_a_changed_setting_is_refused_wherever_the_run_was_cut(
    trained: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after the last epoch, when only results.json is missing, which is written last."""
    output = tmp_path / "cut"
    shutil.copytree(trained, output)
    (output / "results.json").unlink()
    status, _, errors = call(output, *BASE, "OPTIM.LR", "0.5")
    assert status == 2
    assert "OPTIM.LR was 0.0075, is 0.5" in errors
    assert "Traceback" not in errors
    assert "ValueError" in (output / "traceback.txt").read_text()
    with monkeypatch.context() as patched:
        full = OSError(errno.ENOSPC, "No space left on device")
        patched.setattr("runner.record.config_text", lambda *_: throw(full))
        assert call(output, *BASE)[0] == 2
    assert not (output / "results.json").exists()
    assert call(output, *BASE)[0] == 0
    assert same(weights(output), weights(trained))
    assert not (output / "traceback.txt").exists()


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
    assert train.main(training) == 0
    flags = ("--eval-only", "--model-dir", str(trained), "--load-epoch", "1", "--config-file", str(named))

    def check(*more: str) -> None:
        args = train.parse_args(command(toy_data, tmp_path / "out", [*opts, *more], *flags))
        check_model_dir(setup_cfg(args), args)

    check()
    weights = torch.load(clip, weights_only=True)
    weights["visual.proj"] += 1
    torch.save(weights, clip)
    assert train.main(training) == 2
    assert "other settings (the weights of the backbone)" in capsys.readouterr().err
    for gone in (None, "results.json"):
        if gone:
            (trained / gone).unlink()
        with pytest.raises(ValueError, match=r'trained on other weights than backbone ".*clip.pt" has'):
            check()
    check("MODEL.BACKBONE.NAME", str(clip))
    assert "used because the command line names them" in caplog.text


def cut(_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("status", [0, 130])
def test_loader_workers_end_with_their_run(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    if status:
        stop = lambda self: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
        monkeypatch.setattr("trainers.heba.HeBA.before_epoch", stop)
    gc.disable()
    try:
        assert call(tmp_path, "OPTIM.MAX_EPOCH", "1", "DATALOADER.NUM_WORKERS", "1")[0] == status
        assert not multiprocessing.active_children()
    finally:
        gc.enable()


def test_a_second_process_stays_out_of_a_running_folder(call: Call, tmp_path: Path) -> None:
    with exclusive_run_folder(tmp_path):
        status, _, errors = call(tmp_path)
    assert status == 2
    assert f'another process is running in "{tmp_path}" (process {os.getpid()} on ' in errors
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


def test_the_given_configuration_file_is_not_replaced_by_the_merged_one(call: Call, tmp_path: Path) -> None:
    own = tmp_path / "config.yaml"
    shutil.copy(BASE2NEW, own)
    given = {"flags": ("--config-file", str(own))}
    status, _, errors = call(tmp_path, "OPTIM.MAX_EPOCH", "1", **given)
    assert status == 2
    assert f'"{own}" is not of a run' in errors
    assert list(tmp_path.iterdir()) == [own]
    (tmp_path / "log.txt").write_text(OPENING)
    assert call(tmp_path, "OPTIM.MAX_EPOCH", "1", **given)[0] == 0
    assert own.read_text() == Path(BASE2NEW).read_text()


def test_a_copy_of_a_checkpoint_is_not_taken_for_an_epoch(tmp_path: Path) -> None:
    for name in ("model.pth.tar-3", "model.pth.tar-3.copy-9", "model.pth.tar-3.tmp-123"):
        (tmp_path / "adapter_learner" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "adapter_learner" / name).touch()
    assert last_epoch(str(tmp_path)) == 3


def test_a_missing_image_is_named_before_the_first_epoch(toy_data: Path, call: Call, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(toy_data, data)
    image = data / "caltech-101" / "101_ObjectCategories" / "ant" / "image_0010.png"  # of the test set
    image.unlink()
    status, out, errors = call(tmp_path / "out", data=data)
    assert status == 2
    assert str(image) in errors
    assert "epoch [1/" not in out


def test_a_run_without_evaluation_is_finished_too(call: Call, tmp_path: Path) -> None:
    for said in (False, True):
        status, out, _ = call(tmp_path, "TEST.NO_TEST", "True", "OPTIM.MAX_EPOCH", "1")
        assert status == 0
        assert ("Finished already" in out) == said


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


@pytest.mark.parametrize(
    ("described", "said"),
    [
        *(
            (f'{{"ant": {texts}}}', "class ant has")
            for texts in ('"a"', "[1]", "{}", '[""]', "5", '{"a": 1}')
        ),
        (
            '{"Ant": ["small"], "ceiling fan": ["large"], "crab": []}',
            "describes no crab, grand_piano, lotus, scissors",
        ),
    ],
)
def test_descriptions_of_a_wrong_kind_and_missing_ones_are_refused(
    call: Call, tmp_path: Path, described: str, said: str
) -> None:
    some = tmp_path / "some.json"
    some.write_text(described)
    status, _, errors = call(tmp_path / "out", "TRAINER.HeBA.DESCRIPTIONS", str(some))
    assert status == 2
    assert said in errors


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


def test_none_takes_back_only_what_is_none_by_default(tmp_path: Path) -> None:
    settings = tmp_path / "mine.yaml"
    settings.write_text("MODEL: {BACKBONE: {NAME: ViT-B/16}}\nTRAINER: {HeBA: {ADAPTER_SCALE: 0.05}}\n")
    arguments = ["--trainer", "HeBA", "--config-file", str(settings)]
    options = setup_cfg(train.parse_args([*arguments, "TRAINER.HeBA.ADAPTER_SCALE", "None"])).TRAINER.HeBA
    assert options.ADAPTER_SCALE is None
    settings.write_text("TRAINER: {HeBA: {ADAPTER_SCALE_BASE: null}}\n")
    with pytest.raises(ValueError, match=r"mine.yaml.*ADAPTER_SCALE_BASE is None; .* default is 0.025"):
        setup_cfg(train.parse_args(arguments))
