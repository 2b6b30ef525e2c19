"""Optimisers by name."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.utils import check_availability

AVAI_OPTIMS = ("adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw")


def build_optimizer(
    model: nn.Module | Iterable[Any], optim_cfg: CfgNode, param_groups: Iterable[Any] | None = None
) -> torch.optim.Optimizer:
    """The optimiser that ``OPTIM.NAME`` names.

    Args:
        model: module whose parameters are optimised, or parameters or parameter groups.
        optim_cfg: the node ``OPTIM``.
        param_groups: if given, they are optimised instead of the model's parameters.
    """
    check_availability(optim_cfg.NAME, AVAI_OPTIMS, "OPTIM.NAME")
    _check_numbers(optim_cfg)
    if param_groups is None:
        if optim_cfg.STAGED_LR:
            param_groups = _staged_groups(model, optim_cfg)
        else:
            param_groups = model.parameters() if isinstance(model, nn.Module) else model
    param_groups = [_listed(group) for group in param_groups]

    common = {"lr": optim_cfg.LR, "weight_decay": optim_cfg.WEIGHT_DECAY}
    if optim_cfg.NAME in ("sgd", "adam", "amsgrad", "adamw") and _can_be_fused(param_groups):
        common["fused"] = True
    betas = (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2)
    if optim_cfg.NAME == "sgd":
        if optim_cfg.SGD_DAMPNING:  # does not act on a first step, which a momentum of zero is not
            common.pop("fused", None)
        optimizer = torch.optim.SGD(
            param_groups,
            momentum=optim_cfg.MOMENTUM,
            dampening=optim_cfg.SGD_DAMPNING,
            nesterov=optim_cfg.SGD_NESTEROV,
            **common,
        )
        if common.get("fused"):
            optimizer.register_step_pre_hook(_start_momentum)
        return optimizer
    if optim_cfg.NAME == "rmsprop":
        return torch.optim.RMSprop(
            param_groups, momentum=optim_cfg.MOMENTUM, alpha=optim_cfg.RMSPROP_ALPHA, **common
        )
    if optim_cfg.NAME == "amsgrad":
        return torch.optim.Adam(param_groups, betas=betas, amsgrad=True, **common)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "radam": torch.optim.RAdam}
    return kinds[optim_cfg.NAME](param_groups, betas=betas, **common)


def _check_numbers(optim_cfg: CfgNode) -> None:
    """Raises ValueError, with the key, for numbers that torch's optimisers refuse without it."""
    name = optim_cfg.NAME
    least = ["LR", "WEIGHT_DECAY", *["MOMENTUM"] * (name in ("sgd", "rmsprop"))]
    least += ["RMSPROP_ALPHA"] * (name == "rmsprop")
    for key in least:
        if optim_cfg[key] < 0:
            raise ValueError(f"OPTIM.{key} is {optim_cfg[key]}; set it to 0 or more")
    for key in ("ADAM_BETA1", "ADAM_BETA2") if name in ("adam", "amsgrad", "adamw", "radam") else ():
        if not 0 <= optim_cfg[key] < 1:
            raise ValueError(f"OPTIM.{key} is {optim_cfg[key]}; set it to 0 or more, below 1")
    if name == "sgd" and optim_cfg.SGD_NESTEROV and (not optim_cfg.MOMENTUM or optim_cfg.SGD_DAMPNING):
        raise ValueError(
            f"OPTIM.SGD_NESTEROV is True; it needs a MOMENTUM above 0, which is {optim_cfg.MOMENTUM}, and no "
            f"SGD_DAMPNING, which is {optim_cfg.SGD_DAMPNING}"
        )


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


def _staged_groups(model: nn.Module, optim_cfg: CfgNode) -> list[dict[str, Any]]:
    """New layers learn at LR, the others at LR times BASE_LR_MULT; layers are the model's direct children."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"OPTIM.STAGED_LR needs a module, but got {type(model).__name__}")
    new = [optim_cfg.NEW_LAYERS] if isinstance(optim_cfg.NEW_LAYERS, str) else list(optim_cfg.NEW_LAYERS)
    children = dict(model.named_children())
    unknown = [name for name in new if name not in children]
    if unknown or not new:
        raise ValueError(f"OPTIM.NEW_LAYERS is {new}; choose among the model's children {list(children)}")
    base_params = [p for name, child in children.items() if name not in new for p in child.parameters()]
    new_params = [p for name in new for p in children[name].parameters()]
    return [{"params": base_params, "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT}, {"params": new_params}]
