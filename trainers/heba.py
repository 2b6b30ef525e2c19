"""HeBA: Heterogeneous Bottleneck Adapters (arXiv 2603.16653) on a frozen CLIP ViT.

Each adapted block of both encoders gets two adapters, one on the input of its attention and one on the hidden
layer of its MLP:

    x <- x + MSA(A(LN1(x)))                             width d = D
    x <- x + c_proj(QuickGELU(A(c_fc(LN2(x)))))         width d = 4D
    A(x) = x + s * LN(x + W_up GELU(M(W_down x)))       W_down: d -> d/4, W_up: d/4 -> d

M is a 3x3 depthwise convolution on the grid of image tokens (the class token passes by) and nothing on text
tokens. This is what the published code computes (VLM-HeBA at 60ecf23: trainers/heba.py and clip/model.py).
At ViT-B/16 the adapters have 87.2 M weights (LwEIB: 0.5 M): "bottleneck" is their shape, not their cost.

Symbols: B images, P prompts, T tokens of all prompts, N tokens of an image's grid, d width of an adapter,
h = d / 4, s scale of the adapters. What an adapter sees: images ``(B, 1 + N, d)``, the class token first;
texts without padding ``(T, d)``. The MLP of the last block computes the pooled tokens alone: ``(B, 1, d)``,
``(P, 1, d)``.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

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
from adapt.options import check_number
from adapt.prompts import ClassPrompts, described_prompts
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.clip_trainer import ClipTrainer

logger = logging.getLogger(__name__)


def extend_cfg(cfg: CfgNode) -> None:
    """Declares HeBA's options with the values of the published base2new.yaml."""
    cfg.TRAINER.HeBA = CfgNode()
    options = cfg.TRAINER.HeBA
    options.PREC = "auto"  # auto, fp32, fp16 (CLIP stored in half), amp (float16 autocast), bf16
    options.TEXT_CTX_INIT = "a photo of a"  # words before the class name
    options.DESCRIPTIONS = ""  # JSON {class: [sentence, …]}; "": <data root>/descriptions/<dataset>.json
    options.TEMPLATES = ()  # if given, these prompts ("a photo of a {}.", …) instead of descriptions
    options.ADAPTER_START = 1  # first adapted block, from 1
    options.ADAPTER_END = 12  # last adapted block; -1: each encoder's last
    options.ADAPTER_SCALE_BASE = 0.025  # s in training and when base or all classes are evaluated
    options.ADAPTER_SCALE_NOVEL = 0.010  # s when novel classes are evaluated (DATASET.SUBSAMPLE_CLASSES new)
    options.ADAPTER_SCALE = None  # if given, sets ADAPTER_SCALE_BASE: its name in the published x2d.yaml
    options.NOVEL_RESULT_SCALE = "novel"  # which scale gives the result on novel classes: novel or base
    options.ADAPTER_SCALE_FACTOR = 2.25  # fast steps use s times this
    options.SLOW_FAST_RATIO = 0.8  # probability of a slow step, drawn for each block and encoder
    options.NEG_SAMPLING_RATIO = 5  # negative classes for each class of a batch; -1: all classes
    options.LABEL_SMOOTHING = 0.1  # epsilon, over the classes of the step
    options.ADAPTER_PLACES = "both"  # attention, mlp, both
    options.REDUCTION = 4.0  # h = d / REDUCTION; below 1 the adapter expands
    options.KERNEL = 3  # side of the depthwise convolution, odd
    # heba_ablations.py declares what only ablations set.


class Bottleneck(ScaledAdapter):
    """The adapter ``A`` above, tokens to tokens of the same shape; subclasses have the projections."""

    def __init__(self, down: nn.Module, mid: nn.Module, up: nn.Module, width: int) -> None:
        super().__init__()
        self.down = down
        self.mid = mid
        self.up = up
        self.norm = nn.LayerNorm(width)
        # He initialisation of the up projection alone, std sqrt(2 / d); the others keep PyTorch's.
        nn.init.kaiming_normal_(up.weight, mode="fan_out", nonlinearity="relu")

    def update(self, x: torch.Tensor) -> torch.Tensor:
        """Returns ``W_up GELU(M(W_down x))``."""
        raise NotImplementedError

    def bottleneck(self, x: torch.Tensor) -> torch.Tensor:
        """Returns ``LN(x + update(x))``."""
        return self.norm(x + self.update(x))

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        """Returns ``A(x)`` under the published gradient rule: weights learn as if s were 1."""
        return x + scale_output(self.bottleneck(scale_gradient(x, self.scale)), self.scale)


