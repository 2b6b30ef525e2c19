"""RMAdapter: adapters that also reconstruct what they see (AAAI-26, arXiv 2512.06811) on a frozen CLIP ViT.

Beside each of the upper blocks of both encoders stands an adapter of two branches that share a projection:

    h = GELU(W_down x + b_down)                                            (8)   D -> r
    x <- block(x) + s (W_up h + b_up)                                      (9), (14), (15)
    R(x) = W_2 GELU(W_1 h + b_1) + b_2                                     (10)  r -> r -> D
    loss = cross entropy                                                   (16)
         + lambda1 sum |x - R(x)|^2 over the blocks of the image encoder   (11)
         + lambda2 sum |x - R(x)|^2 over the blocks of the text encoder    (12)
         + lambda3 |f - f*| + lambda4 |t - t*|                             (17)

f and t are image and class features of length 1, f* and t* those of CLIP without adapters; R takes no part in
the output. There is no public code, and the paper's body states hardly any value: docs/FIDELITY.md says where
each comes from. At ViT-B/16 the adapters have 1,020,928 weights, 354,816 of them in the second branch.

Symbols: B images or prompts, N tokens, D width of an encoder or of the features, C classes.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode

from adapt.attach import adapted_blocks, at_scale, scale_gradient, scale_output
from adapt.blocks import ParallelAdapter
from adapt.method import Batch, Method, accuracy
from adapt.model import CustomCLIP
from adapt.prompts import ClassPrompts
from clip.layout import Layout
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.clip_trainer import ClipTrainer


def extend_cfg(cfg: CfgNode) -> None:
    """Declares the options; (MMA), (PromptSRC): not in the paper's body, taken from work that it follows."""
    cfg.TRAINER.RMADAPTER = CfgNode()
    options = cfg.TRAINER.RMADAPTER
    options.PREC = "auto"  # auto, fp32, fp16 (CLIP stored in half), amp (float16 autocast), bf16
    options.TEXT_CTX_INIT = "a photo of a"  # words before the class name (MMA)
    options.ADAPTER_START = 5  # first adapted block, from 1 (MMA)
    options.ADAPTER_END = 12  # last adapted block; -1: each encoder's last (MMA)
    options.ADAPTER_DIM = 32  # r (MMA); with 8 blocks it fits the stated 320 K weights of the second branch
    options.ADAPTER_SCALE = 0.001  # s, the paper's alpha (MMA); 0 is CLIP
    options.LAMBDA1 = 1.0  # image tokens' reconstruction; 0: without that branch (an assumption)
    options.LAMBDA2 = 1.0  # text tokens' reconstruction; 0: without that branch (an assumption)
    options.LAMBDA3 = 10.0  # distance of image features from CLIP's (PromptSRC)
    options.LAMBDA4 = 25.0  # distance of class features from CLIP's (PromptSRC)
    options.CON_REDUCTION = "mean"  # of that distance over D (PromptSRC); sum: as eq. (17) is printed
    # rmadapter_ablations.py declares what only ablations set.


