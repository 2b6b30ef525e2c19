"""How adapters are attached to CLIP, and how their scale enters value and gradient."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from clip.model import CLIP
from clip.transformer import Transformer


class Adapted(nn.Module):
    """A frozen layer and the adapter that works on its output: ``adapter(layer(x))``."""

    def __init__(self, layer: nn.Module, adapter: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.adapter = adapter

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.adapter(self.layer(x))


def check_vit(is_vit: bool, key: str) -> None:
    """Raises ValueError unless CLIP's image encoder is a vision transformer; ``key`` is of the options."""
    if not is_vit:
        raise ValueError(
            f"MODEL.BACKBONE.NAME is a CLIP whose image encoder is a ResNet, but the method of {key} adapts "
            "vision transformers; set it to one, such as ViT-B/16"
        )


def adapted_blocks(clip_model: CLIP, options: Any, key: str) -> Iterator[tuple[str, Transformer, int]]:
    """Yields ``text`` or ``visual``, that encoder and the number of each block to adapt, text first.

    Args:
        clip_model: its image encoder is a ViT.
        options: ``ADAPTER_START`` and ``ADAPTER_END``, the first and the last block, counted from 1;
            ADAPTER_END -1 is each encoder's last.
        key: of the options, for messages: ``TRAINER.HeBA``.

    Raises:
        ValueError: the image encoder is no ViT, or the range does not fit an encoder.
    """
    check_vit(hasattr(clip_model.visual, "transformer"), key)
    for name, encoder in (("text", clip_model.transformer), ("visual", clip_model.visual.transformer)):
        count = len(encoder.resblocks)
        first = options.ADAPTER_START
        last = count if options.ADAPTER_END == -1 else options.ADAPTER_END
        if not 1 <= first <= last <= count:
            raise ValueError(
                f"{key}.ADAPTER_START {first} and {key}.ADAPTER_END {last} do not fit the {name} encoder's "
                f"{count} blocks; they count from 1, and ADAPTER_END -1 is each encoder's last"
            )
        for number in range(first, last + 1):
            yield name, encoder, number


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

    ``scale_output(block(scale_gradient(x, s)), s)`` is the published gradient rule (trainers/gsl.py
    in the repositories of HeBA and LwEIB): the value is ``s * block(x)``, the gradient to ``x`` is the true
    one, and the weights of ``block`` get theirs divided by ``s``. Nothing is divided here, so ``s`` may be 0.
    """
    return _Scale.apply(x, 1.0, scale)


class _ZeroGrad(torch.autograd.Function):
    """Passes a value on and gives weights beside it a gradient of zero."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*weights)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return grad, *(torch.zeros_like(weight) for weight in ctx.saved_tensors)


def with_zero_grad(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
    """``x`` itself; ``weights``, which no output depends on, get a gradient of zero instead of none.

    An optimiser skips a weight without a gradient; with one of zero its decay and momentum still act.
    """
    return _ZeroGrad.apply(x, *weights)


@contextmanager
def kept_scales(adapters: Iterable[nn.Module]) -> Iterator[None]:
    """Adapters whose ``scale`` is changed inside the block have their own again after it."""
    own = [(adapter, adapter.scale) for adapter in adapters]
    try:
        yield
    finally:
        for adapter, scale in own:
            adapter.scale = scale


@contextmanager
def at_scale(adapters: Iterable[nn.Module], scale: float) -> Iterator[None]:
    """Inside, these adapters have another ``scale`` (0: CLIP itself), and nothing gets a gradient."""
    adapters = list(adapters)
    with kept_scales(adapters), torch.no_grad():
        for adapter in adapters:
            adapter.scale = scale
        yield


class ScaledAdapter(nn.Module):
    """An adapter with an output scale; 0 bypasses it, so that CLIP itself is left, bit for bit."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 0.0  # s; SlowFastLearner sets it

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.scale == 0:
            return x
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        return self.compute(x).to(x.dtype)

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the adapted ``x``."""
        raise NotImplementedError


class GridAdapter(ScaledAdapter):
    """Leaves the class token of images ``(B, 1 + N, d)`` as it is, and adapts the others.

    Name it before the class whose ``compute`` adapts grid tokens ``(B, N, d)``: ``class A(GridAdapter, B)``.
    """

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] == 1:  # the class token alone, in the last block
            return with_zero_grad(x, *self.parameters())
        return torch.cat([x[:, :1], super().compute(x[:, 1:])], dim=1)


