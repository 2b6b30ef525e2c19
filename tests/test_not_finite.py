"""NaN and infinity in settings, backbone, weights and scores are errors, never results."""

from pathlib import Path

import pytest
import torch
import yaml
from yacs.config import CfgNode

import train
from adapt.adapter_file import FILE_NAME
from dassl.evaluation.evaluator import Classification
from tests.test_train import command
from trainers.clip_trainer import ClipTrainer


@pytest.fixture
def arguments(toy_data: Path, toy_flags: list[str], tmp_path: Path) -> list[str]:
    return command(toy_data, tmp_path / "out", [*toy_flags, "OPTIM.MAX_EPOCH", "1", "TEST.NO_TEST", "True"])


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("OPTIM: {LR: .nan}", "OPTIM.LR is nan"),
        ("OPTIM: {WEIGHT_DECAY: .inf}", "OPTIM.WEIGHT_DECAY is inf"),
        ("INPUT: {PIXEL_STD: [0.2, .nan, 0.2]}", "INPUT.PIXEL_STD is nan"),
        ("DATALOADER: {CACHE_MB: -.inf}", "DATALOADER.CACHE_MB is -inf"),
    ],
)
def test_a_setting_that_is_not_finite_is_refused_by_its_key(
    arguments: list[str], tmp_path: Path, text: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    at, file = arguments.index("--config-file") + 1, tmp_path / "method.yaml"
    config = yaml.safe_load(Path(arguments[at]).read_text())
    for name, keys in yaml.safe_load(text).items():
        config[name] |= keys
    file.write_text(yaml.safe_dump(config))
    arguments[at] = str(file)
    assert train.main(arguments) == 2
    assert f"{key}; set it to a finite number" in capsys.readouterr().err


def test_weights_that_the_last_step_spoils_are_neither_saved_nor_exported(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The losses of all steps are finite: the last step's effect is in no loss."""
    original = ClipTrainer.step

    def step(trainer: ClipTrainer, loss: torch.Tensor) -> None:
        if trainer.batch_idx + 1 == trainer.num_batches:
            trainer.optim.param_groups[0]["lr"] = float("nan")
        original(trainer, loss)

    monkeypatch.setattr(ClipTrainer, "step", step)
    assert train.main(arguments) == 2
    assert "trained weights of adapter_learner are infinite or NaN (the first " in capsys.readouterr().err
    left = {path.name for path in (tmp_path / "out").rglob("*")}
    assert not left & {FILE_NAME, "model.pth.tar-1", "resume.pth.tar", "results.json"}


def test_a_loss_that_is_not_finite_in_the_last_step_names_the_learning_rate(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = ClipTrainer.step

    def step(trainer: ClipTrainer, loss: torch.Tensor) -> None:
        last = trainer.batch_idx + 1 == trainer.num_batches
        original(trainer, loss * float("inf") if last else loss)

    monkeypatch.setattr(ClipTrainer, "step", step)
    assert train.main(arguments) == 2
    assert "Loss is infinite or NaN! Lower OPTIM.LR" in capsys.readouterr().err


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_backbone_with_such_a_number_is_named_and_not_the_learning_rate(
    number: float,
    arguments: list[str],
    tiny_clip_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = torch.load(tiny_clip_path, weights_only=True)
    weights["visual.transformer.resblocks.1.mlp.c_fc.weight"][3, 4] = number
    spoiled = tmp_path / "spoiled.pt"
    torch.save(weights, spoiled)
    arguments[arguments.index(str(tiny_clip_path))] = str(spoiled)
    assert train.main(arguments) == 2
    said = capsys.readouterr().err
    assert f"{spoiled}: NaN or infinity in visual.transformer.resblocks.1.mlp.c_fc.weight" in said
    assert "OPTIM.LR" not in said


def test_scores_that_are_not_finite_give_no_accuracy() -> None:
    evaluator = Classification(CfgNode({"TEST": {"PER_CLASS_RESULT": False, "COMPUTE_CMAT": False}}))
    scores = torch.eye(4)
    evaluator.process(scores, torch.arange(4))
    assert evaluator.evaluate()["accuracy"] == 100
    scores[2, 3] = float("nan")
    evaluator.reset()
    evaluator.process(scores, torch.arange(4))
    with pytest.raises(FloatingPointError, match="the scores of 1 of 4 images are infinite or NaN") as error:
        evaluator.evaluate()
    assert "OPTIM" not in str(error.value)  # perhaps nothing was trained
