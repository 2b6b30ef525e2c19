"""Whole runs of a published-style trainer: what they log, what they leave, what evaluation does."""

import errno
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dassl.engine import TRAINER_REGISTRY, TrainerX, build_trainer
from dassl.utils import setup_logger
from tests.test_dassl_toy import OldStyle, same, toy_cfg, toy_trainer, weights


@pytest.fixture
def _stdout() -> Iterator[None]:
    """Gives sys.stdout and the root logger back after a test that calls setup_logger."""
    stdout, root = sys.stdout, logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    sys.stdout, root.handlers[:] = stdout, handlers
    root.setLevel(level)


def files_of(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def without_curves(names: set[str]) -> set[str]:
    return {name for name in names if not name.startswith("tensorboard")}


@pytest.mark.usefixtures("_stdout")
def test_a_run_logs_dassls_lines_and_leaves_the_last_epoch(tmp_path: Path) -> None:
    output = tmp_path / "out"
    setup_logger(str(output))
    toy_trainer(tmp_path, output).train()
    log = (output / "log.txt").read_text()
    expected = [
        "Loading trainer: OldStyle",
        "Loading dataset: ToyShapes",
        "Building transform_train",
        "+ random resized crop (size=(8, 8), scale=(0.08, 1.0))",
        "+ random flip",
        "+ to torch tensor of range [0, 1]",
        "+ normalization (mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])",
        "Building transform_test",
        "+ resize the smaller edge to 8",
        "+ 8x8 center crop",
        "+ to torch tensor of range [0, 1]",
        "+ normalization (mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])",
        "---------  ---------",
        "Dataset    ToyShapes",
        "# classes  3",
        "# train_x  15",
        "# val      6",
        "# test     9",
        "---------  ---------",
        "Loading evaluator: Classification",
        "No checkpoint found, train from scratch",
    ]
    curves = rf"Initialize tensorboard \(log_dir={re.escape(str(output))}/tensorboard\)"
    steps = [(epoch, batch) for epoch in (1, 2, 3, 4) for batch in (1, 2, 3)]
    number = r"\d+\.\d{4} \(\d+\.\d{4}\)"
    time = r"\d+\.\d{3} \(\d+\.\d{3}\)"
    rest = rf"time {time} data {time} loss {number} acc {number} lr \d\.\d{{4}}e-\d\d eta 0:00:\d\d"
    patterns = [
        *map(re.escape, expected),
        rf"{curves}|TensorBoard is not installed .*",
        *(rf"epoch \[{epoch}/4\] batch \[{batch}/3\] {rest}" for epoch, batch in steps),
        re.escape(f"Checkpoint saved to {output}/toy_head/model.pth.tar-4"),
        "Finish training",
        "Deploy the last-epoch model",
        r"Evaluate on the \*test\* set",
        "=> result",
        r"\* total: 9",
        r"\* correct: \d",
        r"\* accuracy: \d+\.\d\d%",
        r"\* error: \d+\.\d\d%",
        r"\* macro_f1: \d+\.\d\d%",
        r"Elapsed: 0:00:\d\d",
    ]
    lines = log.splitlines()
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), (line, pattern)
    assert "batch [3/3]" in lines[24]
    assert "lr 1.0000e-02" in lines[24]  # the last batch's line shows the next epoch's rate
    assert "lr 1.0000e-05" in lines[23]
    assert without_curves(files_of(output)) == {
        "log.txt",
        "metrics.jsonl",
        "toy_head/checkpoint",
        "toy_head/model.pth.tar-4",
    }
    assert (output / "toy_head" / "checkpoint").read_text() == "model.pth.tar-4\n"
    checkpoint = torch.load(output / "toy_head" / "model.pth.tar-4", weights_only=True)
    assert list(checkpoint) == ["state_dict", "epoch", "optimizer", "scheduler", "val_result", "cfg", "extra"]
    assert checkpoint["epoch"] == 4
    assert set(checkpoint["state_dict"]) == {"weight", "bias"}


def test_best_val_keeps_and_deploys_the_best_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    trainer = toy_trainer(
        tmp_path, tmp_path / "out", "TEST.FINAL_MODEL", "best_val", "TRAIN.CHECKPOINT_FREQ", 2
    )
    trainer.train()
    assert without_curves(files_of(tmp_path / "out")) == {
        "metrics.jsonl",
        "toy_head/checkpoint",
        "toy_head/model-best.pth.tar",
        "toy_head/model.pth.tar-2",
        "toy_head/model.pth.tar-4",
    }
    best = torch.load(tmp_path / "out" / "toy_head" / "model-best.pth.tar", weights_only=True)
    assert best["val_result"] == trainer.best_result
    assert same(best["state_dict"], trainer.model.head.state_dict())
    loaded = rf"Load .*model-best.pth.tar to toy_head \(epoch={best['epoch']}, val_result=\d+\.\d\)"
    assert re.search(f"Deploy the model with the best val performance\n.*{loaded}", caplog.text)
    assert caplog.text.count("Evaluate on the *val* set") == 4


def test_worker_processes_do_not_change_the_run(tmp_path: Path) -> None:
    for workers in (0, 2):
        toy_trainer(tmp_path, tmp_path / str(workers), "DATALOADER.NUM_WORKERS", workers).train()
    assert same(weights(tmp_path / "0"), weights(tmp_path / "2"))


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    for seed in (1, 2):
        toy_trainer(tmp_path, tmp_path / str(seed), "SEED", seed, "OPTIM.MAX_EPOCH", 2).train()
    assert not same(weights(tmp_path / "1", 2), weights(tmp_path / "2", 2))


