"""Prompt learners: published configurations and checkpoints load, other classes can be named."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train
from adapt.learned_words import Context
from adapt.model import adapter_weights
from adapt.prompts import ClassPrompts
from clip import clip
from dassl.config import get_cfg_default
from predict import Predictor
from runner import config
from tests.conftest import ROOT
from tests.goldens import options
from tests.test_learned_words import ALL
from tests.test_methods import House
from trainers.clip_trainer import ClipTrainer
from trainers.cocoop import CoCoOp
from trainers.coop import CoOp
from trainers.maple import MaPLe

# Published configurations
INPUT = """
INPUT:
  SIZE: (224, 224)
  INTERPOLATION: "bicubic"
  PIXEL_MEAN: [0.48145466, 0.4578275, 0.40821073]
  PIXEL_STD: [0.26862954, 0.26130258, 0.27577711]
  TRANSFORMS: ["random_resized_crop", "random_flip", "normalize"]
DATALOADER:
  TRAIN_X:
    BATCH_SIZE: {batch}
  TEST:
    BATCH_SIZE: 100
  NUM_WORKERS: 8
OPTIM:
  NAME: "sgd"
  LR: {lr}
  MAX_EPOCH: {epochs}
  LR_SCHEDULER: "cosine"
  WARMUP_EPOCH: 1
  WARMUP_TYPE: "constant"
  WARMUP_CONS_LR: 1e-5
TRAIN:
  PRINT_FREQ: {freq}
MODEL:
  BACKBONE:
    NAME: "ViT-B/16"
TRAINER:
  {options}
"""
MAPLE = 'MAPLE: {{N_CTX: 2, CTX_INIT: "a photo of a", PREC: "fp16", PROMPT_DEPTH: {}}}'
COCOOP = 'COCOOP: {N_CTX: 4, CTX_INIT: "a photo of a", PREC: "fp16"}'
COOP = 'COOP: {CTX_INIT: "a photo of a"}'  # N_CTX is 16 by default
PUBLISHED = {  # file here: trainer, batch size, learning rate, epochs, print frequency, options
    "CoOp/base2new": (32, 0.002, 200, 5, COOP, 4),
    "CoOp/base2new_imagenet": (32, 0.002, 50, 5, COOP, 4),
    "CoOp/x2d": (32, 0.002, 50, 5, COOP, 4),
    "CoCoOp/base2new": (1, 0.002, 10, 20, COCOOP, 4),
    "CoCoOp/x2d": (1, 0.002, 10, 20, COCOOP, 4),
    "MaPLe/base2new": (4, 0.0035, 5, 20, MAPLE.format(9), 2),
    "MaPLe/x2d": (4, 0.0026, 2, 20, MAPLE.format(3), 2),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_load_and_ours_say_the_same(name: str, tmp_path: Path) -> None:
    batch, lr, epochs, freq, own, vectors = PUBLISHED[name]
    published = tmp_path / "published.yaml"
    published.write_text(INPUT.format(batch=batch, lr=lr, epochs=epochs, freq=freq, options=own))
    trainer = {"CoOp": CoOp, "CoCoOp": CoCoOp, "MaPLe": MaPLe}[name.split("/")[0]]
    theirs, ours = (
        config.setup_cfg(train.parse_args(["--trainer", trainer.__name__, "--config-file", str(file)]))
        for file in (published, ROOT / "configs" / "trainers" / f"{name}.yaml")
    )
    for cfg in (theirs, ours):
        cfg.defrost()
        cfg.TRAINER[trainer.options_name].PREC = "fp16"  # ours leave it open: test_precision.py
        cfg.OPTIM.WARMUP_CONS_LR = float(cfg.OPTIM.WARMUP_CONS_LR)  # YAML 1.1 takes "1e-5" for a word
    assert theirs == ours
    own = theirs.TRAINER[trainer.options_name]
    assert Context.read(own, "", trainer.method.learn_all_init_words).number == vectors


@ALL
def test_a_published_file_in_the_place_of_ours_finds_the_same_options(
    trainer: type[ClipTrainer], values: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = options(trainer).TRAINER[trainer.options_name]
    monkeypatch.setattr(config, "import_all", lambda package: [])
    cfg = get_cfg_default()
    config.extend_cfg(cfg)
    ours.PREC = "auto"  # the default, which `options` changes
    assert cfg.TRAINER[trainer.options_name] == ours


# Checkpoints
def published_checkpoint(trainer: ClipTrainer, folder: Path) -> None:
    """What the published code would have left: half vectors, derived buffers, with MaPLe all of CLIP."""
    tensors = {
        name: torch.full_like(value, 0.25)
        for name, value in trainer.model.adapter_learner.state_dict().items()
    }
    tensors["ctx"] = tensors["ctx"].half()
    tensors |= {"token_prefix": torch.zeros(2, 1, 128), "token_suffix": torch.zeros(2, 72, 128)}
    if isinstance(trainer, MaPLe):
        tensors = {f"prompt_learner.{name}": value for name, value in tensors.items()}
        tensors |= {"logit_scale": torch.zeros(()), "image_encoder.proj": torch.zeros(4, 4)}
    path = folder / trainer.method.folder / "model.pth.tar-5"
    path.parent.mkdir()
    torch.save(
        {"state_dict": tensors, "epoch": 5, "optimizer": None, "scheduler": None, "val_result": None}, path
    )


@ALL
def test_published_checkpoints_load(
    trainer: type[ClipTrainer], values: dict, tmp_path: Path, toy_data: Path, tiny_clip_path: Path
) -> None:
    run = House(trainer.__name__, toy_data, tiny_clip_path).trainer(tmp_path / "run", **values)
    published_checkpoint(run, tmp_path)
    run.load_model(str(tmp_path), epoch=5)
    for name, weight in adapter_weights(run.model).items():
        assert weight.dtype == torch.float32
        assert (weight == 0.25).all(), name


def test_words_of_single_classes_are_refused_for_others(
    tmp_path: Path, toy_data: Path, tiny_clip_path: Path
) -> None:
    """Also where there are as many of them: three base and three novel classes."""
    house = House("CoOp", toy_data, tiny_clip_path)
    house.trainer(tmp_path / "base", "OPTIM.MAX_EPOCH", 1, CSC=True).train()
    novel = house.trainer(tmp_path / "novel", "DATASET.SUBSAMPLE_CLASSES", "new", CSC=True)
    message = (
        r"learned words for each of its 3 classes \(ant, …\), so it has none for these 3 \(grand_piano, …\)"
    )
    with pytest.raises(ValueError, match=message):
        novel.load_model(str(tmp_path / "base"), epoch=1)
    house.trainer(tmp_path / "again", CSC=True).load_model(str(tmp_path / "base"), epoch=1)
    with pytest.raises(ValueError, match="learned words for each of its classes"):
        Predictor(tmp_path / "base", classes=["cat", "dog"])


def test_other_classes_of_a_method_without_learned_words_keep_their_layout() -> None:
    prompts = ClassPrompts.tokenize([["a photo of a cat."]])
    prompts = replace(prompts, lookahead=77)
    other = prompts.for_classes(["dog", "ant_hill"], "", "a {}.")
    assert torch.equal(other.tokens, clip.tokenize(["a dog.", "a ant hill."]))
    assert other.lookahead == 77
    assert torch.equal(prompts.for_classes(["dog"], "the {}.", "a {}.").tokens, clip.tokenize("the dog."))
