"""HeBA: Heterogeneous Bottleneck Adapters (arXiv 2603.16653) on a frozen CLIP ViT.

Each adapted block of both encoders gets two adapters, one on the input of its attention and one on the hidden
layer of its MLP:

    x <- x + MSA(A(LN1(x)))                             width d = D
    x <- x + c_proj(QuickGELU(A(c_fc(LN2(x)))))         width d = 4D
    A(x) = x + s * LN(x + W_up GELU(M(W_down x)))       W_down: d -> d/4, W_up: d/4 -> d

M is a 3x3 depthwise convolution on the grid of image tokens (the class token passes by) and nothing on text
tokens. This is what the published code computes (trainers/heba.py and clip/model.py of VLM-HeBA at 60ecf23).
At ViT-B/16 the adapters have 87.2 M weights (LwEIB: 0.5 M): "bottleneck" is their shape, not their cost.

Symbols: B images or prompts, N tokens, d width of an adapter, h = d / 4, s scale of the adapters.
"""

import logging
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode

from adapt.attach import scale_gradient, scale_output, unreached
from adapt.slow_fast import ScaledAdapter, SlowFastLearner, SlowFastTrainer
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.heba_fused import FusedBottleneck

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
    # The published adapter. Other values are for ablations; heba_ablations.py has them.
    options.ADAPTER_PLACES = "both"  # attention, mlp, both
    options.REDUCTION = 4.0  # h = d / REDUCTION; below 1 the adapter expands
    options.KERNEL = 3  # side of the depthwise convolution, odd
    options.VISUAL_STREAM = "conv"  # conv; dense: the text adapter on image tokens too
    options.NORM = "residual"  # residual: LN(x + u) as published; update: LN(u); none: u alone
    options.INIT = "kaiming"  # up projection: kaiming (He normal, fan-out), zero, default (PyTorch's)
    options.GRADIENT_RULE = "published"  # published: weights learn as if s were 1; exact: they do not


class Bottleneck(ScaledAdapter):
    """The adapter ``A`` above for tokens ``(B, N, d)``; subclasses say what the projections are."""

    def __init__(self, down: nn.Module, mid: nn.Module, up: nn.Module, width: int) -> None:
        super().__init__()
        self.down = down
        self.mid = mid
        self.up = up
        self.norm = nn.LayerNorm(width)
        # He initialisation of the up projection alone, std sqrt(2 / d); the others keep PyTorch's.
        nn.init.kaiming_normal_(up.weight, mode="fan_out", nonlinearity="relu")

    def update(self, x: torch.Tensor) -> torch.Tensor:
        """``W_up GELU(M(W_down x))``."""
        raise NotImplementedError

    def block(self, x: torch.Tensor) -> torch.Tensor:
        """``LN(x + update(x))``."""
        return self.norm(x + self.update(x))

    def scaled_block(self, x: torch.Tensor) -> torch.Tensor:
        """``s * block(x)`` under the published gradient rule."""
        return scale_output(self.block(scale_gradient(x, self.scale)), self.scale)

    def plain(self, x: torch.Tensor) -> torch.Tensor:
        """``x + s * block(x)``, as it stands in the paper."""
        return x + self.scaled_block(x)

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        """What ``plain`` gives, in the dtype of ``x`` and in fewer passes over memory."""
        down, mid, up = (
            self.down.weight.flatten(1),
            getattr(self.mid, "weight", None),
            self.up.weight.flatten(1),
        )
        weights = (down, mid, up, self.norm.weight, self.norm.bias)
        weights = (None if weight is None else weight.to(x.dtype) for weight in weights)
        with torch.autocast(x.device.type, enabled=False):
            return FusedBottleneck.apply(x, *weights, self.norm.eps, self.scale)