class TextBottleneck(Bottleneck):
    """Dense bottleneck on each text token."""

    def __init__(self, width: int, hidden: int) -> None:
        down, up = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)
        super().__init__(down, nn.Identity(), up, width)

    def update(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(F.gelu(self.down(x)))


class VisualBottleneck(GridAdapter, Bottleneck):
    """Depthwise-separable convolutional bottleneck on the grid of image tokens."""

    def __init__(self, width: int, hidden: int, kernel: int) -> None:
        down, up = nn.Conv2d(width, hidden, 1, bias=False), nn.Conv2d(hidden, width, 1, bias=False)
        mid = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=False)
        super().__init__(down, mid, up, width)

    def update(self, x: torch.Tensor) -> torch.Tensor:
        z = to_grid(F.linear(x, self.down.weight.flatten(1)))  # a 1x1 convolution is a linear map on tokens
        return F.linear(F.gelu(from_grid(self.mid(z))), self.up.weight.flatten(1))


class HeterogeneousBottlenecks(Method):
    """Trains the adapters by label-smoothed cross entropy over the classes of each step."""

    extend_cfg = staticmethod(extend_cfg)
    options_name = "HeBA"
    adapts_vit = True
    limits = {
        "ADAPTER_SCALE_BASE": (0, math.inf),
        "ADAPTER_SCALE_NOVEL": (0, math.inf),
        "ADAPTER_SCALE_FACTOR": (0, math.inf),
        "SLOW_FAST_RATIO": (0, 1),
        "NEG_SAMPLING_RATIO": (-1, math.inf),
        "LABEL_SMOOTHING": (0, 1),
    }
    choices = {"NOVEL_RESULT_SCALE": ("novel", "base"), "ADAPTER_PLACES": ("both", "attention", "mlp")}

    def check_options(self) -> None:
        super().check_options()
        options, key = self.options, self.key
        check_number(self.scale, f"{key}.{self.scale_key}")
        if not options.REDUCTION > 0:  # NaN neither
            raise ValueError(f"{key}.REDUCTION is {options.REDUCTION}; set it above 0")
        if options.KERNEL < 1 or options.KERNEL % 2 == 0:
            raise ValueError(f"{key}.KERNEL is {options.KERNEL}; set it to an odd number")

    @property
    def negatives(self) -> int:
        return self.options.NEG_SAMPLING_RATIO

    @property
    def scale_key(self) -> str:
        return "ADAPTER_SCALE_BASE" if self.options.ADAPTER_SCALE is None else "ADAPTER_SCALE"

    @property
    def scale(self) -> float:
        """s in training, and where base or all classes are evaluated."""
        base, given = self.options.ADAPTER_SCALE_BASE, self.options.ADAPTER_SCALE
        return base if given is None else given

    def prompts(self, classnames: Sequence[str]) -> list[list[str]]:
        options = self.options
        return described_prompts(classnames, self.texts, options, self.key, options.TEXT_CTX_INIT)

    def text_adapter(self, width: int) -> Bottleneck:
        """An adapter of text tokens."""
        return TextBottleneck(width, self.hidden(width))

    def visual_adapter(self, width: int) -> Bottleneck:
        """An adapter of image tokens."""
        return VisualBottleneck(width, self.hidden(width), self.options.KERNEL)

    def hidden(self, width: int) -> int:
        """Returns h of an adapter of width d."""
        if width < self.options.REDUCTION:
            raise ValueError(f"{self.key}.REDUCTION is {self.options.REDUCTION}; set it to at most {width}")
        return int(width / self.options.REDUCTION)

    def attach_adapters(self, clip_model: CLIP, prompts: ClassPrompts) -> SlowFastLearner:
        options = self.options
        return SlowFastLearner(
            clip_model,
            self.text_adapter,
            self.visual_adapter,
            options,
            self.scale,
            self.key,
            options.ADAPTER_PLACES,
        )

    def loss(self, model: CustomCLIP, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor | int]]:
        with model.adapter_learner.drawn_scales():  # the backward pass has kept them
            logits = model(batch.image, batch.tokens)
        smoothing = self.options.LABEL_SMOOTHING
        loss = F.cross_entropy(logits, batch.target, label_smoothing=smoothing)
        return loss, {"n_cls": logits.shape[1]}

    def evaluations(self, model: CustomCLIP, novel: bool) -> Iterator[tuple[str, dict[str, Any]]]:
        """At the base scale; novel classes at both scales if they differ, the one that counts last."""
        learner = model.adapter_learner
        scales = {"base": learner.base_scale}
        if novel:
            scales["novel"] = self.options.ADAPTER_SCALE_NOVEL
            chosen = self.options.NOVEL_RESULT_SCALE
            other = "base" if chosen == "novel" else "novel"
            names = (other, chosen) if scales[other] != scales[chosen] else (chosen,)
        else:
            names = ("base",)
        try:
            for name in names:
                learner.set_scale(scales[name])
                if novel:
                    logger.info("Novel classes at the %s scale %g", name, scales[name])
                yield f"{name}_scale", {"adapter_scale": scales[name]}
        finally:
            learner.set_scale(learner.base_scale)


@TRAINER_REGISTRY.register()
class HeBA(ClipTrainer):
    """``--trainer HeBA``."""

    method = HeterogeneousBottlenecks
