"""The learning rate as a function of the epoch."""

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from yacs.config import CfgNode

from dassl.config.defaults import ORIGINAL, check_fixed
from dassl.utils import check_availability

AVAI_SCHEDS = ("single_step", "cosine")
AVAI_WARMUPS = ("linear", "constant")


class EpochLR(LRScheduler):
    """Dassl's schedules with their warm-up, in closed form.

    With d(e) the decay of the schedule proper and W warm-up epochs, the learning rate of epoch e (from 0) is
    LR d(e - W), and the warm-up's for e < W. All state is plain numbers: a checkpoint holds no other object,
    and a resumed run continues with exactly the same rates.

    Args:
        optimizer: its groups' learning rates are set.
        optim_cfg: the node ``OPTIM``.
    """

    def __init__(self, optimizer: Optimizer, optim_cfg: CfgNode) -> None:
        self.kind = optim_cfg.LR_SCHEDULER
        self.max_epoch = optim_cfg.MAX_EPOCH
        self.gamma = optim_cfg.GAMMA
        steps = optim_cfg.STEPSIZE
        step = steps[-1] if isinstance(steps, (list, tuple)) else steps
        self.step_size = step if step > 0 else self.max_epoch
        self.warmup_epoch = max(optim_cfg.WARMUP_EPOCH, 0)
        self.warmup_type = optim_cfg.WARMUP_TYPE
        self.warmup_lr = (
            optim_cfg.WARMUP_CONS_LR if self.warmup_type == "constant" else optim_cfg.WARMUP_MIN_LR
        )
        super().__init__(optimizer)

    def decay(self, epoch: int) -> float:
        """What the schedule proper multiplies the learning rate by in its epoch ``epoch``."""
        if self.kind == "cosine":
            return (1 + math.cos(math.pi * epoch / self.max_epoch)) / 2
        return self.gamma ** (epoch // self.step_size)

    def get_lr(self) -> list[float]:
        epoch, warmup = self.last_epoch, self.warmup_epoch
        if epoch < warmup:
            if self.warmup_type == "constant" or epoch == 0:
                return [self.warmup_lr for _ in self.base_lrs]
            return [lr * epoch / warmup for lr in self.base_lrs]
        return [lr * self.decay(epoch - warmup) for lr in self.base_lrs]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes to the epoch of a saved schedule, ours or torch's; the rates stay the configuration's."""
        self.last_epoch = state_dict["last_epoch"]
        self._step_count = self.last_epoch + 1
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr


def build_lr_scheduler(optimizer: Optimizer, optim_cfg: CfgNode) -> LRScheduler:
    """The schedule that ``OPTIM.LR_SCHEDULER`` names, with its warm-up; step it once an epoch."""
    check_availability(optim_cfg.LR_SCHEDULER, AVAI_SCHEDS, "OPTIM.LR_SCHEDULER", ORIGINAL)
    check_availability(optim_cfg.WARMUP_TYPE, AVAI_WARMUPS, "OPTIM.WARMUP_TYPE")
    check_fixed(optim_cfg, "OPTIM.")
    return EpochLR(optimizer, optim_cfg)