class DualAdapter(nn.Module):
    """The two branches for tokens ``(..., D)``.

    Args:
        width: D.
        options: below ``TRAINER.RMADAPTER``.
        rec_weight: lambda of the reconstruction; 0: there is no second branch.

    Attributes:
        scale: s.
        recording: whether a pass leaves its loss, inside ``DualAdapterLearner.record_losses``.
        loss: weighted loss of the last reconstruction, until ``DualAdapterLearner.pop_loss`` takes it.
    """

    def __init__(self, width: int, options: Any, rec_weight: float) -> None:
        super().__init__()
        rank = options.ADAPTER_DIM
        self.scale = options.ADAPTER_SCALE
        self.rec_weight = rec_weight
        self.recording = False
        self.loss: torch.Tensor | None = None
        self.down = nn.Linear(width, rank)
        self.up = nn.Linear(rank, width)
        if rec_weight:
            self.rec_mid = nn.Sequential(nn.Linear(rank, rank), nn.GELU())
            self.rec_up = nn.Linear(rank, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """MMA's initial values: He normal over outputs, zero biases."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What is added to the block's output, under MMA's gradient rule."""
        hidden = F.gelu(self.down(scale_gradient(x, self.scale)))
        return scale_output(self.up(hidden), self.scale)

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """R(x); computes h anew, because the gradient to ``x`` is another one than in ``forward``."""
        return self.rec_up(self.rec_mid(F.gelu(self.down(x))))

    def reconstruction_loss(self, x: torch.Tensor) -> torch.Tensor:
        """|x - R(x)|^2, a mean over tokens and D; only this adapter learns from it."""
        x = x.detach()
        return F.mse_loss(self.reconstruct(x).float(), x.float())

    def record_loss(self, x: torch.Tensor) -> None:
        """Stores the loss inside ``record_losses``; not in passes without adapters or gradients."""
        if self.recording and self.rec_weight and self.scale and torch.is_grad_enabled():
            self.loss = self.rec_weight * self.reconstruction_loss(x)


class DualBlock(ParallelAdapter):
    """A frozen block and the adapter beside it, which also reconstructs what it sees."""

    def forward(self, x: torch.Tensor, layout: Layout | None = None, last: bool = False) -> torch.Tensor:
        """The last block computes few tokens; all that enter it are reconstructed."""
        self.adapter.record_loss(self.norm(x))
        return super().forward(x, layout, last)


class DualAdapterLearner(nn.Module):
    """The adapters of both encoders, ``visual_adapter.5.down.weight``; blocks from 1.

    Args:
        clip_model: gets them.
        options: ``LAMBDA1`` and ``LAMBDA2``, and those of ``adapted_blocks``.
        make: wraps a block, given the width of its encoder and its lambda, as ``make_block``.
        key: of the options, for messages.
    """

    def __init__(
        self, clip_model: CLIP, options: Any, make: Callable[[nn.Module, int, float], DualBlock], key: str
    ) -> None:
        super().__init__()
        self.text_adapter, self.visual_adapter = nn.ModuleDict(), nn.ModuleDict()
        adapters = {"text": self.text_adapter, "visual": self.visual_adapter}
        weights = {"text": options.LAMBDA2, "visual": options.LAMBDA1}
        for name, encoder, number in adapted_blocks(clip_model, options, key):
            wrapped = make(encoder.resblocks[number - 1], encoder.width, weights[name])
            encoder.resblocks[number - 1] = wrapped
            adapters[name][str(number)] = wrapped.adapter

    def adapters(self) -> list[DualAdapter]:
        """Those of both encoders."""
        return [*self.visual_adapter.values(), *self.text_adapter.values()]

    @contextmanager
    def record_losses(self) -> Iterator[None]:
        """Inside, each pass leaves its reconstruction losses until ``pop_loss``, at most until the end."""
        for adapter in self.adapters():
            adapter.recording = True
        try:
            yield
        finally:
            for adapter in self.adapters():
                adapter.recording, adapter.loss = False, None

    def pop_loss(self) -> torch.Tensor:
        """Returns the weighted sum of all reconstruction losses that a pass recorded, and forgets them."""
        losses = [adapter.loss for adapter in self.adapters() if adapter.rec_weight]
        for adapter in self.adapters():
            adapter.loss = None
        return torch.stack(losses).sum() if losses else torch.zeros(())


class ReconstructingAdapters(Method):
    """Trains the adapters by cross entropy, reconstruction, and consistency with CLIP's features."""

    extend_cfg = staticmethod(extend_cfg)
    options_name = "RMADAPTER"
    adapts_vit = True
    scale_key = "ADAPTER_SCALE"
    limits = {
        "ADAPTER_DIM": (1, math.inf),
        "ADAPTER_SCALE": (0, math.inf),
        "LAMBDA1": (0, math.inf),
        "LAMBDA2": (0, math.inf),
        "LAMBDA3": (0, math.inf),
        "LAMBDA4": (0, math.inf),
    }
    choices = {"CON_REDUCTION": ("mean", "sum")}

    def template(self) -> str:
        return self.texts.template if self.texts.is_own else f"{self.options.TEXT_CTX_INIT} {{}}."

    def make_block(self, block: nn.Module, width: int, rec_weight: float) -> DualBlock:
        """A block of an encoder of this width with the adapter beside it; ``rec_weight`` is its lambda."""
        return DualBlock(block, DualAdapter(width, self.options, rec_weight))

    def attach_adapters(self, clip_model: CLIP, prompts: ClassPrompts) -> DualAdapterLearner:
        return DualAdapterLearner(clip_model, self.options, self.make_block, self.key)

    def before_training(self, model: CustomCLIP) -> None:
        with at_scale(model.adapter_learner.adapters(), 0):
            self.frozen_texts = model.text_features()  # t* (C, D), once for all steps: the prompts are fixed

    def loss_terms(self, model: CustomCLIP, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """One step's ``(B, C)`` logits, and the three terms of its loss by name; all classes take part."""
        options, learner = self.options, model.adapter_learner
        with learner.record_losses():
            features, texts = model.encode_image(batch.image), model.encode_text(batch.tokens)
            reconstruction = learner.pop_loss().to(features.device)
        logits = model.compare(features, texts)
        consistency = options.LAMBDA4 * self.distance(texts, self.frozen_texts)
        if options.LAMBDA3:
            with at_scale(learner.adapters(), 0):
                frozen = model.encode_image(batch.image)
            consistency = consistency + options.LAMBDA3 * self.distance(features, frozen)
        return logits, {
            "ce": F.cross_entropy(logits, batch.target),
            "con": consistency,
            "rec": reconstruction,
        }

    def distance(self, features: torch.Tensor, frozen: torch.Tensor) -> torch.Tensor:
        """L1 distance of ``(B, D)`` features, a mean over B."""
        return F.l1_loss(features, frozen) * (
            features.shape[-1] if self.options.CON_REDUCTION == "sum" else 1
        )

    def loss(self, model: CustomCLIP, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor | int]]:
        logits, terms = self.loss_terms(model, batch)
        shown = {f"loss_{name}": term.detach() for name, term in terms.items()}
        return torch.stack(list(terms.values())).sum(), shown | {"acc": accuracy(logits, batch.target)}


@TRAINER_REGISTRY.register()
class RMAdapter(ClipTrainer):
    """``--trainer RMAdapter``."""

    method = ReconstructingAdapters
