"""Variants of HeBA's adapter that only ablations need; with the default options nothing here is used."""

import torch
from torch import nn
from yacs.config import CfgNode

from adapt.attach import GridAdapter
from trainers.heba import Bottleneck, HeterogeneousBottlenecks, TextBottleneck, VisualBottleneck

# The first choice of each is the published one.
CHOICES = {
    "VISUAL_STREAM": ("conv", "dense"),
    "NORM": ("residual", "update", "none"),
    "INIT": ("kaiming", "zero", "default"),
    "GRADIENT_RULE": ("published", "exact"),
}


def extend_cfg(cfg: CfgNode) -> None:
    """Declares HeBA's options that only ablations set; the defaults are the published adapter."""
    options = cfg.TRAINER.HeBA
    options.VISUAL_STREAM = "conv"  # conv; dense: the text adapter on image tokens too
    options.NORM = "residual"  # residual: LN(x + u) as published; update: LN(u); none: u alone
    options.INIT = "kaiming"  # up projection: kaiming (He normal, fan-out), zero, default (PyTorch's)
    options.GRADIENT_RULE = "published"  # published: weights learn as if s were 1; exact: they do not


class Variant(Bottleneck):
    """What ``NORM`` and ``GRADIENT_RULE`` change, with u = update(x).

    residual: x + s LN(x + u), which is not the identity even where u = 0. update: x + s LN(u), and
    none: x + s u, are: with them zero initialisation starts from CLIP itself.
    """

    norm_place = "residual"
    exact_gradient = False

    def bottleneck(self, x: torch.Tensor) -> torch.Tensor:
        u = self.update(x)
        return self.norm(x + u if self.norm_place == "residual" else u)

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.scale * self.bottleneck(x) if self.exact_gradient else super().compute(x)


class TextVariant(Variant, TextBottleneck):
    """The text adapter, varied."""


class ConvVariant(VisualBottleneck, Variant):
    """The convolutional image adapter, varied."""


class DenseVariant(GridAdapter, Variant, TextBottleneck):
    """The dense adapter on image tokens."""


@HeterogeneousBottlenecks.variant
class Ablation(HeterogeneousBottlenecks):
    """HeBA with other values of the options above."""

    extend_cfg = staticmethod(extend_cfg)
    choices = HeterogeneousBottlenecks.choices | CHOICES

    def text_adapter(self, width: int) -> Variant:
        return self.vary(TextVariant(width, self.hidden(width)))

    def visual_adapter(self, width: int) -> Variant:
        if self.options.VISUAL_STREAM == "dense":
            return self.vary(DenseVariant(width, self.hidden(width)))
        return self.vary(ConvVariant(width, self.hidden(width), self.options.KERNEL))

    def vary(self, adapter: Variant) -> Variant:
        """Gives an adapter the norm, the initialisation and the gradient rule of the options."""
        adapter.norm_place = self.options.NORM
        adapter.exact_gradient = self.options.GRADIENT_RULE == "exact"
        if self.options.NORM == "none":
            adapter.norm = nn.Identity()
        if self.options.INIT == "zero":
            nn.init.zeros_(adapter.up.weight)
        elif self.options.INIT == "default":
            adapter.up.reset_parameters()
        return adapter
