"""Trainers in the shape of CoOp's, CoCoOp's and zsclip's published files run here, in all their settings."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import train
from adapt.prompts import template_prompts
from clip import clip
from clip.model import CLIP, build_model
from dassl.config import get_cfg_default
from runner import config
from tests.conftest import ROOT, copy_repository
from tests.test_clip_weights import save_torchscript
from trainers.class_texts import class_texts

# CoOp's vit_b16_ep50.yaml and rn50_ep50.yaml but for sizes and numbers of epochs and images.
COMMON = """
DATALOADER:
  TRAIN_X:
    BATCH_SIZE: 8
  TEST:
    BATCH_SIZE: 100
  NUM_WORKERS: 8
INPUT:
  SIZE: ({size}, {size})
  INTERPOLATION: "bicubic"
  PIXEL_MEAN: [0.48145466, 0.4578275, 0.40821073]
  PIXEL_STD: [0.26862954, 0.26130258, 0.27577711]
  TRANSFORMS: ["random_resized_crop", "random_flip", "normalize"]
OPTIM:
  NAME: "sgd"
  LR: 0.002
  MAX_EPOCH: 2
  LR_SCHEDULER: "cosine"
  WARMUP_EPOCH: 1
  WARMUP_TYPE: "constant"
  WARMUP_CONS_LR: 1e-5
TRAIN:
  PRINT_FREQ: 1
MODEL:
  BACKBONE:
    NAME: "{backbone}"
"""
# name of a run: (trainer, backbone, KEY VALUE pairs)
RUNS = {
    "fp16": (
        "ContextTuning",
        "tiny-ViT",
        "TRAINER.COOP.PREC fp16 TRAINER.COOP.CTX_INIT a_photo_of_a DATASET.SUBSAMPLE_CLASSES base",
    ),
    "best_val": (
        "ContextTuning",
        "tiny-ViT",
        "TRAINER.COOP.PREC fp32 TRAINER.COOP.N_CTX 4 TEST.FINAL_MODEL best_val",
    ),
    "amp": ("ContextTuning", "tiny-RN", "TRAINER.COOP.PREC amp TRAINER.COOP.CSC True TRAINER.COOP.N_CTX 2"),
    "rn_fp16": (
        "ContextTuning",
        "tiny-RN",
        "TRAINER.COOP.PREC fp16 TRAINER.COOP.CLASS_TOKEN_POSITION middle",
    ),
    "auto": (  # fp32 on a CPU; the published file does not know the word
        "ContextTuning",
        "tiny-RN",
        "TRAINER.COOP.PREC auto TRAINER.COOP.CLASS_TOKEN_POSITION front USE_CUDA False",
    ),
    "own_name": ("CoOp", "tiny-ViT", "TRAINER.COOP.PREC fp32 TRAINER.COOP.CTX_INIT a_photo_of_a"),
    "images_fp16": (  # few steps: each is slow on a CPU without float16
        "ImageConditioned",
        "tiny-ViT",
        "TRAINER.COCOOP.PREC fp16 TRAINER.COCOOP.N_CTX 4 DATALOADER.TRAIN_X.BATCH_SIZE 1 "
        "DATASET.NUM_SHOTS 1 DATASET.SUBSAMPLE_CLASSES base",
    ),
    "images_amp": ("ImageConditioned", "tiny-RN", "TRAINER.COCOOP.PREC amp TRAINER.COCOOP.CTX_INIT a"),
}
NEW = {
    "again": (
        "ContextTuning",
        "tiny-ViT",
        "TRAINER.COOP.PREC fp16 TRAINER.COOP.CTX_INIT a_photo_of_a DATASET.SUBSAMPLE_CLASSES base",
    ),
    "new": (
        "ContextTuning",
        "tiny-ViT",
        "TRAINER.COOP.PREC fp16 TRAINER.COOP.CTX_INIT a_photo_of_a DATASET.SUBSAMPLE_CLASSES new",
    ),
    "zeroshot": ("ZeroshotCLIP", "tiny-RN", ""),
    "ensemble": ("ZeroshotCLIP2", "tiny-ViT", ""),
}
DRIVER = """
import json, sys
import train
from clip import clip

*runs, wrong, models = json.load(open(sys.argv[1]))
clip._MODELS.update(models)
for arguments in runs:
    status = train.main(arguments)
    if status:
        sys.exit(f"{status}: {arguments}")