class TextBottleneck(Bottleneck):
    """Dense bottleneck on each text token."""

    def __init__(self, width: int, hidden: int, kernel: int) -> None:
        down, up = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)
        super().__init__(down, nn.Identity(), up, width)

    def update(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(F.gelu(self.down(x)))


class VisualBottleneck(Bottleneck):
    """Depthwise-separable convolutional bottleneck on the grid of image tokens; the class token passes by."""

    def __init__(self, width: int, hidden: int, kernel: int) -> None:
        down, up = nn.Conv2d(width, hidden, 1, bias=False), nn.Conv2d(hidden, width, 1, bias=False)
        mid = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=False)
        super().__init__(down, mid, up, width)

    def update(self, x: torch.Tensor) -> torch.Tensor:
        B, N, _ = x.shape
        side = math.isqrt(N)
        z = F.linear(x, self.down.weight.flatten(1))  # a 1x1 convolution is a linear map on tokens
        z = z.view(B, side, side, -1).permute(0, 3, 1, 2)  # (B, h, side, side), a channels-last view
        z = self.mid(z).permute(0, 2, 3, 1).reshape(B, N, -1)
        return F.linear(F.gelu(z), self.up.weight.flatten(1))

    def plain(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, :1], super().plain(x[:, 1:])], dim=1)

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] == 1:  # the class token alone, in the last block
            return unreached(x, *self.parameters())
        return super().compute(x)


class AdapterLearner(SlowFastLearner):
    """All adapters of HeBA and their scales."""

    def __init__(self, options: CfgNode, clip_model: CLIP) -> None:
        from trainers.heba_ablations import adapter_kinds  # which imports this file

        kinds = adapter_kinds(options)  # the two classes above, unless an ablation is asked for
        text, visual = (partial(make_adapter, kind, options) for kind in kinds)
        blocks = (options.ADAPTER_START, options.ADAPTER_END)
        super().__init__(clip_model, text, visual, blocks, "TRAINER.HeBA", options.ADAPTER_PLACES)
        self.base_scale = (
            options.ADAPTER_SCALE_BASE if options.ADAPTER_SCALE is None else options.ADAPTER_SCALE
        )
        self.novel_scale = options.ADAPTER_SCALE_NOVEL
        self.fast_scale = self.base_scale * options.ADAPTER_SCALE_FACTOR
        self.slow_fast_ratio = options.SLOW_FAST_RATIO
        self.eval_scale = self.base_scale
        self.eval()


def make_adapter(kind: Callable[..., Bottleneck], options: CfgNode, width: int) -> Bottleneck:
    """One adapter of a width."""
    if width < options.REDUCTION:
        raise ValueError(f"TRAINER.HeBA.REDUCTION is {options.REDUCTION}; set it to at most {width}")
    return kind(width, int(width / options.REDUCTION), options.KERNEL)


@TRAINER_REGISTRY.register()
class HeBA(SlowFastTrainer):
    """Trains the adapters by label-smoothed cross entropy over the classes of each step."""

    scale_key = "ADAPTER_SCALE_BASE"

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        if self.options.NOVEL_RESULT_SCALE not in ("novel", "base"):
            raise ValueError(
                f'TRAINER.HeBA.NOVEL_RESULT_SCALE is "{self.options.NOVEL_RESULT_SCALE}"; set it to novel '
                "or base"
            )

    def build_adapters(self, clip_model: CLIP) -> AdapterLearner:
        return AdapterLearner(self.options, clip_model)

    def test(self, split: str | None = None) -> float:
        """Evaluates at the base scale; novel classes at both scales if they differ, the result's own last."""
        learner = self.model.adapter_learner
        if self.cfg.DATASET.SUBSAMPLE_CLASSES != "new":
            learner.eval_scale = learner.base_scale
            accuracy = super().test(split)
            self.results["adapter_scale"] = learner.eval_scale
            return accuracy
        scales = {"novel": learner.novel_scale, "base": learner.base_scale}
        chosen = self.options.NOVEL_RESULT_SCALE
        other = next(name for name in scales if name != chosen)
        beside = None
        for name in (other, chosen) if scales[other] != scales[chosen] else (chosen,):
            learner.eval_scale = scales[name]
            logger.info("Novel classes at the %s scale %g", name, scales[name])
            accuracy = super().test(split)
            self.results["adapter_scale"] = scales[name]
            if name == other:
                beside = self.results
        if beside is not None:
            self.results["other"] = {f"{other}_scale": beside}
        return accuracy
