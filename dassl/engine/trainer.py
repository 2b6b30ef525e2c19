"""Dassl's trainers: what a run does before, during and after its epochs."""

import datetime
import logging
import math
import os
import time
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from yacs.config import CfgNode

from dassl.config.defaults import check_fixed
from dassl.data import DataManager
from dassl.engine import metrics
from dassl.engine.base import TrainerBase
from dassl.evaluation import build_evaluator
from dassl.utils import AverageMeter, MetricMeter

logger = logging.getLogger(__name__)

LEAST = {
    "OPTIM.MAX_EPOCH": 1,
    "TRAIN.PRINT_FREQ": 1,
    "DATALOADER.TRAIN_X.BATCH_SIZE": 1,
    "DATALOADER.TEST.BATCH_SIZE": 1,
    "DATALOADER.NUM_WORKERS": 0,
    "DATASET.NUM_SHOTS": -1,
    "OPTIM.LR": 0,
    "TRAIN.RESUME_SECONDS": 0,
}
CHOICES = {"TEST.FINAL_MODEL": ("last_step", "best_val"), "TEST.SPLIT": ("val", "test")}


class SimpleTrainer(TrainerBase):
    """A run on one data set; subclasses write ``build_model`` and the step.

    Args:
        cfg: the whole configuration.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        SimpleTrainer.check_cfg(self, cfg)  # also where a subclass replaces it
        self.check_cfg(cfg)
        self.device = torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")
        self.start_epoch = self.epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)
        self.best_result = -math.inf

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuses a configuration that the trainer cannot run; here values that no run can have."""
        _check_settings(cfg)

    def build_data_loader(self) -> None:
        """Makes the data set and its loaders."""
        dm = DataManager(self.cfg)
        self.train_loader_x = dm.train_loader_x
        self.train_loader_u = dm.train_loader_u
        self.val_loader = dm.val_loader
        self.test_loader = dm.test_loader
        self.num_classes = dm.num_classes
        self.num_source_domains = dm.num_source_domains
        self.lab2cname = dm.lab2cname
        self.dm = dm

    def build_model(self) -> None:
        """Builds and registers the model with its optimiser and learning-rate schedule."""
        raise NotImplementedError

    def train(self) -> None:
        """Trains, or continues a run that was cut, and evaluates."""
        super().train(self.start_epoch, self.max_epoch)

    def before_train(self) -> None:
        if isinstance(getattr(self, "dm", None), DataManager):
            if self.cfg.DATASET.NUM_SHOTS == 0:
                raise ValueError(
                    "DATASET.NUM_SHOTS is 0, which is no training; set it to 1 or more images a class, or to "
                    "-1 for all"
                )
            self.dm.check_classes()
            self.dm.check_images()
        self.time_start = time.time()
        self.start_epoch = self.resume_model_if_exist(self.cfg.RESUME or self.output_dir)
        if self.cfg.RESUME and self.start_epoch == 0:
            raise FileNotFoundError(f'RESUME "{self.cfg.RESUME}" holds no checkpoint; correct it')
        metrics.keep_until(self.output_dir, self.start_epoch)
        steps = self.start_epoch * len(self.train_loader_x)  # curves of epochs that are trained again
        self.init_writer(os.path.join(self.output_dir, "tensorboard"), purge_step=steps)

    def after_train(self) -> None:
        logger.info("Finish training")
        if not self.cfg.TEST.NO_TEST:
            if self.cfg.TEST.FINAL_MODEL == "best_val":
                logger.info("Deploy the model with the best val performance")
                self.load_model(self.output_dir)
            else:
                logger.info("Deploy the last-epoch model")
            self.test()
        logger.info("Elapsed: %s", datetime.timedelta(seconds=round(time.time() - self.time_start)))
        self.close_writer()

    def after_epoch(self) -> None:
        epoch, cfg = self.epoch + 1, self.cfg
        if cfg.TEST.FINAL_MODEL == "best_val" and not cfg.TEST.NO_TEST:
            if self.val_loader is None:
                logger.warning("There are no validation images: the best model is chosen on the test set")
            result = self.test(split="val")
            if result > self.best_result:
                self.best_result = result
                self.save_model(
                    self.epoch, self.output_dir, val_result=result, model_name="model-best.pth.tar"
                )
        due = cfg.TRAIN.CHECKPOINT_FREQ > 0 and epoch % cfg.TRAIN.CHECKPOINT_FREQ == 0
        if due or epoch == self.max_epoch:
            self.save_model(self.epoch, self.output_dir)

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluates on ``split``, default ``TEST.SPLIT``; leaves the models in eval mode.

        Args:
            split: ``val`` (the test set if there are no validation images), or ``test``.

        Returns:
            The evaluator's first number, the accuracy in percent.
        """
        self.set_model_mode("eval")
        self.evaluator.reset()
        split = split or self.cfg.TEST.SPLIT
        if split == "val" and self.val_loader is not None:
            data_loader = self.val_loader
        else:
            split, data_loader = "test", self.test_loader
        logger.info("Evaluate on the *%s* set", split)
        for batch in tqdm(data_loader, disable=None):
            input, label = self.parse_batch_test(batch)
            self.evaluator.process(self.model_inference(input), label)
        results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        return next(iter(results.values()))

    def model_inference(self, input: Any) -> Tensor:
        return self.model(input)

    def parse_batch_test(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Images and labels of a batch, on the device."""
        return tuple(batch[key].to(self.device, non_blocking=True) for key in ("img", "label"))