def to_grid(tokens: torch.Tensor) -> torch.Tensor:
    """Returns ``(B, N, d)`` tokens as a ``(B, d, sqrt(N), sqrt(N))`` channels-last image."""
    side = math.isqrt(tokens.shape[1])
    return tokens.unflatten(1, (side, side)).permute(0, 3, 1, 2)


def from_grid(image: torch.Tensor) -> torch.Tensor:
    """Undoes ``to_grid``."""
    return image.permute(0, 2, 3, 1).flatten(1, 2)


class SlowFastLearner(nn.Module):
    """Attaches adapters to the input of each attention and to the hidden layer of each MLP (HeBA, LwEIB).

    It holds them under their published names (``visual_adapter.3.mlp_conv``; blocks from 1). All have the
    scale s, except inside ``drawn_scales``.

    Args:
        clip_model: gets the adapters.
        text: makes a text adapter of a width.
        visual: makes an image adapter of a width.
        options: ``ADAPTER_SCALE_FACTOR``, ``SLOW_FAST_RATIO``, and those of ``adapted_blocks``.
        scale: s.
        key: of the options, for messages.
        places: attention, mlp or both.

    Raises:
        ValueError: see ``adapted_blocks``.
    """

    def __init__(
        self,
        clip_model: CLIP,
        text: Callable[[int], ScaledAdapter],
        visual: Callable[[int], ScaledAdapter],
        options: Any,
        scale: float,
        key: str,
        places: str = "both",
    ) -> None:
        super().__init__()
        self.base_scale, self.fast_scale = scale, scale * options.ADAPTER_SCALE_FACTOR
        self.slow_fast_ratio = options.SLOW_FAST_RATIO
        self.text_adapter, self.visual_adapter = nn.ModuleDict(), nn.ModuleDict()
        for name, encoder, number in adapted_blocks(clip_model, options, key):
            block, pair = encoder.resblocks[number - 1], nn.ModuleDict()
            adapters, make = (self.text_adapter, text) if name == "text" else (self.visual_adapter, visual)
            if places in ("attention", "both"):
                pair["att_conv"] = make(encoder.width)
                block.ln_1 = Adapted(block.ln_1, pair["att_conv"])
            if places in ("mlp", "both"):
                pair["mlp_conv"] = make(4 * encoder.width)
                block.mlp.c_fc = Adapted(block.mlp.c_fc, pair["mlp_conv"])
            adapters[str(number)] = pair
        self.set_scale(scale)

    def adapters(self) -> list[ScaledAdapter]:
        """Returns the adapters of both encoders."""
        return [module for module in self.modules() if isinstance(module, ScaledAdapter)]

    def set_scale(self, scale: float) -> None:
        """Gives all adapters one scale; 0 is CLIP."""
        for adapter in self.adapters():
            adapter.scale = scale

    @contextmanager
    def drawn_scales(self) -> Iterator[None]:
        """Draws slow-fast scales: a block's adapters get s * factor with probability 1 - ratio, else s."""
        with kept_scales(self.adapters()):
            for blocks in (self.text_adapter, self.visual_adapter):
                for block in blocks.values():
                    fast = torch.rand(1).item() > self.slow_fast_ratio
                    for adapter in block.values():
                        adapter.scale = self.fast_scale if fast else self.base_scale
            yield
