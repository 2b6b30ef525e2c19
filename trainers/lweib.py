"""LwEIB: depthwise convolutions as adapters (IJCV 2025) on a frozen CLIP ViT.

Each adapted block of both encoders gets two, on the input of its attention (width D) and on the hidden layer
of its MLP (4D), where HeBA has its own:

    A(x) = x + s * Conv(x)

Conv is 3x3 on the grid of image tokens (the class token passes by) and of width 3 along the text, one token
back and one ahead; depthwise, without bias, norm or activation. At ViT-B/16 506,880 weights are trained.
Agrees with trainers/lweib.py and clip/model.py of VLM-LwEIB at af61e13.

Symbols: B images or prompts, N tokens, L length of a text, d width of an adapter, s scale.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode

from adapt.attach import (
    GridAdapter,
    ScaledAdapter,
    SlowFastLearner,
    from_grid,
    scale_gradient,
    scale_output,
    to_grid,
)
from adapt.method import Batch, Method
from adapt.model import CustomCLIP
from adapt.prompts import ClassPrompts, described_prompts
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.clip_trainer import ClipTrainer


def extend_cfg(cfg: CfgNode) -> None:
    """Declares LwEIB's options with the values of the published base2new configuration."""
    cfg.TRAINER.LWEIB = CfgNode()
    options = cfg.TRAINER.LWEIB
    options.PREC = "auto"  # auto, fp32, fp16 (CLIP stored in half), amp (float16 autocast), bf16
    options.TEXT_CTX_INIT = "a photo of a"  # words before the class name
    options.DESCRIPTIONS = ""  # JSON {class: [sentence, …]}; "": <data root>/descriptions/<dataset>.json
    options.TEMPLATES = ()  # if given, these prompts ("a photo of a {}.", …) instead of descriptions
    options.ADAPTER_START = 1  # first adapted block, from 1
    options.ADAPTER_END = 12  # last adapted block; -1: each encoder's last
    options.ADAPTER_SCALE = 0.025  # s
    options.ADAPTER_SCALE_FACTOR = 2.5  # fast steps use s times this
    options.SLOW_FAST_RATIO = 0.8  # probability of a slow step, drawn for each block and encoder
    options.NEG_SAMPLING_RATIO = 7  # negative classes for each class of a batch; -1: all classes


class ConvAdapter(ScaledAdapter):
    """``A`` above, under the published gradient rule: weights learn as if s were 1."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        """Returns ``Conv(x)``."""
        raise NotImplementedError

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        return x + scale_output(self.convolve(scale_gradient(x, self.scale)), self.scale)


class TextConv(ConvAdapter):
    """Along texts ``(B, L, d)``; packed ones ``(T, d)`` are refused, neighbours would be of other texts."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Conv1d(width, width, 3, padding=1, groups=width, bias=False))

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 3:
            raise ValueError("LwEIB looks across tokens: give texts as a (B, L) tensor, not packed")
        return self.conv(x.transpose(1, 2)).transpose(1, 2)


class ImageConv(GridAdapter, ConvAdapter):
    """On the grid of image tokens."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False))

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        return from_grid(self.conv(to_grid(x)))


class DepthwiseAdapters(Method):
    """Trains the adapters by cross entropy over the classes of each step."""

    extend_cfg = staticmethod(extend_cfg)
    options_name = "LWEIB"
    adapts_vit = True
    scale_key = "ADAPTER_SCALE"
    limits = {
        "ADAPTER_SCALE": (0, math.inf),
        "ADAPTER_SCALE_FACTOR": (0, math.inf),
        "SLOW_FAST_RATIO": (0, 1),
        "NEG_SAMPLING_RATIO": (-1, math.inf),
    }

    @property
    def negatives(self) -> int:
        return self.options.NEG_SAMPLING_RATIO

    def prompts(self, classnames: Sequence[str]) -> list[list[str]]:
        options = self.options
        return described_prompts(classnames, self.texts, options, self.key, options.TEXT_CTX_INIT)

    def attach_adapters(self, clip_model: CLIP, prompts: ClassPrompts) -> SlowFastLearner:
        """Each adapter looks one token ahead, twice a block: no token further on can change a feature."""
        scale = self.options.ADAPTER_SCALE
        learner = SlowFastLearner(clip_model, TextConv, ImageConv, self.options, scale, self.key)
        prompts.lookahead = 2 * len(learner.text_adapter)
        return learner

    def loss(self, model: CustomCLIP, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor | int]]:
        with model.adapter_learner.drawn_scales():
            logits = model(batch.image, batch.tokens)
        return F.cross_entropy(logits, batch.target), {"n_cls": logits.shape[1]}


@TRAINER_REGISTRY.register()
class LwEIB(ClipTrainer):
    """``--trainer LwEIB``."""

    method = DepthwiseAdapters
