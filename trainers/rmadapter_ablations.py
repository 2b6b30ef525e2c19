"""Variants of RMAdapter that only ablations need; with the default options nothing here is used."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode

from adapt.blocks import ParallelAdapter
from clip.layout import Layout
from trainers.rmadapter import DualAdapter, DualBlock, ReconstructingAdapters

# The first choice of each is the default.
CHOICES = {
    "SHARING": ("down", "up", "none"),
    "REC_LAYERS": (2, 1, 3),
    "REC_LOSS": ("l2", "l1", "cosine"),
    "REC_REDUCTION": ("mean", "sum"),
    "REC_TARGET": ("input", "output"),
    "REC_LOCAL": (True, False),
    "ADAPTER_INPUT": ("block", "ln_1"),
    "GRADIENT_RULE": ("mma", "exact"),
}
VARY_THE_ADAPTER = ("SHARING", "REC_LAYERS", "REC_LOSS", "REC_REDUCTION", "REC_LOCAL", "GRADIENT_RULE")


def extend_cfg(cfg: CfgNode) -> None:
    """Declares RMAdapter's options that only ablations set."""
    options = cfg.TRAINER.RMADAPTER
    options.SHARING = "down"  # which projection both branches share: down; up, none: table 5
    options.REC_LAYERS = 2  # linear maps of R behind h; 1, 3: table 6
    options.REC_LOSS = "l2"  # squared distance; l1, cosine: what the paper also tried
    options.REC_REDUCTION = "mean"  # over D (an assumption); sum: as eq. (11), (12) are printed
    options.REC_TARGET = "input"  # of the adapter (figure 2); output: of the block (eq. 11, 12)
    options.REC_LOCAL = True  # reconstructing teaches the block's own adapter alone; False: those below too
    options.ADAPTER_INPUT = "block"  # what enters the block (eq. 14, 15); ln_1: its LN1, as in MMA
    options.GRADIENT_RULE = "mma"  # mma: weights learn from the output as if s were 1; exact: they do not


class VariedAdapter(DualAdapter):
    """What ``VARY_THE_ADAPTER`` changes.

    With ``SHARING up`` the shared weights go by two names in a state dict, ``up`` and ``rec_up``.
    """

    def __init__(self, width: int, options: Any, rec_weight: float) -> None:
        super().__init__(width, options, rec_weight)
        self.options = options
        if not rec_weight:
            return
        rank = options.ADAPTER_DIM
        layers = [(nn.Linear(rank, rank), nn.GELU()) for _ in range(options.REC_LAYERS - 1)]
        self.rec_mid = nn.Sequential(*(part for layer in layers for part in layer))
        self.rec_down = self.down if options.SHARING == "down" else nn.Linear(width, rank)
        if options.SHARING == "up":
            self.rec_up = self.up
        self.reset_parameters()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.options.GRADIENT_RULE == "exact":
            return self.scale * self.up(F.gelu(self.down(x)))
        return super().forward(x)

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        return self.rec_up(self.rec_mid(F.gelu(self.rec_down(x))))

    def reconstruction_loss(self, x: torch.Tensor) -> torch.Tensor:
        """What the reconstruction misses, a mean over tokens."""
        if self.options.REC_LOCAL:
            x = x.detach()
        found, x = self.reconstruct(x).float(), x.float()
        if self.options.REC_LOSS == "cosine":
            return (1 - F.cosine_similarity(found, x, dim=-1)).mean()
        loss = F.mse_loss(found, x) if self.options.REC_LOSS == "l2" else F.l1_loss(found, x)
        return loss * x.shape[-1] if self.options.REC_REDUCTION == "sum" else loss


class OutputBlock(DualBlock):
    """The adapter reconstructs the block's output: equations (11), (12) to the letter.

    R then sees the output too, through the down-projection that adapts the input.
    """

    def forward(self, x: torch.Tensor, layout: Layout | None = None, last: bool = False) -> torch.Tensor:
        learns = self.adapter.recording and torch.is_grad_enabled()  # all tokens of the output are needed
        y = ParallelAdapter.forward(self, x, layout, last and not learns)
        if not learns:
            return y
        self.adapter.record_loss(self.norm(y))
        return layout.pooled_tokens(y) if last else y


@ReconstructingAdapters.variant
class Ablation(ReconstructingAdapters):
    """RMAdapter with other values of the options above."""

    extend_cfg = staticmethod(extend_cfg)
    choices = ReconstructingAdapters.choices | CHOICES

    def make_block(self, block: nn.Module, width: int, rec_weight: float) -> DualBlock:
        options = self.options
        varied = any(getattr(options, name) != CHOICES[name][0] for name in VARY_THE_ADAPTER)
        adapter = (VariedAdapter if varied else DualAdapter)(width, options, rec_weight)
        kind = OutputBlock if options.REC_TARGET == "output" else DualBlock
        return kind(block, adapter, block.ln_1 if options.ADAPTER_INPUT == "ln_1" else None)