assert train.main(wrong) == 2
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with trainers dropped in: two take the place of ours, one is broken."""
    house = tmp_path_factory.mktemp("house")
    copy_repository(house)
    for name in ("context_tuning", "image_conditioned", "zsclip"):
        shutil.copy(ROOT / "tests" / "old_style" / f"{name}.py", house / "trainers")
    coop = (house / "trainers" / "context_tuning.py").read_text().replace("class ContextTuning", "class CoOp")
    (house / "trainers" / "coop.py").write_text(coop)
    (house / "trainers" / "broken.py").write_text("import no_such_package\n")
    return house


@pytest.fixture(scope="module")
def models(house: Path, tiny_clip_path: Path) -> dict[str, str]:
    """Addresses by name, as in ``clip._MODELS``, of a ViT (a state dict) and a ResNet (an OpenAI archive)."""
    cache = house / "cache"
    cache.mkdir()
    shutil.copy(tiny_clip_path, cache / "tiny-ViT.pt")
    torch.manual_seed(2)
    resnet = CLIP(64, 64, (1, 1, 1, 1), 8, None, 77, 49408, 64, 1, 2)
    weights = {
        name: tensor.detach() for name, tensor in build_model(resnet.state_dict()).state_dict().items()
    }
    save_torchscript(weights, cache / "tiny-RN.pt")
    return {
        path.stem: f"https://localhost/{hashlib.sha256(path.read_bytes()).hexdigest()}/{path.name}"
        for path in cache.iterdir()
    }


@pytest.fixture(scope="module")
def outputs(house: Path, models: dict[str, str], toy_data: Path) -> tuple[Path, str, str]:
    """All runs, one after another in one process: the folder of their outputs, stdout and stderr.

    The last one has another option than the finished run in its folder.
    """
    commands = []
    for name, (trainer, backbone, opts) in (RUNS | NEW).items():
        file = house / f"{backbone}.yaml"
        file.write_text(COMMON.format(size=64 if backbone == "tiny-RN" else 32, backbone=backbone))
        flags = ["--root", str(toy_data), "--seed", "1", "--trainer", trainer, "--output-dir", f"out/{name}"]
        flags += ["--dataset-config-file", "configs/datasets/caltech101.yaml", "--config-file", str(file)]
        if name in ("new", "again"):
            flags += ["--model-dir", "out/fp16", "--load-epoch", "2"]
        flags += ["--eval-only"] if name in NEW else []
        commands.append([*flags, "DATASET.NUM_SHOTS", "4", "DATALOADER.NUM_WORKERS", "0", *opts.split()])
    wrong = [word if word != "fp16" else "amp" for word in commands[0]]
    (house / "runs.json").write_text(json.dumps([*commands, wrong, models]))
    (house / "driver.py").write_text(DRIVER)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "driver.py", "runs.json"],
        cwd=house,
        capture_output=True,
        text=True,
        env=os.environ | {"CLIP_CACHE": str(house / "cache")},
    )
    assert done.returncode == 0, done.stderr
    return house / "out", done.stdout, done.stderr


def test_its_options_count_though_they_stand_under_another_name(outputs: tuple[Path, str, str]) -> None:
    assert "TRAINER.COOP.PREC 'fp16' != 'amp'" in outputs[2]


def test_a_file_that_does_not_import_is_named_and_stops_nobody(outputs: tuple[Path, str, str]) -> None:
    assert "trainers/broken.py is left out, it does not import: ModuleNotFoundError" in outputs[2]


@pytest.mark.parametrize("name", RUNS)
def test_it_trains_and_is_evaluated(outputs: tuple[Path, str, str], name: str) -> None:
    folder = outputs[0] / name
    record = json.loads((folder / "results.json").read_text())
    base = "base" in RUNS[name][2]
    assert record["trainer"] == RUNS[name][0]
    assert record["total"] == (9 if base else 18)
    log = (folder / "log.txt").read_text()
    batches = {"images_fp16": 3}.get(name, 1 if base else 3)
    rates = re.findall(rf"^epoch \[\d/2\] batch \[{batches}/{batches}\] .* lr (\S+) eta", log, re.MULTILINE)
    assert rates == [
        "2.0000e-03",
        "1.0000e-03",
    ]  # what update_lr has set for the next epoch, after the warm-up
    assert ("acc " in log) == (record["trainer"] in ("ContextTuning", "CoOp"))
    checkpoint = torch.load(folder / "prompt_learner" / "model.pth.tar-2", weights_only=True)
    assert {"token_prefix", "token_suffix", "ctx"} <= checkpoint["state_dict"].keys()
    half = "fp16" in name
    assert checkpoint["state_dict"]["ctx"].dtype == (torch.float16 if half else torch.float32)
    assert checkpoint["state_dict"]["ctx"].isfinite().all()
    momentum = checkpoint["optimizer"]["state"][0]["momentum_buffer"]
    assert momentum.any()  # it has learned
    best = folder / "prompt_learner" / "model-best.pth.tar"
    assert best.is_file() == (name == "best_val")


def test_its_checkpoint_is_evaluated_on_the_same_and_on_other_classes(outputs: tuple[Path, str, str]) -> None:
    records = [json.loads((outputs[0] / name / "results.json").read_text()) for name in ("fp16", "again")]
    assert records[0]["correct"] == records[1]["correct"]
    record = json.loads((outputs[0] / "new" / "results.json").read_text())
    assert record["total"] == 9
    assert record["num_classes"] == 3
    assert 'Loading weights to prompt_learner from "out/fp16' in outputs[1]


def test_the_best_model_on_validation_images_is_deployed(outputs: tuple[Path, str, str]) -> None:
    log = (outputs[0] / "best_val" / "log.txt").read_text()
    assert log.count("Evaluate on the *val* set") == 2
    assert "Deploy the model with the best val performance" in log


def test_a_file_of_the_same_name_takes_the_place_of_ours(outputs: tuple[Path, str, str]) -> None:
    assert "Prompts of another file: ['a photo of a ant.'" in outputs[1]
    for name in ("zeroshot", "ensemble"):
        assert json.loads((outputs[0] / name / "results.json").read_text())["total"] == 18


def test_a_second_file_for_one_method_is_refused(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the two is imported first would be run; other methods are not concerned."""
    second = house / "trainers" / "another.py"
    shutil.copy(house / "trainers" / "zsclip.py", second)
    monkeypatch.setattr(config, "ROOT", house)
    args = train.parse_args(["--trainer", "ZeroshotCLIP", "MODEL.BACKBONE.NAME", "ViT-B/16"])
    with pytest.raises(ValueError, match=r"defined in trainers/another.py and trainers/zsclip.py"):
        config.setup_cfg(args)
    args.trainer = "ContextTuning"
    assert config.setup_cfg(args).TRAINER.NAME == "ContextTuning"
    second.unlink()


