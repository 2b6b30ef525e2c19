"""Logger, meters, evaluator and other tools of dassl/."""

import io
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dassl.config import get_cfg_default
from dassl.engine import TrainerBase
from dassl.evaluation import Classification, build_evaluator
from dassl.metrics import compute_accuracy
from dassl.utils import (
    AverageMeter,
    MetricMeter,
    Registry,
    check_isfile,
    collect_env_info,
    get_rng_state,
    listdir_nohidden,
    mkdir_if_missing,
    read_json,
    set_random_seed,
    set_rng_state,
    setup_logger,
    tolist_if_not,
    write_json,
)
from tests.conftest import ROOT

# logger


@pytest.fixture
def stdout(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    """What is printed; sys.stdout and the root logger are given back after a test that calls setup_logger."""
    before, root = sys.stdout, logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield capsys
    sys.stdout, root.handlers[:] = before, handlers
    root.setLevel(level)


def test_log_file_keeps_prints_and_messages(tmp_path: Path, stdout: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):  # a second call in a process starts another file
        setup_logger(str(tmp_path / name))
    setup_logger()
    print("printed")
    logging.getLogger("trainers.of.somebody").info("logged %d", 1)
    print("not yet ended", end="")
    assert (tmp_path / "two" / "log.txt").read_text().startswith("printed\nlogged 1\n")
    assert (tmp_path / "one" / "log.txt").read_text() == ""
    assert stdout.readouterr().out == "printed\nlogged 1\nnot yet ended"


def test_a_second_run_writes_a_dated_log(tmp_path: Path, stdout: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        setup_logger(str(tmp_path))
        print(f"run {number}")
    setup_logger(str(tmp_path / "other" / "own.log"))
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names[0] == "log.txt"
    assert re.fullmatch(r"log\.txt-\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d", names[1])
    assert [(tmp_path / name).read_text() for name in names[:2]] == ["run 1\n", "run 2\n"]
    assert (tmp_path / "other" / "own.log").exists()


def test_lone_surrogates_of_file_names_do_not_stop_the_log(tmp_path: Path) -> None:
    code = "import logging, sys; from dassl.utils import setup_logger; setup_logger(sys.argv[1]); "
    code += r"print('a\udcff'); logging.getLogger('x').info('b\ud800')"
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log.txt").read_text() == "a\\udcff\nb\\ud800\n"
    assert done.stdout == "a\\udcff\nb\\ud800\n"


def test_a_killed_process_loses_no_line(tmp_path: Path) -> None:
    code = "import os, sys; from dassl.utils import setup_logger; setup_logger(sys.argv[1]); "
    code += "print('last words'); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, stdout=subprocess.PIPE)
    assert killed.returncode == -9
    assert (tmp_path / "log.txt").read_text() == "last words\n"


# meters, registry, metrics, generators


def test_meters_take_numbers_and_tensors() -> None:
    meter = MetricMeter()
    meter.update({"loss": torch.tensor([1.0], requires_grad=True), "acc": 50})
    value = torch.tensor(2.0)
    meter.update({"loss": value, "acc": torch.tensor(100)})
    value += 40
    meter.update(None)
    assert str(meter) == "loss 2.0000 (1.5000) acc 100.0000 (75.0000)"
    assert meter.meters["loss"].avg == 1.5
    with pytest.raises(TypeError, match="must be a dictionary"):
        meter.update(3.0)
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        AverageMeter().update(torch.zeros(2))
    weighted = AverageMeter()
    weighted.update(1.0, n=3)
    weighted.update(5.0)
    assert (weighted.val, weighted.avg, weighted.sum, weighted.count) == (5.0, 2.0, 8.0, 4)


def test_a_bad_loss_raises_at_once_on_the_cpu_and_later_elsewhere() -> None:
    trainer = TrainerBase()
    trainer.detect_anomaly(torch.tensor(1.0))
    for bad in (float("nan"), float("inf")):
        with pytest.raises(FloatingPointError, match="^Loss is infinite or NaN!$"):
            trainer.detect_anomaly(torch.tensor(bad))
    trainer.check_anomaly()
    if torch.cuda.is_available():
        trainer.detect_anomaly(torch.tensor(float("nan"), device="cuda"))
        trainer.detect_anomaly(torch.tensor(1.0, device="cuda"))
        with pytest.raises(FloatingPointError):
            trainer.check_anomaly()
        trainer.check_anomaly()


def test_registry_replaces_only_by_force() -> None:
    registry = Registry("THING")

    @registry.register()
    class Thing: ...

    first = registry.get("Thing")
    assert first is Thing
    registry.register(type("Thing", (), {}), force=True)
    assert registry.get("Thing") is not first
    assert registry.registered_names() == ["Thing"]


def test_accuracy_of_several_k() -> None:
    output = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    target = torch.tensor([1, 1, 0, 0])
    top1, top2 = compute_accuracy(output, target, topk=(1, 2))
    assert (top1.tolist(), top2.tolist()) == ([50.0], [75.0])
    assert compute_accuracy([output], target)[0].item() == 50.0


def test_generators_come_back_from_a_file() -> None:
    set_random_seed(3)
    file = io.BytesIO()
    torch.save(get_rng_state(), file)
    import random

    first = random.random(), np.random.rand(), torch.rand(1)
    file.seek(0)
    set_rng_state(torch.load(file, weights_only=True))
    assert (random.random(), np.random.rand(), torch.rand(1)) == first


# evaluator


def scores(labels: list[int], classes: int = 4) -> torch.Tensor:
    return nn.functional.one_hot(torch.tensor(labels), classes).float()


def test_evaluator_agrees_with_a_hand_computation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    cfg = get_cfg_default()
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.TEST.PER_CLASS_RESULT = cfg.TEST.COMPUTE_CMAT = True
    evaluator = build_evaluator(cfg, lab2cname={0: "ant", 1: "bass", 3: "crab"})
    for _ in range(2):
        evaluator.reset()
        evaluator.process(scores([0, 0, 1]), torch.tensor([0, 0, 0]))
        evaluator.process(scores([1, 2, 3]), torch.tensor([1, 1, 3]))
        caplog.clear()
        results = evaluator.evaluate()
    # label 0: 2 of 3, F1 4/5; label 1: 1 of 2, one false, F1 1/2; label 3: all, F1 1; label 2 is not present
    assert list(results) == ["accuracy", "error_rate", "macro_f1", "perclass_accuracy"]
    expected = [400 / 6, 200 / 6, 100 * (0.8 + 0.5 + 1) / 3, 100 * (2 / 3 + 1 / 2 + 1) / 3]
    assert list(results.values()) == pytest.approx(expected)
    assert (evaluator.total, evaluator.correct) == (6, 4)
    assert evaluator.per_class == {0: (2, 3), 1: (1, 2), 3: (1, 1)}
    assert caplog.messages == [
        "=> result\n* total: 6\n* correct: 4\n* accuracy: 66.67%\n* error: 33.33%\n* macro_f1: 76.67%",
        "=> per-class result",
        "* class: 0 (ant)\ttotal: 3\tcorrect: 2\tacc: 66.67%",
        "* class: 1 (bass)\ttotal: 2\tcorrect: 1\tacc: 50.00%",
        "* class: 3 (crab)\ttotal: 1\tcorrect: 1\tacc: 100.00%",
        "* average: 72.22%",
        f"Confusion matrix is saved to {tmp_path}/cmat.pt",
    ]
    cmat = torch.load(tmp_path / "cmat.pt", weights_only=True)
    rows = [[2 / 3, 1 / 3, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert torch.allclose(cmat, torch.tensor(rows, dtype=torch.float64))


def test_evaluating_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to evaluate"):
        Classification(get_cfg_default()).evaluate()


# small tools and configuration


def test_files_and_small_tools(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json({"b": [1]}, str(path))
    assert read_json(str(path)) == {"b": [1]}
    assert check_isfile(str(path))
    with pytest.warns(UserWarning, match="No file found"):
        assert not check_isfile(str(tmp_path / "none"))
    for name in ("c", ".hidden", "b"):
        (tmp_path / name).touch()
    assert listdir_nohidden(str(tmp_path), sort=True) == ["b", "c", "new"]
    mkdir_if_missing(str(tmp_path / "new" / "deep"))
    mkdir_if_missing(str(tmp_path / "new" / "deep"))
    assert tolist_if_not("a") == ["a"]
    assert tolist_if_not(["a"]) == ["a"]


def test_environment_report_ends_with_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.utils.collect_env

    monkeypatch.setattr(torch.utils.collect_env, "get_pretty_env_info", lambda: "PyTorch version: 2")
    assert re.fullmatch(r"PyTorch version: 2\n        Pillow \([\d.]+\)", collect_env_info.__wrapped__())


def test_every_call_gives_a_fresh_configuration() -> None:
    cfg = get_cfg_default()
    cfg.OPTIM.LR = 1.0
    assert get_cfg_default().OPTIM.LR == 0.0003


def test_a_log_that_cannot_be_written_is_one_warning_and_no_crash(
    tmp_path: Path, stdout: pytest.CaptureFixture[str]
) -> None:
    setup_logger(str(tmp_path))
    full = open("/dev/full", "w", buffering=1)  # noqa: SIM115  # every write fails: no space left
    sys.stdout.file.close()
    sys.stdout.file = full
    for number in range(3):
        print("line", number)
    sys.stdout.flush()
    captured = stdout.readouterr()
    assert captured.out == "line 0\nline 1\nline 2\n"
    assert captured.err.count("cannot be written: disk full?") == 1


def test_a_console_that_cannot_be_written_leaves_the_log_alone(
    tmp_path: Path, stdout: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    os.close(read)  # as of `| head`
    sys.stdout = open(write, "w", buffering=1)  # noqa: SIM115
    setup_logger(str(tmp_path))
    for number in range(3):
        print("line", number)
    sys.stdout.flush()
    assert (tmp_path / "log.txt").read_text() == "line 0\nline 1\nline 2\n"
    path = tmp_path / "log.txt"
    assert stdout.readouterr().err == f'warning: stdout cannot be written (Broken pipe); see "{path}"\n'
