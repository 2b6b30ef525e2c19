"""Contract of the host: a trainer file in the family's old style, dropped into trainers/, runs unmodified."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

TRAINER = '''
import os.path as osp

import torch
import torch.nn as nn
from torch.cuda.amp import GradScaler, autocast
from torch.nn import functional as F

from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights

from clip import clip
from clip.simple_tokenizer import SimpleTokenizer as _Tokenizer

_tokenizer = _Tokenizer()


class Shifted(nn.Module):
    """A learned vector added to the words of each prompt."""

    def __init__(self, cfg, classnames, model):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(model.ln_final.weight.shape[0], dtype=model.dtype))
        self.lengths = [len(_tokenizer.encode(name)) for name in classnames]
        prompts = [cfg.TRAINER.COOP.CTX_INIT + " " + name + "." for name in classnames]
        self.tokens = torch.cat([clip.tokenize(p) for p in prompts])


class Whole(nn.Module):
    def __init__(self, cfg, classnames, model):
        super().__init__()
        self.learner = Shifted(cfg, classnames, model)
        self.clip = model

    def forward(self, image):
        model, tokens = self.clip, self.learner.tokens
        with torch.no_grad():
            x = model.token_embedding(tokens).type(model.dtype)
        x = x + self.learner.shift + model.positional_embedding.type(model.dtype)
        x = model.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
        x = model.ln_final(x).type(model.dtype)
        text = x[torch.arange(x.shape[0]), tokens.argmax(dim=-1)] @ model.text_projection
        features = model.visual(image.type(model.dtype))
        text = text / text.norm(dim=-1, keepdim=True)
        features = features / features.norm(dim=-1, keepdim=True)
        return model.logit_scale.exp() * features @ text.t()


@TRAINER_REGISTRY.register()
class OldWay(TrainerX):
    def check_cfg(self, cfg):
        assert cfg.TRAINER.COOP.PREC in ["fp16", "fp32", "amp"]

    def build_model(self):
        cfg = self.cfg
        classnames = self.dm.dataset.classnames
        try:
            model = torch.jit.load(cfg.MODEL.BACKBONE.NAME, map_location="cpu").eval()
            state_dict = None
        except RuntimeError:
            state_dict = torch.load(cfg.MODEL.BACKBONE.NAME, map_location="cpu")
        model = clip.build_model(state_dict or model.state_dict())
        assert model.dtype == torch.float16
        if cfg.TRAINER.COOP.PREC != "fp16":
            model.float()
        self.model = Whole(cfg, classnames, model)
        for name, param in self.model.named_parameters():
            param.requires_grad_("learner" in name)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model.learner, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        self.optim = build_optimizer(self.model.learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("learner", self.model.learner, self.optim, self.sched)
        self.scaler = GradScaler() if cfg.TRAINER.COOP.PREC == "amp" else None

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        output = self.model(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        summary = {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return summary

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def load_model(self, directory, epoch=None):
        for name in self.get_model_names():
            path = osp.join(directory, name, "model.pth.tar-" + str(epoch))
            self._models[name].load_state_dict(load_checkpoint(path)["state_dict"], strict=False)
'''

# CoOp's YAML for few-shot training, with its warm-up epoch.
CONFIG = """
DATALOADER:
  TRAIN_X:
    BATCH_SIZE: 4
  TEST:
    BATCH_SIZE: 100
  NUM_WORKERS: 0
INPUT:
  SIZE: (32, 32)
  INTERPOLATION: "bicubic"
  PIXEL_MEAN: [0.48145466, 0.4578275, 0.40821073]
  PIXEL_STD: [0.26862954, 0.26130258, 0.27577711]
  TRANSFORMS: ["random_resized_crop", "random_flip", "normalize"]
OPTIM:
  NAME: "sgd"
  LR: 0.002
  MAX_EPOCH: 3
  LR_SCHEDULER: "cosine"
  WARMUP_EPOCH: 1
  WARMUP_TYPE: "constant"
  WARMUP_CONS_LR: 1e-5
TRAIN:
  PRINT_FREQ: 5
TRAINER:
  COOP:
    CTX_INIT: "a photo of a"
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository into which somebody dropped a trainer file."""
    house = tmp_path_factory.mktemp("house")
    for room in ("clip", "dassl", "datasets", "fileio", "trainers", "configs"):
        shutil.copytree(ROOT / room, house / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", house)
    (house / "trainers" / "oldway.py").write_text(TRAINER)
    (house / "coop.yaml").write_text(CONFIG)
    return house


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_an_old_style_trainer_runs_unmodified(
    house: Path, toy_data: Path, tiny_clip_path: Path, tmp_path: Path, precision: str
) -> None:
    output = tmp_path / "out"
    arguments = [
        *("--root", str(toy_data), "--seed", "1", "--trainer", "OldWay", "--output-dir", str(output)),
        *("--dataset-config-file", "configs/datasets/caltech101.yaml", "--config-file", "coop.yaml"),
    ]
    opts = ["DATASET.NUM_SHOTS", "4", "MODEL.BACKBONE.NAME", str(tiny_clip_path)]
    opts += ["TRAINER.COOP.PREC", precision]
    done = subprocess.run(
        [sys.executable, "train.py", *arguments, *opts], cwd=house, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((output / "results.json").read_text())
    assert record["trainer"] == "OldWay"
    assert record["total"] == 18
    rates = re.findall(r"epoch \[\d/3\] batch \[5/6\] .* lr (\S+) eta", done.stdout)
    assert rates == ["1.0000e-05", "2.0000e-03", "1.5000e-03"]
    assert re.search(r"acc \d+\.\d{4} \(\d+\.\d{4}\)", done.stdout)
    other = [*opts[:-1], "amp"]  # its options stand under another name than its own, and count all the same
    refused = subprocess.run(
        [sys.executable, "train.py", *arguments, *other], cwd=house, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert f"TRAINER.COOP.PREC '{precision}' != 'amp'" in refused.stderr
    flags = ["--eval-only", "--model-dir", str(output), "--load-epoch", "3"]
    arguments[arguments.index(str(output))] = str(tmp_path / "again")
    again = subprocess.run(
        [sys.executable, "train.py", *arguments, *flags, *opts], cwd=house, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "again" / "results.json").read_text())["accuracy"] == record["accuracy"]


def test_a_file_that_does_not_import_is_named_and_stops_nobody(house: Path) -> None:
    broken = house / "trainers" / "broken.py"
    broken.write_text("import no_such_package\n")
    code = (
        "from trainers.common.config import extend_cfg; "
        "from dassl.config import get_cfg_default; extend_cfg(get_cfg_default())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=house, capture_output=True, text=True)
    broken.unlink()
    assert done.returncode == 0, done.stderr
    assert "trainers/broken.py is left out, it does not import: ModuleNotFoundError" in done.stderr
