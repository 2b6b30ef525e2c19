"""A toy data set and a trainer in the old style of the CoOp family, shared by the tests of dassl/.

As a script it trains in a process of its own, which it kills at a given place:
``python -m tests.test_dassl_toy DATA OUTPUT PLACE KEY VALUE ...``; an empty PLACE lets it end.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import TRAINER_REGISTRY, TrainerX, build_trainer
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import set_random_seed, setup_logger
from fileio import atomic_write

CLASSES = ["ant", "bass", "crab"]
IMAGES = {"train": 5, "val": 2, "test": 3}  # a class


@DATASET_REGISTRY.register()
class ToyShapes(DatasetBase):
    """Noise images whose mean colour tells the class; written when they are not there."""

    dataset_dir = "toy"

    def __init__(self, cfg: CfgNode) -> None:
        root = Path(cfg.DATASET.ROOT) / self.dataset_dir
        root.mkdir(parents=True, exist_ok=True)
        generator = torch.Generator().manual_seed(0)
        parts: dict[str, list[Datum]] = {}
        for part, count in IMAGES.items():
            parts[part] = []
            for label, name in enumerate(CLASSES):
                for number in range(count):
                    pixels = torch.randint(0, 156, (20, 24, 3), generator=generator)
                    pixels[..., label] += 20
                    path = root / f"{part}_{name}_{number}.png"
                    if not path.exists():
                        Image.fromarray(pixels.to(torch.uint8).numpy()).save(path)
                    parts[part].append(Datum(impath=str(path), label=label, classname=name))
        super().__init__(train_x=parts["train"], val=parts["val"], test=parts["test"])


class ToyNet(nn.Module):
    """One linear layer with dropout, so that a step draws from torch's generator."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(inputs, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        # By the mode of the head: it alone is registered, so it alone is set to evaluation.
        return self.head(nn.functional.dropout(image.flatten(1), 0.2, self.head.training))


@TRAINER_REGISTRY.register()
class OldStyle(TrainerX):
    """What a published trainer of the family looks like."""

    def check_cfg(self, cfg: CfgNode) -> None:
        assert cfg.TRAINER.OLDSTYLE.PREC in ["fp32", "amp"]

    def build_model(self) -> None:
        cfg = self.cfg
        self.model = ToyNet(3 * cfg.INPUT.SIZE[0] * cfg.INPUT.SIZE[1], len(self.dm.dataset.classnames))
        self.model.to(self.device)
        self.optim = build_optimizer(self.model.head, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("toy_head", self.model.head, self.optim, self.sched)
        self.scaler = None

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Any]:
        image, label = self.parse_batch_train(batch)
        output = self.model(image)
        loss = nn.functional.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        return batch["img"].to(self.device), batch["label"].to(self.device)


class Killed(OldStyle):
    """Ends its own process with SIGKILL at the place that ``kill_at`` names."""

    kill_at = ""

    def reached(self, place: str) -> None:
        if place == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.reached(f"epoch {self.epoch} batch {self.batch_idx}")
        return super().forward_backward(batch)

    def save_resume(self) -> None:
        if self.kill_at == f"epoch {self.epoch} saving":
            with atomic_write(f"{self.output_dir}/resume.pth.tar") as file:
                file.write(b"half a file")
                self.reached(self.kill_at)
        super().save_resume()

    def after_epoch(self) -> None:
        self.reached(f"epoch {self.epoch} before after_epoch")
        super().after_epoch()
        self.reached(f"epoch {self.epoch} after after_epoch")

    def after_train(self) -> None:
        self.reached("before after_train")
        super().after_train()
        self.reached("after after_train")


def toy_cfg(root: str | Path, output: str | Path, *opts: Any) -> CfgNode:
    """A configuration that trains 4 epochs of 3 batches within a second."""
    cfg = get_cfg_default()
    cfg.TRAINER.OLDSTYLE = CfgNode({"PREC": "fp32"})
    cfg.merge_from_list(
        [
            *("DATASET.NAME", "ToyShapes", "DATASET.ROOT", str(root), "OUTPUT_DIR", str(output)),
            *("TRAINER.NAME", "OldStyle", "SEED", 1, "USE_CUDA", False, "DATALOADER.NUM_WORKERS", 0),
            *("DATALOADER.TRAIN_X.BATCH_SIZE", 5, "DATALOADER.TEST.BATCH_SIZE", 4, "INPUT.SIZE", (8, 8)),
            *("INPUT.INTERPOLATION", "bicubic", "OPTIM.NAME", "sgd", "OPTIM.LR", 0.01, "OPTIM.MAX_EPOCH", 4),
            *("INPUT.TRANSFORMS", ("random_resized_crop", "random_flip", "normalize")),
            *("TRAIN.RESUME_SECONDS", 0.0),
            *("OPTIM.LR_SCHEDULER", "cosine", "OPTIM.WARMUP_EPOCH", 1, "OPTIM.WARMUP_TYPE", "constant"),
            *opts,
        ]
    )
    return cfg


def toy_trainer(root: str | Path, output: str | Path, *opts: Any) -> Any:
    """A freshly built trainer, as train.py makes it."""
    cfg = toy_cfg(root, output, *opts)
    cfg.freeze()
    set_random_seed(max(cfg.SEED, 0))
    return build_trainer(cfg)


def weights(output: Path, epoch: int = 4) -> dict[str, torch.Tensor]:
    path = output / "toy_head" / f"model.pth.tar-{epoch}"
    return torch.load(path, weights_only=True)["state_dict"]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


if __name__ == "__main__":
    torch.set_num_threads(1)
    data, output_dir, Killed.kill_at, *pairs = sys.argv[1:]
    setup_logger(output_dir)
    if Killed.kill_at:
        Killed.__name__ = "OldStyle"
        TRAINER_REGISTRY.register(Killed, force=True)
    toy_trainer(data, output_dir, *pairs).train()
