"""Adapters on a frozen CLIP: how they are attached, what counts as their weights, how their scale enters."""

from collections.abc import Iterator

import torch
from torch import nn

ADAPTER_PREFIX = "adapter_learner."  # CustomCLIP's child that holds every weight a method trains


class Adapted(nn.Module):
    """A frozen layer and the adapter that works on its output: ``adapter(layer(x))``."""

    def __init__(self, layer: nn.Module, adapter: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.adapter = adapter

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.adapter(self.layer(x))


class _Scale(torch.autograd.Function):
    """Multiplies the value by one number and the gradient by another."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, value: float, gradient: float) -> torch.Tensor:
        ctx.gradient = gradient
        return x * value if value != 1 else x.view_as(x)

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return (grad * ctx.gradient if ctx.gradient != 1 else grad), None, None


def scale_output(y: torch.Tensor, scale: float) -> torch.Tensor:
    """``scale * y`` whose gradient passes unscaled: weights below learn as if the scale were 1."""
    return _Scale.apply(y, scale, 1.0)


def scale_gradient(x: torch.Tensor, scale: float) -> torch.Tensor:
    """``x`` itself whose gradient is multiplied by ``scale``.

    ``scale_output(block(scale_gradient(x, s)), s)`` is the published gradient rule (HeBA and LwEIB,
    trainers/gsl.py): the value is ``s * block(x)``, the gradient to ``x`` is the true one, and the weights of
    ``block`` get theirs divided by ``s``. Nothing is divided here, so ``s`` may be 0.
    """
    return _Scale.apply(x, 1.0, scale)


class _Unreached(torch.autograd.Function):
    """Passes a value on and gives weights beside it a gradient of zero."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*weights)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return grad, *(torch.zeros_like(weight) for weight in ctx.saved_tensors)


def unreached(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
    """``x`` itself; ``weights``, which no output depends on, get a gradient of zero instead of none.

    An optimiser skips a weight without a gradient; with one of zero its decay and momentum still act.
    """
    return _Unreached.apply(x, *weights)


def is_adapter_weight(name: str) -> bool:
    """Whether a parameter of ``CustomCLIP`` is an adapter weight; freezing, counting, tests all ask this."""
    return name.startswith(ADAPTER_PREFIX)


def adapter_weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and parameters that a method trains."""
    return ((name, weight) for name, weight in model.named_parameters() if is_adapter_weight(name))


def freeze_backbone(model: nn.Module) -> None:
    """Leaves gradients on for adapter weights and off for everything else."""
    for name, weight in model.named_parameters():
        weight.requires_grad_(is_adapter_weight(name))