# Numbers of the published code (CoOp at ff61507) on a tiny random CLIP
@pytest.fixture(scope="module")
def golden_clip(assets: Path) -> CLIP:
    weights = clip.load_state_dict(assets / "goldens" / "tiny_clip.pt").state_dict
    model = clip.build_model(weights)
    assert model.dtype == torch.float16
    return model.float().requires_grad_(False)


def near(found: torch.Tensor, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=tolerance)


def test_zero_shot_clips_published_numbers_come_out(assets: Path, golden_clip: CLIP) -> None:
    folder = assets / "goldens"
    numbers = dict(np.load(folder / "zsclip_tiny.npz"))
    facts = json.loads((folder / "zsclip_tiny.json").read_text())
    images = F.normalize(golden_clip.encode_image(torch.from_numpy(numbers["images"])), dim=-1)
    datasets = [name.removesuffix("/logits") for name in numbers if name.endswith("/logits")]
    for dataset in (name for name in datasets if not name.startswith("zs2_")):
        cfg = get_cfg_default()
        config.extend_cfg(cfg)
        cfg.DATASET.NAME = dataset
        prompts = template_prompts(facts["classes"], [class_texts(cfg).template])
        tokens = clip.tokenize([prompt for (prompt,) in prompts])
        np.testing.assert_array_equal(tokens, numbers[f"{dataset}/tokens"])
        texts = F.normalize(golden_clip.encode_text(tokens), dim=-1)
        near(golden_clip.logit_scale.exp() * images @ texts.t(), numbers[f"{dataset}/logits"], 2e-5)
