"""Adapters on a frozen CLIP: how they are attached, what counts as their weights, how their scale enters."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from clip.model import Transformer

ADAPTER_PREFIX = "adapter_learner."  # CustomCLIP's child that holds every weight a method trains


class Adapted(nn.Module):
    """A frozen layer and the adapter that works on its output: ``adapter(layer(x))``."""

    def __init__(self, layer: nn.Module, adapter: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.adapter = adapter

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.adapter(self.layer(x))


def check_vit(is_vit: bool, key: str) -> None:
    """Raises ValueError unless CLIP's image encoder is a vision transformer."""
    if not is_vit:
        raise ValueError(
            f"MODEL.BACKBONE.NAME is a CLIP whose image encoder is a ResNet, but the method of {key} adapts "
            "vision transformers; set it to one, such as ViT-B/16"
        )


def check_number(value: object, key: str, least: float = 0, most: float = math.inf) -> None:
    """Refuses what is no finite number within limits.

    Raises:
        ValueError: it is none; names the key.
    """
    if type(value) not in (int, float) or not math.isfinite(value) or not least <= value <= most:
        up_to = "up" if most == math.inf else f"to {most}"
        raise ValueError(f"{key} is {value}; set it to a number from {least} {up_to}")


def adapted_blocks(
    encoder: Transformer, blocks: tuple[int, int], key: str, name: str
) -> Iterator[tuple[int, nn.Module]]:
    """Numbers and modules of an encoder's adapted blocks.

    Args:
        encoder: text or image transformer.
        blocks: first and last one, from 1; last -1 is each encoder's last.
        key: of the options, for the message.
        name: text or image.

    Raises:
        ValueError: the range does not fit.
    """
    count = len(encoder.resblocks)
    first, last = blocks[0], count if blocks[1] == -1 else blocks[1]
    if not 1 <= first <= last <= count:
        raise ValueError(
            f"{key}.ADAPTER_START {first} and {key}.ADAPTER_END {last} do not fit the {name} encoder's "
            f"{count} blocks; they count from 1, and ADAPTER_END -1 is each encoder's last"
        )
    return ((number, encoder.resblocks[number - 1]) for number in range(first, last + 1))


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


@contextmanager
def at_scale(adapters: Iterable[nn.Module], scale: float) -> Iterator[None]:
    """Inside, these adapters have another ``scale`` (0: CLIP itself), and nothing gets a gradient."""
    own = [(adapter, adapter.scale) for adapter in adapters]
    for adapter, _ in own:
        adapter.scale = scale
    try:
        with torch.no_grad():
            yield
    finally:
        for adapter, before in own:
            adapter.scale = before


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
