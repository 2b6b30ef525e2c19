"""How adapters are attached to CLIP, and how their scale enters value and gradient."""

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
    """Raises ValueError unless CLIP's image encoder is a vision transformer."""
    if not is_vit:
        raise ValueError(
            f"MODEL.BACKBONE.NAME is a CLIP whose image encoder is a ResNet, but the method of {key} adapts "
            "vision transformers; set it to one, such as ViT-B/16"
        )


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
        return self.compute(x)

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        """The adapted ``x``, in its dtype."""
        raise NotImplementedError


class SlowFastLearner(nn.Module):
    """Adapters on the input of a block's attention and on the hidden layer of its MLP (HeBA, LwEIB).

    They go by the published names (``visual_adapter.3.mlp_conv``; blocks from 1), and are the very modules
    attached to CLIP's blocks. All have the scale s, but inside ``drawn_scales``.

    Args:
        clip_model: gets the adapters.
        text: makes a text adapter of a width.
        visual: makes an image adapter of a width.
        options: ``ADAPTER_START``, ``ADAPTER_END``, ``ADAPTER_SCALE_FACTOR``, ``SLOW_FAST_RATIO``.
        scale: s.
        key: of the options, for messages: ``TRAINER.HeBA``.
        places: attention, mlp or both.

    Raises:
        ValueError: the image encoder is no ViT, or the range of blocks does not fit the encoders.
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
        check_vit(hasattr(clip_model.visual, "transformer"), key)
        self.base_scale, self.fast_scale = scale, scale * options.ADAPTER_SCALE_FACTOR
        self.slow_fast_ratio = options.SLOW_FAST_RATIO
        blocks = (options.ADAPTER_START, options.ADAPTER_END)
        encoders = {
            "text_adapter": (clip_model.transformer, text, "text"),
            "visual_adapter": (clip_model.visual.transformer, visual, "image"),
        }
        for attribute, (encoder, make, name) in encoders.items():
            adapters = nn.ModuleDict()
            for number, block in adapted_blocks(encoder, blocks, key, name):
                adapters[str(number)] = here = nn.ModuleDict()
                if places in ("attention", "both"):
                    here["att_conv"] = make(encoder.width)
                    block.ln_1 = Adapted(block.ln_1, here["att_conv"])
                if places in ("mlp", "both"):
                    here["mlp_conv"] = make(4 * encoder.width)
                    block.mlp.c_fc = Adapted(block.mlp.c_fc, here["mlp_conv"])
            setattr(self, attribute, adapters)
        self.set_scale(scale)

    def adapters(self) -> list[ScaledAdapter]:
        """Those of both encoders."""
        return [module for module in self.modules() if isinstance(module, ScaledAdapter)]

    def set_scale(self, scale: float) -> None:
        """Gives all adapters one scale; 0 is CLIP."""
        for adapter in self.adapters():
            adapter.scale = scale

    @contextmanager
    def drawn_scales(self) -> Iterator[None]:
        """Slow-fast: inside, each block of each encoder has s * factor with probability 1 - ratio, else s."""
        with kept_scales(self.adapters()):
            for blocks in (self.text_adapter, self.visual_adapter):
                for block in blocks.values():
                    fast = torch.rand(1).item() > self.slow_fast_ratio
                    for adapter in block.values():
                        adapter.scale = self.fast_scale if fast else self.base_scale
            yield
