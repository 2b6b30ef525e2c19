"""Prompts and pictures belong to a run as its weights do; damaged weights are no model."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import command_line
import train
from adapt.adapter_file import FILE_NAME, read_adapter
from adapt.prompts import prompts_digest
from fileio import file_digest
from runner.jobs import Run
from runner.state import run_is_finished
from tests.test_train import command
from trainers.heba import HeBA

DESCRIPTIONS = "descriptions/caltech101.json"
SPLIT = "caltech-101/split_zhou_Caltech101.json"


@pytest.fixture
def data(toy_data: Path, tmp_path: Path) -> Path:
    """The toy data, to be changed."""
    return Path(shutil.copytree(toy_data, tmp_path / "data"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, toy_data: Path, toy_flags: list[str]) -> Path:
    output = tmp_path_factory.mktemp("finished")
    assert train.main(training(toy_data, output, toy_flags)) == 0
    return output


@pytest.fixture
def output(finished: Path, tmp_path: Path) -> Path:
    """The finished run, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "output"))


def training(data: Path, output: Path, flags: list[str], *pairs: str) -> list[str]:
    opts = [*flags, "OPTIM.MAX_EPOCH", "2", "DATASET.SUBSAMPLE_CLASSES", "base", *pairs]
    return command(data, output, opts)


def evaluation(data: Path, output: Path, model: Path, flags: list[str], *pairs: str) -> list[str]:
    words = ["--eval-only", "--model-dir", str(model), "--load-epoch", "last"]
    return [*words, *training(data, output, flags, *pairs)]


def describe_anew(data: Path) -> None:
    """Another sentence of one class."""
    file = data / DESCRIPTIONS
    content = json.loads(file.read_text())
    content["crab"][0] = "a crab walks sideways."
    file.write_text(json.dumps(content))


def split_anew(data: Path) -> None:
    """One picture moves from train to test."""
    file = data / SPLIT
    content = json.loads(file.read_text())
    content["test"].append(content["train"].pop(0))
    file.write_text(json.dumps(content))


def train_anew(data: Path) -> None:
    """Other weights of the backbone."""
    weights = torch.load(data / "clip.pt", weights_only=True)
    weights["visual.proj"] += 1
    torch.save(weights, data / "clip.pt")


