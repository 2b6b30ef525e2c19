"""Optimisers by name."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.config.defaults import ORIGINAL, check_fixed
from dassl.utils import check_availability

AVAI_OPTIMS = ("adam", "sgd", "adamw")


def build_optimizer(
    model: nn.Module | Iterable[Any], optim_cfg: CfgNode, param_groups: Iterable[Any] | None = None
) -> torch.optim.Optimizer:
    """The optimiser that ``OPTIM.NAME`` names.

    Args:
        model: module whose parameters are optimised, or parameters or parameter groups.
        optim_cfg: the node ``OPTIM``.
        param_groups: if given, they are optimised instead of the model's parameters.
    """
    check_availability(optim_cfg.NAME, AVAI_OPTIMS, "OPTIM.NAME", ORIGINAL)
    check_fixed(optim_cfg, "OPTIM.")
    _check_numbers(optim_cfg)
    if param_groups is None:
        param_groups = model.parameters() if isinstance(model, nn.Module) else model
    param_groups = [_listed(group) for group in param_groups]

    common = {"lr": optim_cfg.LR, "weight_decay": optim_cfg.WEIGHT_DECAY}
    if _can_be_fused(param_groups):
        common["fused"] = True
    if optim_cfg.NAME == "sgd":
        optimizer = torch.optim.SGD(param_groups, momentum=optim_cfg.MOMENTUM, **common)
        if common.get("fused"):
            optimizer.register_step_pre_hook(_start_momentum)
        return optimizer
    kind = torch.optim.Adam if optim_cfg.NAME == "adam" else torch.optim.AdamW
    return kind(param_groups, betas=(optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2), **common)


def _check_numbers(optim_cfg: CfgNode) -> None:
    """Raises ValueError, with the key, for numbers that torch's optimisers refuse without it."""
    is_sgd = optim_cfg.NAME == "sgd"
    for key in ("LR", "WEIGHT_DECAY", *["MOMENTUM"] * is_sgd):
        if optim_cfg[key] < 0:
            raise ValueError(f"OPTIM.{key} is {optim_cfg[key]}; set it to 0 or more")
    for key in () if is_sgd else ("ADAM_BETA1", "ADAM_BETA2"):
        if not 0 <= optim_cfg[key] < 1:
            raise ValueError(f"OPTIM.{key} is {optim_cfg[key]}; set it to 0 or more, below 1")


def _start_momentum(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Gives momentum that is not there yet its value, zero.

    PyTorch's fused SGD makes room for it in the first step and writes it there, but not if that step is
    skipped because gradients overflow in float16, as they do until the loss scale fits: the second step then
    adds to whatever lay in memory.
    """
    for group in optimizer.param_groups:
        for weight in group["params"] if group["momentum"] else ():
            if weight.grad is not None and optimizer.state[weight].get("momentum_buffer") is None:
                optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)


def _listed(group: Any) -> Any:
    """A parameter group that can be read more than once; anything else as it is."""
    if not isinstance(group, dict) or isinstance(group["params"], Tensor):
        return group
    return {**group, "params": list(group["params"])}


def _can_be_fused(groups: list[Any]) -> bool:
    """Whether one kernel can do the step: a third of the time, and no waiting for a GPU with loss scaling."""
    parts = [group["params"] if isinstance(group, dict) else group for group in groups]
    weights = [w for part in parts for w in (part if isinstance(part, list) else [part])]
    return all(
        isinstance(w, Tensor) and w.is_floating_point() and w.device.type in ("cpu", "cuda") for w in weights
    )
