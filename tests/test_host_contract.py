"""Contract of the host: a trainer file in the family's old style, dropped into trainers/, runs unmodified."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import copy_repository

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
    BATCH_SIZE: 2
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


# Makes runs one after another and prints the status, stdout and stderr of each.
DRIVER = """
import contextlib, io, json, sys
import train

said = []
for arguments in json.load(open(sys.argv[1])):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = train.main(arguments)
    said.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(said))
"""
PRECISIONS = ("fp16", "fp32")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository into which somebody dropped two trainer files, one of them broken."""
    house = tmp_path_factory.mktemp("house")
    copy_repository(house)
    (house / "trainers" / "oldway.py").write_text(TRAINER)
    (house / "trainers" / "broken.py").write_text("import no_such_package\n")
    (house / "coop.yaml").write_text(CONFIG)
    (house / "driver.py").write_text(DRIVER)
    return house


@pytest.fixture(scope="module")
def runs(house: Path, toy_data: Path, tiny_clip_path: Path) -> dict[str, tuple[int, str, str]]:
    """Status, stdout and stderr of all runs, one after another in one process."""
    common = ["--root", str(toy_data), "--seed", "1", "--trainer", "OldWay"]
    common += ["--dataset-config-file", "configs/datasets/caltech101.yaml", "--config-file", "coop.yaml"]
    opts = ["DATASET.NUM_SHOTS", "4", "DATASET.SUBSAMPLE_CLASSES", "base"]
    opts += ["MODEL.BACKBONE.NAME", str(tiny_clip_path), "TRAINER.COOP.PREC"]
    calls = {}
    for precision in PRECISIONS:
        calls[f"{precision} trained"] = [*common, "--output-dir", precision, *opts, precision]
        calls[f"{precision} in another"] = [*common, "--output-dir", precision, *opts, "amp"]
        flags = ["--output-dir", f"{precision} again", "--eval-only", "--model-dir", precision]
        calls[f"{precision} evaluated"] = [*common, *flags, "--load-epoch", "3", *opts, precision]
    (house / "runs.json").write_text(json.dumps([*calls.values()]))
    done = subprocess.run(
        [sys.executable, "driver.py", "runs.json"], cwd=house, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(calls, map(tuple, json.loads(done.stdout)), strict=True))


def record_of(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_old_style_trainer_runs_unmodified(
    house: Path, runs: dict[str, tuple[int, str, str]], precision: str
) -> None:
    status, out, err = runs[f"{precision} trained"]
    assert status == 0, err
    record = record_of(house / precision)
    assert record["trainer"] == "OldWay"
    assert record["total"] == 9
    rates = re.findall(r"epoch \[\d/3\] batch \[5/6\] .* lr (\S+) eta", out)
    assert rates == ["1.0000e-05", "2.0000e-03", "1.5000e-03"]
    assert re.search(r"acc \d+\.\d{4} \(\d+\.\d{4}\)", out)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_its_options_count_though_they_stand_under_another_name(
    runs: dict[str, tuple[int, str, str]], precision: str
) -> None:
    status, _, err = runs[f"{precision} in another"]
    assert status == 2
    assert f"TRAINER.COOP.PREC '{precision}' != 'amp'" in err


@pytest.mark.parametrize("precision", PRECISIONS)
def test_its_checkpoint_is_evaluated(
    house: Path, runs: dict[str, tuple[int, str, str]], precision: str
) -> None:
    status, _, err = runs[f"{precision} evaluated"]
    assert status == 0, err
    assert record_of(house / f"{precision} again")["accuracy"] == record_of(house / precision)["accuracy"]


def test_a_file_that_does_not_import_is_named_and_stops_nobody(
    runs: dict[str, tuple[int, str, str]],
) -> None:
    assert (
        "trainers/broken.py is left out, it does not import: ModuleNotFoundError" in runs["fp16 trained"][2]
    )