def test_the_digest_of_the_prompts_is_recorded_and_exported(finished: Path) -> None:
    record = json.loads((finished / "results.json").read_text())
    adapter = read_adapter(finished / "adapter_learner" / FILE_NAME)
    assert record["prompts_sha256"] == prompts_digest(adapter.prompts)
    assert record["exported"] == {f"adapter_learner/{FILE_NAME}": file_digest(adapter.path)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (describe_anew, r"\(the prompts: SHA-256 "),
        (split_anew, r"\(the pictures of train: SHA-256 .*; the pictures of test: SHA-256 "),
    ],
)
def test_a_finished_run_of_other_prompts_or_pictures_is_not_this_run(
    change: Callable[[Path], None],
    said: str,
    data: Path,
    output: Path,
    toy_flags: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = training(data, output, toy_flags)
    assert train.main(arguments) == 0
    assert "Finished already" in capsys.readouterr().out
    assert run_is_finished(Run(output, tuple(arguments)))
    change(data)
    assert train.main(arguments) == 2
    assert re.search(said, capsys.readouterr().err)
    with pytest.raises(ValueError, match=said):
        run_is_finished(Run(output, tuple(arguments)))


def test_a_finished_run_is_finished_without_its_data_too(
    data: Path, output: Path, toy_flags: list[str], capsys: pytest.CaptureFixture[str], caplog
) -> None:
    shutil.rmtree(data)
    assert train.main(training(data, output, toy_flags)) == 0
    assert "Finished already" in capsys.readouterr().out
    assert "cannot be compared" in caplog.text


@pytest.mark.parametrize("name", ["model.pth.tar-2", FILE_NAME])
def test_damaged_weights_are_no_finished_run(
    name: str, toy_data: Path, output: Path, toy_flags: list[str], capsys: pytest.CaptureFixture[str], caplog
) -> None:
    path = output / "adapter_learner" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert train.main(training(toy_data, output, toy_flags)) == 2
    assert f'"{path}" is damaged or replaced since training ended' in capsys.readouterr().err
    with pytest.raises(ValueError, match="damaged or replaced since training ended"):
        run_is_finished(Run(output, tuple(training(toy_data, output, toy_flags))))
    path.unlink()
    assert train.main(training(toy_data, output, toy_flags)) == 0
    assert f'"{path}" of the finished run is gone' in caplog.text


def test_a_checkpoint_that_changed_since_training_is_not_evaluated(
    toy_data: Path, output: Path, toy_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = output / "adapter_learner" / "model.pth.tar-2"
    checkpoint = torch.load(path, weights_only=True)
    next(iter(checkpoint["state_dict"].values())).mul_(0.5)
    torch.save(checkpoint, path)
    assert train.main(evaluation(toy_data, tmp_path / "again", output, toy_flags)) == 2
    assert f'"{path}" is damaged or replaced since training' in capsys.readouterr().err


@pytest.mark.parametrize("left", ["resume file", "checkpoint"])
@pytest.mark.parametrize(
    ("change", "said"),
    [(describe_anew, "prompts"), (split_anew, "training pictures"), (train_anew, "weights")],
)
def test_training_is_not_continued_with_other_prompts_pictures_or_weights(
    change: Callable[[Path], None],
    said: str,
    left: str,
    data: Path,
    tmp_path: Path,
    toy_flags: list[str],
    tiny_clip_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    at = "save_resume" if left == "resume file" else "save_model"
    original = getattr(HeBA, at)

    def save_and_stop(trainer: HeBA, *args: object) -> None:
        original(trainer, *args)
        raise KeyboardInterrupt

    output = tmp_path / "cut"
    shutil.copy(tiny_clip_path, data / "clip.pt")
    opts = ("MODEL.BACKBONE.NAME", str(data / "clip.pt"), "TRAIN.RESUME_SECONDS", "0")
    with monkeypatch.context() as patched:
        patched.setattr(HeBA, at, save_and_stop)
        assert train.main(training(data, output, toy_flags, *opts)) == command_line.INTERRUPTED
    if left == "checkpoint":
        (output / "resume.pth.tar").unlink(missing_ok=True)
    change(data)
    capsys.readouterr()
    assert train.main(training(data, output, toy_flags, *opts)) == 2
    assert f'"{output}" was trained on other {said} so far' in capsys.readouterr().err


def test_a_model_is_evaluated_with_the_prompts_of_its_training_unless_others_are_named(
    data: Path,
    output: Path,
    toy_flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    describe_anew(data)
    again = evaluation(data, tmp_path / "again", output, toy_flags)
    assert train.main(again) == 2
    said = capsys.readouterr().err
    assert f'"{output}" was trained with other prompts of 1 classes (crab, …)' in said
    for number, named in enumerate(
        (["DESCRIPTIONS", str(data / DESCRIPTIONS)], ["TEXT_CTX_INIT", "an image of"])
    ):
        caplog.clear()
        again[again.index("--output-dir") + 1] = str(tmp_path / f"named{number}")
        assert train.main([*again, f"TRAINER.HeBA.{named[0]}", named[1]]) == 0
        assert "used because the command line names them" in caplog.text


def test_damaged_prompts_of_an_adapter_are_one_line(
    toy_data: Path, output: Path, toy_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = output / "adapter_learner" / FILE_NAME
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"classnames":"[', b'"classnames":"{', 1))
    assert path.read_bytes() != content
    assert train.main(evaluation(toy_data, tmp_path / "again", output, toy_flags)) == 2
    assert f'the metadata of "{path}" are damaged' in capsys.readouterr().err


def test_the_last_epoch_of_an_unfinished_training_is_not_evaluated(
    toy_data: Path, output: Path, toy_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its checkpoints lie there, its resume file was not due yet."""
    (output / "results.json").unlink()
    folder = output / "adapter_learner"
    checkpoint = torch.load(folder / "model.pth.tar-2", weights_only=True)
    torch.save(checkpoint | {"epoch": 1}, folder / "model.pth.tar-1")
    (folder / "model.pth.tar-2").unlink()
    assert train.main(evaluation(toy_data, tmp_path / "again", output, toy_flags)) == 2
    assert f'training in "{output}" ended after epoch 1 of 2' in capsys.readouterr().err
