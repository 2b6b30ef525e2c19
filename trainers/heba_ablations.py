"""Variants of HeBA's adapter that only ablations need; with the default options nothing here is used."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from yacs.config import CfgNode

from adapt.attach import unreached
from trainers.heba import Bottleneck, TextBottleneck, VisualBottleneck

# The first choice of each is the published one.
CHOICES = {
    "ADAPTER_PLACES": ("both", "attention", "mlp"),
    "VISUAL_STREAM": ("conv", "dense"),
    "NORM": ("residual", "update", "none"),
    "INIT": ("kaiming", "zero", "default"),
    "GRADIENT_RULE": ("published", "exact"),
}


class Variant(Bottleneck):
    """What ``NORM`` and ``GRADIENT_RULE`` change, with u = update(x).

    residual: x + s LN(x + u), which is not the identity even where u = 0. update: x + s LN(u), and
    none: x + s u, are: with them zero initialisation starts from CLIP itself.
    """

    norm_place = "residual"
    exact_gradient = False

    def block(self, x: torch.Tensor) -> torch.Tensor:
        u = self.update(x)
        return self.norm(x + u if self.norm_place == "residual" else u)

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        return unreached(x, *self.parameters()) if self.passes_by(x) else self.plain(x)

    def passes_by(self, x: torch.Tensor) -> bool:
        """Whether ``x`` is nothing but the class token."""
        return isinstance(self, VisualBottleneck | DenseVariant) and x.shape[1] == 1

    def scaled_block(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.block(x) if self.exact_gradient else super().scaled_block(x)


class TextVariant(Variant, TextBottleneck):
    """The text adapter, varied."""


class ConvVariant(Variant, VisualBottleneck):
    """The convolutional image adapter, varied."""


class DenseVariant(Variant, TextBottleneck):
    """The dense adapter on image tokens; the class token passes by as it does in the convolutional one."""

    def plain(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, :1], super().plain(x[:, 1:])], dim=1)


def adapter_kinds(options: CfgNode) -> tuple[Callable[..., Bottleneck], Callable[..., Bottleneck]]:
    """What builds a text and an image adapter from (width, hidden, kernel).

    Raises:
        ValueError: an option is none of its choices.
    """
    for key, choices in CHOICES.items():
        if options[key] not in choices:
            raise ValueError(f'TRAINER.HeBA.{key} is "{options[key]}"; set it to one of {", ".join(choices)}')
    if not options.REDUCTION > 0:  # NaN neither
        raise ValueError(f"TRAINER.HeBA.REDUCTION is {options.REDUCTION}; set it above 0")
    if options.KERNEL < 1 or options.KERNEL % 2 == 0:
        raise ValueError(f"TRAINER.HeBA.KERNEL is {options.KERNEL}; set it to an odd number")
    if all(options[key] == CHOICES[key][0] for key in ("VISUAL_STREAM", "NORM", "INIT", "GRADIENT_RULE")):
        return TextBottleneck, VisualBottleneck
    visual = ConvVariant if options.VISUAL_STREAM == "conv" else DenseVariant
    return partial(varied, TextVariant, options), partial(varied, visual, options)


def varied(kind: type[Variant], options: CfgNode, width: int, hidden: int, kernel: int) -> Variant:
    """One adapter with the norm, the initialisation and the gradient rule of the options."""
    adapter = kind(width, hidden, kernel)
    adapter.norm_place = options.NORM
    adapter.exact_gradient = options.GRADIENT_RULE == "exact"
    if options.NORM == "none":
        adapter.norm = nn.Identity()
    if options.INIT == "zero":
        nn.init.zeros_(adapter.up.weight)
    elif options.INIT == "default":
        adapter.up.reset_parameters()
    return adapter