def test_evaluating_twice_gives_the_same_and_leaves_eval_mode(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, tmp_path / "out")
    first = trainer.test()
    assert not trainer.model.head.training
    assert trainer.test() == first
    assert trainer.evaluator.total == 9
    assert trainer.test(split="val") == trainer.evaluator.results["accuracy"]
    assert trainer.evaluator.total == 6


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, tmp_path / "out", "OPTIM.LR", 1e30)
    with pytest.raises(FloatingPointError, match="Loss is infinite or NaN!"):
        trainer.train()
    assert not (tmp_path / "out" / "toy_head").exists()


def test_without_tensorboard_a_note_takes_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    toy_trainer(tmp_path, tmp_path / "out", "OPTIM.MAX_EPOCH", 1).train()
    assert "TensorBoard is not installed" in caplog.text
    assert not (tmp_path / "out" / "tensorboard").exists()


def test_loading_a_model_is_strict_and_says_what_there_is(tmp_path: Path) -> None:
    output = tmp_path / "out"
    toy_trainer(tmp_path, output, "TRAIN.CHECKPOINT_FREQ", 2).train()
    trainer = toy_trainer(tmp_path, output)
    trainer.load_model("")  # nothing to load
    with pytest.raises(FileNotFoundError, match=r"No model at .*tar-7 \(there: epoch 2, epoch 4;"):
        trainer.load_model(str(output), epoch=7)
    with pytest.raises(FileNotFoundError, match="model-best.pth.tar"):
        trainer.load_model(str(output))
    trainer.load_model(str(output), epoch=4)
    assert same(trainer.model.head.state_dict(), weights(output))

    path = output / "toy_head" / "model.pth.tar-4"
    checkpoint = torch.load(path, weights_only=True)
    tensors = checkpoint["state_dict"]
    del tensors["bias"]
    tensors["extra"] = torch.zeros(1)
    tensors["weight"] = tensors["weight"][:, :7]
    torch.save(checkpoint, path)
    before = {name: tensor.clone() for name, tensor in trainer.model.head.state_dict().items()}
    with pytest.raises(
        ValueError,
        match=r"1 missing: bias; 1 unexpected: extra; 1 of another shape: weight \(3, 7\)",
    ):
        trainer.load_model(str(output), epoch=4)
    assert same(trainer.model.head.state_dict(), before)


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("OPTIM.MAX_EPOCH", 0, "set it to 1 or more"),
        ("TRAIN.PRINT_FREQ", 0, "set it to 1 or more"),
        ("DATALOADER.TRAIN_X.BATCH_SIZE", 0, "set it to 1 or more"),
        ("DATALOADER.TEST.BATCH_SIZE", -1, "set it to 1 or more"),
        ("DATALOADER.NUM_WORKERS", -1, "set it to 0 or more"),
        ("TEST.SPLIT", "train", "set it to val or test"),
        ("TEST.FINAL_MODEL", "best", "set it to last_step or best_val"),
    ],
)
def test_values_that_no_run_can_have_are_refused(
    tmp_path: Path, key: str, value: object, remedy: str
) -> None:
    with pytest.raises(ValueError, match=f'^{key} is "?{value}"?; {remedy}$'):
        toy_trainer(tmp_path, tmp_path, key, value)


def test_a_resume_folder_that_is_not_there_is_no_run_from_scratch(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    with pytest.raises(
        FileNotFoundError, match=r'^RESUME \(--resume\) is ".*gone", which is not a folder; .*$'
    ):
        toy_trainer(tmp_path, tmp_path, "RESUME", gone)


def test_user_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'TRAINER.NAME is "OldStile".*\(did you mean OldStyle\?\)'):
        build_trainer(toy_cfg(tmp_path, tmp_path, "TRAINER.NAME", "OldStile"))
    with pytest.raises(KeyError, match='"OldStyle" was already registered in "TRAINER"'):
        TRAINER_REGISTRY.register(OldStyle)
    with pytest.raises(KeyError, match='Object name "Nobody" does not exist in "TRAINER" registry'):
        TRAINER_REGISTRY.get("Nobody")
    with pytest.raises((AssertionError, KeyError), match="Non-existent"):  # yacs decides which
        toy_cfg(tmp_path, tmp_path, "TRAINER.MCD.N_STEP_F", 4)
    trainer = toy_trainer(tmp_path, tmp_path)
    with pytest.raises(KeyError, match="already registered"):
        trainer.register_model("toy_head", trainer.model)
    with pytest.raises(KeyError, match="no model named"):
        trainer.set_model_mode("eval", "nothing")
    with pytest.raises(KeyError, match='mode is "evaluate"'):
        trainer.set_model_mode("evaluate")
    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\)"):
        TrainerX.__new__(TrainerX).register_model("model")


@pytest.mark.parametrize("place", ["write", "flush"])
def test_a_full_disk_ends_the_curves_with_one_warning_and_not_the_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    place: str,
) -> None:
    records = pytest.importorskip("tensorboard.summary.writer.record_writer", reason="needs tensorboard")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(records.RecordWriter, place, full)
    toy_trainer(tmp_path, tmp_path / "out", "OPTIM.MAX_EPOCH", 2).train()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    where = f'"{tmp_path / "out" / "tensorboard"}"'
    assert warnings == [f"{where} gets no more curves: disk full? ([Errno 28] No space left on device)"]
    assert "Traceback" not in capfd.readouterr().err
    assert (tmp_path / "out" / "toy_head" / "model.pth.tar-2").is_file()