def _check_settings(cfg: CfgNode) -> None:
    """Refuses values that no run can have, before anything is built."""
    check_fixed(cfg)
    for key, least in LEAST.items():
        if (value := _setting(cfg, key)) < least:
            raise ValueError(f"{key} is {value}; set it to {least} or more")
    for key, choices in CHOICES.items():
        if (value := _setting(cfg, key)) not in choices:
            raise ValueError(f'{key} is "{value}"; set it to {" or ".join(choices)}')
    if cfg.RESUME and not os.path.isdir(cfg.RESUME):
        raise FileNotFoundError(
            f'RESUME (--resume) is "{cfg.RESUME}", which is not a folder; name the output folder of a run'
        )


def _setting(cfg: CfgNode, key: str) -> Any:
    return reduce(getattr, key.split("."), cfg)


class TrainerX(SimpleTrainer):
    """Epochs are passes over the labelled training images; subclasses write ``forward_backward``.

    The step may return tensors: they stay on the device until a log line is due, every ``TRAIN.PRINT_FREQ``
    batches. TensorBoard and ``metrics.jsonl`` get their points with the log lines.
    """

    def run_epoch(self) -> None:
        self.set_model_mode("train")
        losses, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
        self.num_batches = len(self.train_loader_x)
        freq = self.cfg.TRAIN.PRINT_FREQ
        end = time.time()
        for batch_idx, batch in enumerate(self.train_loader_x):
            self.batch_idx = batch_idx
            data_time.update(time.time() - end)
            losses.update(self.forward_backward(batch))
            due = (batch_idx + 1) % freq == 0 or self.num_batches < freq
            if due:
                self.check_anomaly()
                summary = str(losses)  # waits for the device: the batch's time is read after it
            batch_time.update(time.time() - end)
            if due:
                self._log_batch(summary, batch_time, data_time)
                self._write_curves(losses)
                self._write_metrics(losses, batch_time, data_time)
            end = time.time()

    def _log_batch(self, summary: str, batch_time: AverageMeter, data_time: AverageMeter) -> None:
        remaining = (self.max_epoch - self.epoch) * self.num_batches - self.batch_idx - 1
        logger.info(
            "epoch [%d/%d] batch [%d/%d] time %.3f (%.3f) data %.3f (%.3f) %s lr %.4e eta %s",
            self.epoch + 1,
            self.max_epoch,
            self.batch_idx + 1,
            self.num_batches,
            batch_time.val,
            batch_time.avg,
            data_time.val,
            data_time.avg,
            summary,
            self.get_current_lr(),
            datetime.timedelta(seconds=int(batch_time.avg * remaining)),
        )

    def _write_curves(self, losses: MetricMeter) -> None:
        step = self.epoch * self.num_batches + self.batch_idx
        for name, meter in losses.meters.items():
            self.write_scalar(f"train/{name}", meter.avg, step)
        self.write_scalar("train/lr", self.get_current_lr(), step)

    def _write_metrics(self, losses: MetricMeter, batch_time: AverageMeter, data_time: AverageMeter) -> None:
        row = {
            "step": self.epoch * self.num_batches + self.batch_idx + 1,
            "epoch": self.epoch + 1,
            "batch": self.batch_idx + 1,
            **{name: meter.avg for name, meter in losses.meters.items()},
            "lr": self.get_current_lr(),
            "time": batch_time.avg,
            "data": data_time.avg,
        }
        metrics.append(self.output_dir, row)

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Images, labels and domains of a batch, on the device."""
        return tuple(batch[key].to(self.device, non_blocking=True) for key in ("img", "label", "domain"))
